"""Reads messages from standard input."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from openmeter_collector.api import (
    ConfigError,
    Delivery,
    EndOfInput,
    Env,
    Example,
    Message,
    Puller,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.inputs.lines import codec_problem, reader_of

LINES = Example(
    "A message a line",
    """
    input:
      stdin: {}
    """,
)


def scanner_codec(scanner: Any, codec: str, where: str) -> str:
    """The codec that a `scanner` field asks for."""
    if scanner is None:
        return codec
    name, options = (
        next(iter(scanner.items())) if isinstance(scanner, dict) and scanner else ("", {})
    )
    if name == "lines":
        between = (options or {}).get("custom_delimiter") or ""
        return f"delim:{between}" if between else "lines"
    if name == "to_the_end":
        return "all-bytes"
    raise ConfigError(f"{where}: there is no scanner {name!r} yet; use lines or to_the_end")


@input("stdin", categories=("Local",), examples=[LINES])
class Stdin:
    """Reads messages from standard input, a line each, until it ends."""

    codec: str = field(
        default="lines",
        doc="Where a message ends: `lines`, `delim:x` at the text x, `all-bytes` at the end.",
        lint=codec_problem,
    )
    scanner: Any = field(
        default=None, doc="The same as a component: `lines: {}` or `to_the_end: {}`."
    )
    auto_replay_nacks: bool = field(
        default=True, doc="Repeat messages that could not be delivered. There is no other way."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller]:
        codec = scanner_codec(self.scanner, self.codec, env.node.path)
        yield _Reader(reader_of(codec)(sys.stdin.buffer))


class _Reader:
    def __init__(self, messages: Iterator[bytes]) -> None:
        self._messages = messages

    async def read(self) -> Delivery:
        # In a thread: whoever writes into the pipe may take their time.
        content = await asyncio.to_thread(next, self._messages, None)
        if content is None:
            raise EndOfInput("standard input has ended")
        return Delivery([Message(content)])

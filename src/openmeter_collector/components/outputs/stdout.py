"""Writes messages to standard output.

A batch is written in one piece and flushed before it counts as delivered; batches never mix.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

from openmeter_collector.api import Batch, Disconnected, Env, Example, Output, field, output

LINES = Example(
    "Print each message on a line of its own",
    """
    output:
      stdout:
        codec: lines
    """,
)
_PLAIN = {"lines": b"\n", "append": b"", "all-bytes": b""}


def check_codec(codec: str) -> str | None:
    """What is wrong with a codec, or None."""
    if codec in _PLAIN or codec.removeprefix("delim:") not in {codec, ""}:
        return None
    return f"{codec!r} is no codec; use lines, append, all-bytes or delim: and what follows each"


@output("stdout", categories=("Local",), examples=[LINES])
class Stdout:
    """Prints messages to standard output, for pipes and for looking at what a pipeline makes."""

    codec: str = field(
        default="lines",
        doc="What is written after each message that does not end so already: `lines` a line break, "
        "`append` and `all-bytes` nothing, `delim:x` the text x.",
        examples=["lines", "append", "delim:|"],
        lint=check_codec,
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        del env
        yield _Printer(sys.stdout.buffer, delimiter(self.codec))


class _Printer:
    def __init__(self, stream: BinaryIO, after: bytes) -> None:
        self._stream = stream
        self._after = after
        self._turn = asyncio.Lock()

    async def write(self, batch: Batch) -> None:
        data = b"".join([ended(message.content, self._after) for message in batch])
        async with self._turn:
            try:
                # In a thread: a reader of the pipe that pauses must not stop everything else.
                await asyncio.to_thread(self._print, data)
            except (OSError, ValueError) as error:
                raise Disconnected(f"stdout: {error}; is its reader still there?") from error

    def _print(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()


def delimiter(codec: str) -> bytes:
    """What follows each message."""
    plain = _PLAIN.get(codec)
    return codec.removeprefix("delim:").encode() if plain is None else plain


def ended(content: bytes, after: bytes) -> bytes:
    """A message with what follows it; not twice, when it ends so already."""
    return content if content.endswith(after) else content + after

"""Reads messages from standard input."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import BinaryIO

from openmeter_collector.api import (
    Delivery,
    EndOfInput,
    Env,
    Example,
    Puller,
    Reading,
    ScannerNode,
    Source,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.inputs.reading_files import CHUNK

LINES = Example(
    "A message a line",
    """
    input:
      stdin: {}
    """,
)
DOCUMENTS = Example(
    "A message a JSON document",
    """
    input:
      stdin:
        scanner:
          json_documents: {}
    """,
)


@input("stdin", categories=("Local",), examples=[LINES, DOCUMENTS])
class Stdin:
    """Reads messages from standard input, a line each, until it ends.

    What cannot be read (a line that is too long, damaged compression) ends the pipeline with an error
    that names the place: what follows it in a pipe cannot be found again.
    """

    codec: ScannerNode | None = field(
        default=None,
        deprecated=True,
        doc="An older way to name the scanner: `lines`, `delim:x`, `all-bytes`, `csv`, `gzip/csv`, ...",
    )
    max_buffer: int = field(
        default=1000000,
        deprecated=True,
        doc="Not used: records of a `codec` may have up to 64 MiB.",
    )
    scanner: ScannerNode = field(
        default_config="lines: {}", doc="How the bytes that come become messages."
    )
    auto_replay_nacks: bool = field(
        default=True, doc="Repeat messages that could not be delivered. There is no other way."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller]:
        async with env.scanner(self.codec or self.scanner) as scanner:
            reading = Reading(scanner, Source("standard input", _chunks(sys.stdin.buffer)))
            try:
                yield _Reader(reading)
            finally:
                await reading.close()


class _Reader:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def read(self) -> Delivery:
        delivery = await self._reading.next()
        if delivery is None:
            raise EndOfInput("standard input has ended")
        return delivery


async def _chunks(stream: BinaryIO) -> AsyncGenerator[bytes, None]:
    """What comes, as it comes. Past the stream's own buffer, whose lock a read that never ends would
    hold when the process ends.
    """
    read = getattr(stream, "raw", stream).read
    while chunk := await _in_a_thread(lambda: read(CHUNK)):
        yield chunk


async def _in_a_thread(call: Callable[[], bytes | None]) -> bytes | None:
    """Wait for a call in a thread that the end of the process does not wait for: a terminal or a pipe
    may have nothing to say for ever.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes | None] = loop.create_future()

    def tell(result: bytes | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def work() -> None:
        result, failure = None, None
        try:
            result = call()
        except (OSError, ValueError) as error:
            failure = error
        with suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=work, name="stdin", daemon=True).start()
    return await done

"""Reads messages from standard input."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
from openmeter_collector.components.inputs.reading_files import chunks_of

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
            reading = Reading(scanner, Source("standard input", chunks_of(sys.stdin.buffer)))
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

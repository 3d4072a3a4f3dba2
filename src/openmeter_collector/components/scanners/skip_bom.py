"""Passes over the mark that some programs put at the beginning of a text."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from openmeter_collector.api import (
    Env,
    Example,
    Position,
    Scanned,
    Scanner,
    ScannerNode,
    Source,
    field,
    scanner,
)
from openmeter_collector.components.scanners.common import Bytes

EXPORT = Example(
    "A file that a spreadsheet has written",
    """
    input:
      file:
        paths: [ ./export.txt ]
        scanner:
          skip_bom:
            into:
              lines: {}
    """,
)
_MARKS = (b"\xef\xbb\xbf", b"\x00\x00\xfe\xff", b"\xff\xfe\x00\x00", b"\xfe\xff", b"\xff\xfe")
"""UTF-8, UTF-32 and UTF-16; the longer ones first, of which the shorter may be a beginning."""


@scanner("skip_bom", examples=[EXPORT])
class SkipBom:
    """Leaves out a byte order mark at the beginning, and gives the rest to another scanner."""

    into: ScannerNode = field(
        default_config="to_the_end: {}", doc="The scanner that reads what follows the mark."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        async with env.scanner(self.into) as into:
            yield _SkipBom(into)


class _SkipBom:
    def __init__(self, into: Scanner) -> None:
        self._into = into

    def seeks(self, name: str) -> bool:
        return self._into.seeks(name)

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        inner = source
        if not source.start.offset:
            taken = Bytes(source.chunks)
            head = await taken.upto(4)
            mark = next((one for one in _MARKS if head.startswith(one)), b"")
            start = Position(source.start.records, len(mark))
            inner = replace(source, chunks=_all(head[len(mark) :], taken.rest()), start=start)
        scan = self._into.scan(inner)
        try:
            async for found in scan:
                yield found
        finally:
            await scan.aclose()


async def _all(head: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    if head:
        yield head
    async for chunk in rest:
        yield chunk

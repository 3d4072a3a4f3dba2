"""Messages of a fixed size."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Env,
    Example,
    Scanned,
    Scanner,
    Source,
    field,
    scanner,
)
from openmeter_collector.components.scanners.common import Track, groups

_LARGEST = 256 << 20
RECORDS = Example(
    "Records of 80 bytes",
    """
    input:
      file:
        paths: [ ./records.dat ]
        scanner:
          chunker:
            size: 80
    """,
)


@scanner("chunker", examples=[RECORDS])
class Chunker:
    """Makes messages of a number of bytes each; the last one has what is left."""

    size: int = field(minimum=1, maximum=_LARGEST, doc="Bytes of a message.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        del env
        yield _Chunker(self.size)


class _Chunker:
    def __init__(self, size: int) -> None:
        self._size = size

    def seeks(self, name: str) -> bool:
        del name
        return True

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        size = self._size
        track = Track(source)
        pending = bytearray()
        async for chunk in source.chunks:
            pending += chunk
            whole = len(pending) // size * size
            if whole:
                records = [bytes(pending[at : at + size]) for at in range(0, whole, size)]
                del pending[:whole]
                for found in groups(track, source, records, 0):
                    yield found
        if pending:
            for found in groups(track, source, [bytes(pending)], 0):
                yield found

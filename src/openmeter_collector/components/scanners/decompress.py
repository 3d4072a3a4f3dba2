"""Decompresses what is read, piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from openmeter_collector.api import (
    Env,
    Example,
    Scanned,
    Scanner,
    ScannerNode,
    Source,
    field,
    scanner,
)
from openmeter_collector.components.scanners.common import Track, within
from openmeter_collector.components.scanners.decompression import Damaged, Opener, opener

LINES = Example(
    "Lines of compressed files",
    """
    input:
      file:
        paths: [ ./data/*.jsonl.gz ]
        scanner:
          decompress:
            algorithm: gzip
            into:
              lines: {}
    """,
)


@scanner("decompress", examples=[LINES])
class Decompress:
    """Decompresses a stream and gives it to another scanner, without ever holding all of it.

    Several compressed streams that follow each other in one source are read as one. `snappy` is the
    framed format, `lz4` the frame format. These two need the extra `files`.
    """

    algorithm: Literal["gzip", "pgzip", "zlib", "bzip2", "flate", "snappy", "lz4", "zstd"] = field(
        doc="How it was compressed."
    )
    into: ScannerNode = field(
        default_config="to_the_end: {}", doc="The scanner that reads the decompressed bytes."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        """Opens the scanner inside.

        Raises:
            ConfigError: what the algorithm needs is not installed.
        """
        opener(self.algorithm)
        async with env.scanner(self.into) as into:
            yield _Decompress(self.algorithm, into)


class _Decompress:
    def __init__(self, algorithm: str, into: Scanner) -> None:
        self._algorithm = algorithm
        self._into = into

    def seeks(self, name: str) -> bool:
        del name
        return False

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        scan = within(self._into, source, self._opened(source))
        try:
            async for found in scan:
                yield found
        finally:
            await scan.aclose()

    async def _opened(self, source: Source) -> AsyncGenerator[bytes, None]:
        track = Track(source)
        made: Opener = opener(self._algorithm)
        try:
            async for chunk in source.chunks:
                for piece in made.feed(chunk):
                    if piece:
                        yield piece
                track.skip(len(chunk))
            made.end()
        except Damaged as error:
            raise track.unreadable_bytes(
                f"not valid {self._algorithm}: {error}; check that the file is whole and that "
                "`algorithm` says how it was made"
            ) from error

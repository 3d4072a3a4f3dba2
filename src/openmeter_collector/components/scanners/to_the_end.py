"""A message a source."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    ByteSize,
    Env,
    Example,
    Message,
    Scanned,
    Scanner,
    Source,
    field,
    scanner,
)
from openmeter_collector.components.scanners.common import Track

WHOLE = Example(
    "Each file is one JSON array of events",
    """
    input:
      file:
        paths: [ ./exports/*.json ]
        scanner:
          to_the_end: {}
      processors:
        - unarchive:
            format: json_array
    """,
)


@scanner("to_the_end", examples=[WHOLE])
class ToTheEnd:
    """Makes one message of all there is.

    Everything is in memory at once. For large sources choose a scanner that takes them apart.
    """

    max_bytes: ByteSize = field(
        default=ByteSize("256MiB"),
        ours=True,
        advanced=True,
        doc="Bytes of a source at most; a larger one is not read.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        del env
        yield _ToTheEnd(int(self.max_bytes))


class _ToTheEnd:
    def __init__(self, most: int) -> None:
        self._most = most

    def seeks(self, name: str) -> bool:
        del name
        return False

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        track = Track(source)
        pieces = []
        size = 0
        async for chunk in source.chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size > self._most:
                raise track.unreadable(
                    f"it is larger than max_bytes ({self._most}); make that larger, or choose a "
                    "scanner that takes it apart"
                )
        yield track.group([Message(b"".join(pieces), source.metadata)], size)

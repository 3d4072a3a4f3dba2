"""A message a JSON document."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    MOST_AT_ONCE,
    Batch,
    ByteSize,
    Env,
    Example,
    Scanned,
    Scanner,
    Source,
    field,
    scanner,
)
from openmeter_collector.components.scanners.common import Track
from openmeter_collector.components.scanners.json_cutter import Cutter, message_of, past_space

DOCUMENTS = Example(
    "Documents over several lines",
    """
    input:
      file:
        paths: [ ./events.json ]
        scanner:
          json_documents: {}
    """,
)


@scanner("json_documents", examples=[DOCUMENTS])
class JsonDocuments:
    """Makes a message of each JSON document of a stream; white space between them or not.

    A message has the bytes of its document as they are. What has a beginning and an end and is no
    JSON in between is flagged, and reading goes on behind it.
    """

    max_bytes: ByteSize = field(
        default=ByteSize("256MiB"), ours=True, advanced=True, doc="Bytes of a document at most."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        del env
        yield _JsonDocuments(int(self.max_bytes))


class _JsonDocuments:
    def __init__(self, most: int) -> None:
        self._most = most

    def seeks(self, name: str) -> bool:
        del name
        return True

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        track = Track(source)
        cutter = Cutter()
        held = bytearray()
        async for chunk in source.chunks:
            held += chunk
            for found in self._groups(track, source, cutter, held, last=False):
                yield found
            if len(held) > self._most:
                raise track.unreadable(f"the document is larger than max_bytes ({self._most})")
        for found in self._groups(track, source, cutter, held, last=True):
            yield found
        if held:
            raise track.unreadable("the document does not end; check that the file is whole")

    def _groups(
        self, track: Track, source: Source, cutter: Cutter, held: bytearray, *, last: bool
    ) -> list[Scanned]:
        made: list[Scanned] = []
        batch: Batch = []
        size = 0
        while True:
            if not cutter.under_way:
                space = past_space(held)
                size += space
                del held[:space]
            end = cutter.end_of_value(held, last=last) if held else -1
            if end < 0:
                break
            batch.append(message_of(bytes(held[:end]), source.metadata, "json_documents"))
            size += end
            del held[:end]
            if len(batch) == MOST_AT_ONCE:
                made.append(track.group(batch, size))
                batch, size = [], 0
        if batch:
            made.append(track.group(batch, size))
        else:
            track.skip(size)
        return made

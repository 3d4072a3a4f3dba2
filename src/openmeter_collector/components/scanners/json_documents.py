"""A message a JSON document."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    MOST_AT_ONCE,
    Batch,
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
from openmeter_collector.components.scanners.json_cutter import (
    Cutter,
    is_composite,
    message_of,
    past_space,
)

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
        reading = _Reading(source)
        async for chunk in source.chunks:
            for found in reading.feed(chunk, last=False):
                yield found
            if reading.size > self._most:
                raise reading.track.unreadable(
                    f"the document is larger than max_bytes ({self._most})"
                )
        for found in reading.feed(b"", last=True):
            yield found
        if reading.size:
            raise reading.track.unreadable(
                "the document does not end; check that the file is whole"
            )


class _Reading:
    """One source: documents, and the beginning of one that is not whole yet."""

    def __init__(self, source: Source) -> None:
        self.track = Track(source)
        self._metadata = source.metadata
        self._cutter = Cutter()
        self._held = bytearray()
        self._batch: Batch = []
        self._passed = 0
        self._by_lines = True
        """What was held last looked like a document a line."""

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return len(self._held)

    def feed(self, chunk: bytes, *, last: bool) -> Iterator[Scanned]:
        """What these bytes complete."""
        self._held += chunk
        self._by_lines = True
        while self._lines() or self._document(last=last):
            if len(self._batch) >= MOST_AT_ONCE:
                yield self._group()
        if self._batch:
            yield self._group()
        self.track.skip(self._passed)
        self._passed = 0

    def _group(self) -> Scanned:
        batch, self._batch = self._batch, []
        passed, self._passed = self._passed, 0
        return self.track.group(batch, passed)

    def _lines(self) -> bool:
        """Take off documents that are a line each, as most are: that needs no look inside. Says whether
        there were any.
        """
        if self._cutter.under_way or not self._by_lines:
            return False
        data, at, end, before = bytes(self._held), 0, 0, len(self._batch)
        while len(self._batch) < MOST_AT_ONCE and (end := data.find(b"\n", at)) >= 0:
            line = data[at:end].strip(b" \t\r")
            if line and not is_composite(line):
                self._by_lines = False
                break
            if line:
                self._batch.append(Message(line, self._metadata))
            at = end + 1
        self._by_lines = self._by_lines and end >= 0
        self._drop(at)
        return len(self._batch) > before

    def _document(self, *, last: bool) -> bool:
        """Take one document off; False when there is no whole one."""
        held = self._held
        if not self._cutter.under_way:
            self._drop(past_space(held))
        end = self._cutter.end_of_value(held, last=last) if held else -1
        if end < 0:
            return False
        self._batch.append(message_of(bytes(held[:end]), self._metadata, "json_documents"))
        self._drop(end)
        return True

    def _drop(self, size: int) -> None:
        del self._held[:size]
        self._passed += size

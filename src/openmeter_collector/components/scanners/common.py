"""What scanners share: where they are in a source, and streams that are read piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import replace

from openmeter_collector.api import (
    MOST_AT_ONCE,
    Batch,
    Message,
    Position,
    Scanned,
    Scanner,
    Source,
    Unreadable,
)


class Track:
    """Counts records and bytes of one source."""

    def __init__(self, source: Source, *, offsets: bool = True) -> None:
        """`offsets` is False where records have no place of their own in the source."""
        self._name = source.name
        self._records = source.start.records
        start = source.start.offset
        self._offset = (start or 0) if offsets and start is not None else None

    @property
    def records(self) -> int:
        """Records before here, since the beginning of the source."""
        return self._records

    def group(self, batch: Batch, size: int) -> Scanned:
        """Messages that took up `size` bytes of the source, with the place behind them."""
        self._records += len(batch)
        self.skip(size)
        return Scanned(batch, Position(self._records, self._offset))

    def skip(self, size: int) -> None:
        """Go on behind bytes that are no record."""
        if self._offset is not None:
            self._offset += size

    def unreadable(self, what: str) -> Unreadable:
        """Why the record that would come next cannot be read; `what` ends with what to do."""
        at = f" at byte {self._offset}" if self._offset is not None else ""
        return Unreadable(f"{self._name}: record {self._records + 1}{at}: {what}")

    def unreadable_bytes(self, what: str) -> Unreadable:
        """As `unreadable`, about bytes in which records have no place."""
        return Unreadable(f"{self._name}: near byte {self._offset or 0}: {what}")


def groups(track: Track, source: Source, records: list[bytes], between: int) -> Iterator[Scanned]:
    """Records that follow each other, `between` bytes after each."""
    for at in range(0, len(records), MOST_AT_ONCE):
        some = records[at : at + MOST_AT_ONCE]
        size = sum(map(len, some)) + len(some) * between
        yield track.group([Message(record, source.metadata) for record in some], size)


class Bytes:
    """The bytes of a source, read as many as are needed at a time."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._held = bytearray()

    async def upto(self, size: int) -> bytes:
        """`size` bytes, fewer at the end."""
        while len(self._held) < size:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                break
            self._held += chunk
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    async def skip(self, size: int) -> bool:
        """Pass over `size` bytes; False when there are fewer."""
        while size > len(self._held):
            size -= len(self._held)
            self._held.clear()
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return False
            self._held += chunk
        del self._held[:size]
        return True

    async def rest(self) -> AsyncGenerator[bytes, None]:
        """All that comes after what was taken."""
        if self._held:
            held, self._held = bytes(self._held), bytearray()
            yield held
        async for chunk in self._chunks:
            yield chunk


async def within(
    scanner: Scanner, source: Source, chunks: AsyncIterator[bytes]
) -> AsyncGenerator[Scanned, None]:
    """What a scanner finds in bytes that were made of the source's, which have no place there."""
    inner = replace(source, chunks=chunks, start=Position())
    scan = scanner.scan(inner)
    try:
        async for found in scan:
            yield Scanned(found.batch, Position(found.end.records, None))
    finally:
        await scan.aclose()

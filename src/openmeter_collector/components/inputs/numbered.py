"""Messages that say which record of which source they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import count

from openmeter_collector.api import Scanned, Scanner, Source, record_metadata


class Numbered:
    """A scanner that adds the number of the record, from 0, to the identity in a source's metadata."""

    def __init__(self, scanner: Scanner, key: str) -> None:
        """`key`: where the identity of the source is, and that of the record goes."""
        self._scanner = scanner
        self._key = key

    def seeks(self, name: str) -> bool:
        """See `Scanner.seeks`."""
        return self._scanner.seeks(name)

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        """See `Scanner.scan`."""
        scan = self._scanner.scan(source)
        key, identity = self._key, f"{source.metadata[self._key]}-"
        try:
            async for found in scan:
                first = found.end.records - len(found.batch)
                # Written into, which is for nobody else to do: the scanner has just made them, and
                # no one has seen them yet. Copies would cost as much again.
                for message, number in zip(found.batch, count(first)):
                    message.metadata = record_metadata(message.metadata, key, identity, number)
                yield found
        finally:
            await scan.aclose()

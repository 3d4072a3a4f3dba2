"""Messages that say which record of which source they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from openmeter_collector.api import Message, Scanned, Scanner, Source


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
        identity = source.metadata[self._key]
        try:
            async for found in scan:
                first = found.end.records - len(found.batch)
                batch = [
                    self._numbered(message, f"{identity}-{first + at}")
                    for at, message in enumerate(found.batch)
                ]
                yield Scanned(batch, found.end)
        finally:
            await scan.aclose()

    def _numbered(self, message: Message, identity: str) -> Message:
        return message.with_metadata({**message.metadata, self._key: identity})

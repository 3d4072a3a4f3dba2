"""The contract of scanners: how a stream of bytes becomes messages.

An input that reads something long (a file, an object, a body that does not end) gives a scanner the
bytes as they come and gets messages as soon as they are complete, in groups, with the position that
was reached. Neither holds more than a chunk and the record that is being put together.

    async with env.scanner(self.scanner) as scanner:
        reading = Reading(scanner, Source("a.csv", chunks), finished=delete)
        while (delivery := await reading.next()) is not None:
            await intake.put(delivery)

Scanners know nothing of acknowledgements. `Reading` does: it makes a delivery of each group and tells
the input how far everything is settled, and when all of the source is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from openmeter_collector.message import NO_METADATA, Batch, Checkpoint, Delivery, Metadata

MOST_AT_ONCE: Final = 256
"""Messages in a group at most."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two records of a source.

    Attributes:
        records: how many records were given out before it, since the beginning of the source.
        offset: bytes of the source before it; None where records have no place of their own in the
            source, such as those inside a compressed stream.
    """

    records: int = 0
    offset: int | None = 0


BEGINNING: Final = Position()


@dataclass(frozen=True, slots=True)
class Source:
    """Something to read, once.

    Attributes:
        name: a file's path, an object's key, an address: what `switch` looks at, and what errors name.
        chunks: its bytes, in pieces of any size. What it raises comes out of the scan as it is.
        metadata: what every message of it carries.
        start: where it is to be read from. `chunks` begin at `start.offset` if the scanner says that
            it can begin there (`Scanner.seeks`), else at the first byte of the source.
    """

    name: str
    chunks: AsyncIterator[bytes]
    metadata: Metadata = field(default_factory=lambda: NO_METADATA)
    start: Position = BEGINNING


@dataclass(frozen=True, slots=True)
class Scanned:
    """Messages that follow each other in a source.

    Attributes:
        batch: at least one, at most `MOST_AT_ONCE`.
        end: the place behind the last of them, which the next scan may start from.
    """

    batch: Batch
    end: Position


class Scanner(Protocol):
    """A running scanner, between entering and leaving its `open(env)` block. May be used for many
    sources, also at the same time.
    """

    def seeks(self, name: str) -> bool:
        """Whether a scan of a source of this name can begin at the offset of any position that an
        earlier one reached. If not, it begins at the first byte and the records are counted.
        """

    def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        """Read `source` to its end. The messages are the same however it is cut into chunks.

        Close the generator (`aclose`) when it is not read to the end; `chunks` stay the caller's.

        Raises:
            Unreadable: the bytes are not what this scanner reads, or a record is larger than is
                allowed; all records before have been given out. The text names source and place.
        """


class Reading:
    """One source on its way into a pipeline: deliveries, and how far all of them are settled."""

    def __init__(
        self,
        scanner: Scanner,
        source: Source,
        *,
        checkpoint: Callable[[Position], Checkpoint | None] | None = None,
        safe: Callable[[Position], None] | None = None,
        finished: Callable[[], None] | None = None,
    ) -> None:
        """Begin at `source.start`.

        Args:
            checkpoint: makes the mark for a position up to which everything is safe, or becomes so
                with the delivery that carries it (see `component.state` for the rules, which are
                kept here); None when there is nothing to remember. At most one is under way.
            safe: told the position up to which everything is settled with None, each time that
                it moves. Called from `Delivery.settle`: must be quick and must not raise.
            finished: called once, when the source has been read to its end and all of it is settled
                with None: the time to delete it, or to tell its owner. As `safe`.
        """
        self._groups = scanner.scan(source)
        self._skip = 0 if scanner.seeks(source.name) else source.start.records
        self._checkpoint = checkpoint
        self._safe = safe
        self._finished = finished
        self._ends: dict[int, Position] = {}
        """Places behind deliveries that were made, until all before them are settled too."""
        self._made = 0
        self._oldest = 0
        self._settled: set[int] = set()
        self._reached = source.start
        self._marked = -1
        """The delivery under way that carries a checkpoint."""
        self._at_end = False

    async def next(self) -> Delivery | None:
        """What comes next; None at the end of the source.

        Raises:
            Unreadable: see `Scanner.scan`; `finished` will not be called.
        """
        async for group in self._groups:
            batch = group.batch
            if self._skip >= len(batch):
                self._skip -= len(batch)
                continue
            if self._skip:
                batch, self._skip = batch[self._skip :], 0
            return self._delivery(batch, group.end)
        if not self._at_end:
            self._at_end = True
            self._look_whether_finished()
        return None

    async def close(self) -> None:
        """Stop reading; what was handed out may still be settled."""
        await self._groups.aclose()

    def _delivery(self, batch: Batch, end: Position) -> Delivery:
        number = self._made
        mark = self._mark(number, end)
        self._made += 1
        self._ends[number] = end

        def settle(failure: Exception | None) -> None:
            if failure is None:
                self._settle(number)

        return Delivery(batch, settle, mark)

    def _mark(self, number: int, end: Position) -> tuple[Checkpoint, ...]:
        if self._checkpoint is None or self._marked >= 0:
            return ()
        made = self._checkpoint(self._reached if self._ends else end)
        if made is None:
            return ()
        self._marked = number
        return (made,)

    def _settle(self, number: int) -> None:
        self._settled.add(number)
        if number == self._marked:
            self._marked = -1
        before = self._oldest
        while self._oldest in self._settled:
            self._settled.remove(self._oldest)
            self._reached = self._ends.pop(self._oldest)
            self._oldest += 1
        if self._oldest > before and self._safe is not None:
            self._safe(self._reached)
        self._look_whether_finished()

    def _look_whether_finished(self) -> None:
        if self._at_end and not self._ends and self._finished is not None:
            finished, self._finished = self._finished, None
            finished()

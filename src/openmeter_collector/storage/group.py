"""What passes between the journal, on the event loop, and its writer, in a thread."""

from __future__ import annotations

from dataclasses import dataclass, field

from openmeter_collector.message import Batch, Delivery
from openmeter_collector.storage.dead_letters import BuriedLetter
from openmeter_collector.storage.ledger import Changes, Names, Tally


@dataclass(slots=True)
class StoredFrame:
    """A frame as it was committed.

    Attributes:
        tally: its events by source and type, without those that are done.
        done: one byte per event, 1 when it was dealt with in an earlier life; None when none was.
    """

    id: int
    received_ms: int
    size: int
    batch: Batch
    tally: Tally
    done: bytes | None = None


@dataclass(slots=True)
class Settlement:
    """What became of events of a frame: one fact, written as a whole or not at all.

    Attributes:
        done: one byte per event of the frame, 1 when it is dealt with; None when all of them are,
            and the frame goes.
        dropped: by rule.
    """

    frame_id: int
    hour: int
    done: bytes | None
    delivered: Tally = field(default_factory=dict)
    dead: Tally = field(default_factory=dict)
    dropped: dict[str, Tally] = field(default_factory=dict)
    letters: list[BuriedLetter] = field(default_factory=list)

    def enter(self, changes: Changes, *, seen: bool = False) -> None:
        """Put it into the books; `seen`: duplicates were counted when they were stored."""
        if self.delivered:
            changes.add(self.hour, "delivered", self.delivered)
        if self.dead:
            changes.add(self.hour, "dead", self.dead)
        for rule, tally in self.dropped.items():
            changes.add(self.hour, "dropped", tally, str(rule) if seen else rule)


@dataclass(frozen=True, slots=True)
class Conflict:
    """An event that came with an id that another content came with before."""

    id: str
    source: str


@dataclass(slots=True)
class Group:
    """What one transaction holds."""

    number: int = 0
    deliveries: list[Delivery] = field(default_factory=list)
    frames: list[StoredFrame] = field(default_factory=list)
    returned: list[StoredFrame] = field(default_factory=list)
    """What a person put back, moved into the queue behind the frames."""
    returned_ids: list[tuple[int]] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    notes: dict[tuple[str, str, Names], int] = field(default_factory=dict)
    """Events that are only counted, by column, rule and names."""
    changes: Changes = field(default_factory=Changes)
    sent: list[Batch] = field(default_factory=list)
    duplicates: int = 0
    conflicts: list[Conflict] = field(default_factory=list)
    """Events whose id came before; only looked for when asked."""
    refused: bool = False
    """Its senders were told that it failed; it turned out to be on disk all the same."""
    fsync_seconds: float = 0.0

    @property
    def all_frames(self) -> list[StoredFrame]:
        """In the order of their ids."""
        return [*self.frames, *self.returned] if self.returned else self.frames

    @property
    def letters(self) -> list[BuriedLetter]:
        """All dead letters in it."""
        return [letter for one in self.settlements for letter in one.letters]

"""A frame that was given out: what is still owed for it, and what has become of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from openmeter_collector.component.buffer import Undeliverable
from openmeter_collector.errors import Dropped
from openmeter_collector.message import Batch, Message, by_index
from openmeter_collector.storage.dead_letters import BuriedLetter
from openmeter_collector.storage.group import Settlement, StoredFrame
from openmeter_collector.storage.ledger import Names, Tally, hour_of, names_of


@dataclass(slots=True)
class Outstanding:
    """See the module.

    Attributes:
        done: one byte per event, 1 when it was delivered, dropped or buried.
        open: events that are not done.
        left: the tally of those that are in no column yet.
    """

    received_ms: int
    size: int
    events: int
    open: int
    done: bytearray
    left: Tally
    attempts: int = 0
    _delivered: dict[Names, int] = field(default_factory=dict)
    _dead: dict[Names, int] = field(default_factory=dict)
    _dropped: dict[str, Tally] = field(default_factory=dict)
    _letters: list[BuriedLetter] = field(default_factory=list)

    @classmethod
    def of(cls, frame: StoredFrame) -> Outstanding:
        """Of a frame that is about to be given out."""
        count = len(frame.batch)
        done = bytearray(frame.done or count)
        return cls(frame.received_ms, frame.size, count, done.count(0), done, frame.tally)

    @property
    def has_letters(self) -> bool:
        """A dead letter waits to be filed: its event must be marked with it, or both would be there."""
        return bool(self._letters)

    @property
    def has_news(self) -> bool:
        """Something was dealt with that is not on its way to the disk yet."""
        return bool(self._delivered or self._dead or self._dropped)

    def delivered(self, messages: Batch, positions: Sequence[int]) -> None:
        """All of a piece was delivered."""
        if self.open != len(positions):
            for message in messages:
                self._move(names_of(message.content), self._delivered)
        # Else it is all there was left, and its tally is known.
        self._close(positions)

    def judged(self, messages: Batch, positions: Sequence[int], failure: Exception) -> list[int]:
        """Some of a piece was not delivered.

        Returns:
            The indexes in the piece of those to give out again.
        """
        if isinstance(failure, Dropped) and self.open == len(positions):
            self._dropped[failure.rule] = _sum(self._dropped.get(failure.rule, {}), self.left)
            self.left = {}
            self._close(positions)
            return []
        errors = by_index(failure, len(positions))
        again = [
            index
            for index, error in errors.items()
            if not isinstance(error, Undeliverable | Dropped)
        ]
        ends_it = not again and self.open == len(positions)
        for index, message in enumerate(messages):
            error = errors.get(index)
            if error is None and not ends_it:
                self._move(names_of(message.content), self._delivered)
            elif isinstance(error, Undeliverable):
                self._move(names_of(message.content), self._dead)
                self._file(error, message)
            elif isinstance(error, Dropped):
                tally = dict(self._dropped.get(error.rule, {}))
                self._move(names_of(message.content), tally)
                self._dropped[error.rule] = tally
        kept = set(again)
        self._close([at for index, at in enumerate(positions) if index not in kept])
        return again

    def settlement(self, frame_id: int) -> Settlement:
        """What is to be written of it now; the frame goes when nothing is owed any more."""
        delivered = self._delivered
        if not self.open:
            delivered = _sum(delivered, self.left)
        made = Settlement(
            frame_id,
            hour_of(self.received_ms),
            bytes(self.done) if self.open else None,
            delivered,
            self._dead,
            self._dropped,
            self._letters,
        )
        self._delivered, self._dead, self._dropped, self._letters = {}, {}, {}, []
        return made

    def _close(self, positions: Sequence[int]) -> None:
        for position in positions:
            self.done[position] = 1
        self.open -= len(positions)

    def _move(self, names: Names, into: dict[Names, int]) -> None:
        left = dict(self.left)
        left[names] = left.get(names, 0) - 1
        if not left[names]:
            del left[names]
        self.left = left
        into[names] = into.get(names, 0) + 1

    def _file(self, verdict: Undeliverable, stored: Message) -> None:
        """One letter for each event that was received, whatever became of it on the way."""
        letter = verdict.letters[0]
        others = len(verdict.letters) - 1
        self._letters.append(BuriedLetter(letter, self.received_ms, stored, letter.filed, others))
        letter.filed = True


def _sum(one: Tally, other: Tally) -> dict[Names, int]:
    total = dict(one)
    for names, count in other.items():
        total[names] = total.get(names, 0) + count
    return total

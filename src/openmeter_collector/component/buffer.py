"""The contract of buffers: the place where an event becomes safe.

A buffer settles what is written to it when it is as safe as the buffer's page says, and gives it out
again, in the order it was written, until it is settled there too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from openmeter_collector.errors import Dropped, Final
from openmeter_collector.message import Batch, Delivery, Message


@dataclass(frozen=True, slots=True)
class BufferStatus:
    """What a buffer holds, for health, metrics and the live page."""

    events: int
    size_bytes: int
    frames: int
    oldest_age: float
    """Seconds since the oldest event still held was received; 0 when empty."""
    dead_letters: int
    free_bytes: int | None
    """Bytes left where it is kept, None when that has no meaning."""
    failure: str | None
    """Why nothing can be written at the moment, None when all is well."""
    durable: bool = True
    """What it holds is still there after the process has ended."""
    room_bytes: int | None = None
    """Bytes of events that it takes until senders are put off; None where that is `free_bytes`."""


@dataclass(slots=True, eq=False)
class DeadLetter:
    """An event that can never be delivered as it is, with all that is known about why.

    One letter may come back with several deliveries (an archive of many events, refused as one);
    `filed` is set by the buffer that has it, so that its bytes are kept once.
    """

    message: Message
    reason: str
    response: str
    attempts: int
    first_attempt: float
    """Unix seconds."""
    last_attempt: float
    """Unix seconds."""
    output: str
    """Label or path of the output that refused it."""
    filed: bool = False


class Undeliverable(Final):
    """The final verdict on a message, carried to the buffer by the settling of its delivery.

    Riding on the settlement, it finds its way back to the stored event through every split, merge
    and mapping in between, and the buffer can make both facts true in one transaction.
    """

    def __init__(self, letter: DeadLetter, *more: DeadLetter) -> None:
        """More than one letter when several descendants of one message were refused."""
        self.letters = (letter, *more)
        super().__init__(letter.reason)

    def joined(self, other: Final) -> Undeliverable:
        if isinstance(other, Dropped):
            return self
        assert isinstance(other, Undeliverable)
        return Undeliverable(*self.letters, *other.letters)


class Buffer(Protocol):
    """A running buffer, between entering and leaving its `open(env)` block."""

    def write(self, delivery: Delivery) -> None:
        """Take a delivery; its `settle` is called when it is safe, or with what prevented it.

        Does not wait and does no I/O itself. An empty batch with a checkpoint is valid.

        Raises:
            Overloaded: full, or the disk is; not taken, will not be settled.
        """

    async def wait_for_room(self) -> None:
        """Return when `write` is likely to accept again."""

    async def read(self) -> Delivery:
        """The next delivery in order of writing; many may be out at a time.

        Settling it with None removes it for good. Settling it with a failure gives the failed
        messages out again after a delay, except those whose verdict is final: `Undeliverable` ones
        are filed as dead letters, in the same transaction that takes them out of the buffer, and
        `Dropped` ones are counted under their rule.

        Raises:
            EndOfInput: `drain` was called and nothing is left to read.
        """

    def drain(self) -> None:
        """Nothing more will be written: `read` ends when what is left has been given out."""

    def status(self) -> BufferStatus:
        """A snapshot, cheap enough to take at every scrape."""


@runtime_checkable
class KeepsBooks(Protocol):
    """A buffer that also counts what it never held, so that its books tell the whole story."""

    def dropped(self, messages: Sequence[Message], rule: str) -> None:
        """Events that were received, and let go by a rule before they were stored."""

    def refused(self, contents: Sequence[bytes], reason: str) -> None:
        """Events that were turned away at the door; whoever sent them was told so."""


@runtime_checkable
class KeepsSent(Protocol):
    """A buffer that can keep what was delivered, so that it can be compared with the destination."""

    keeps_sent: bool
    """Whether it wants to be told."""

    def sent(self, batch: Batch) -> None:
        """An output confirmed these messages, as they are. Called before they are settled."""

"""Collecting messages into batches of the size an output likes.

`count` and `byte_size` are caps: a batch is cut there, however much came at once. `period` is how long
the oldest message may wait for company. Without a period nothing waits: whoever is free to write takes
what is there, up to the cap, so that batches grow with the load by themselves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from openmeter_collector.errors import EndOfInput
from openmeter_collector.message import Batch, Delivery
from openmeter_collector.message.settlement import Carver, merge

_ROUNDING = 1e-6
"""Seconds by which a timer may fire early without being set once more, for nothing."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When a batch is complete.

    Attributes:
        count: messages at most; 0 for no bound.
        byte_size: content bytes at most (a single larger message goes alone); 0 for no bound.
        period: seconds the oldest message may wait for the batch to fill; 0 for none.
        check: whether the message at an index of its batch completes the batch it gets into; None
            for never.
    """

    count: int = 0
    byte_size: int = 0
    period: float = 0.0
    check: Callable[[Batch, int], bool] | None = None


class Batcher:
    """Deliveries in, batches out. Belongs to one event loop; takers wait in line."""

    def __init__(
        self,
        policy: Policy,
        monotonic: Callable[[], float],
        capacity: int,
        created: Callable[[str], None],
    ) -> None:
        """`capacity`: messages held before `has_room` says no; `created` is told why a batch was
        cut: `count`, `size`, `period` or `check`.
        """
        self._policy = policy
        self._monotonic = monotonic
        self._capacity = max(capacity, policy.count)
        self._created = created
        self._parts: deque[tuple[float, Carver]] = deque()
        self._held = 0
        self._held_bytes = 0
        self._added = 0
        self._ends: deque[int] = deque()
        """Messages after which a batch ends because `check` said so, counted from the first one."""
        self._takers: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False

    @property
    def held(self) -> int:
        """Messages that wait for a taker."""
        return self._held

    @property
    def has_room(self) -> bool:
        """Fewer messages are held than there may be."""
        return self._room.is_set()

    def add(self, delivery: Delivery) -> None:
        """Put in. A delivery without messages and checkpoints is settled at once."""
        if not delivery.batch and not delivery.checkpoints:
            delivery.settle(None)
            return
        self._parts.append((self._monotonic(), Carver(delivery)))
        if (check := self._policy.check) is not None:
            ends = [at for at in range(len(delivery.batch)) if check(delivery.batch, at)]
            self._ends += [self._added + at + 1 for at in ends]
        self._added += len(delivery.batch)
        self._held += len(delivery.batch)
        if self._policy.byte_size:
            self._held_bytes += _size(delivery.batch)
        if self._held >= self._capacity:
            self._room.clear()
        if self._takers and self._complete():
            self._wake_one()

    async def room(self) -> None:
        """Wait until there is room for more."""
        await self._room.wait()

    def hurry(self) -> None:
        """From now on no message waits for the batch to fill."""
        self._policy = replace(self._policy, period=0.0)
        self._wake_one()

    def close(self) -> None:
        """Nothing more comes: what is held is given out without waiting."""
        self._closed = True
        while self._takers:
            _release(self._takers.popleft())

    async def take(self) -> Delivery:
        """The next batch.

        Raises:
            EndOfInput: closed and empty.
        """
        while True:
            reason = self._complete()
            if reason:
                return self._cut(reason)
            if self._closed:
                raise EndOfInput("no more batches")
            turn = asyncio.get_running_loop().create_future()
            self._takers.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                # Woken and cancelled in one turn: pass the wake-up on.
                self._wake_one()
                raise

    def _complete(self) -> str | None:
        """Why a batch may be cut now, or None; sets the timer when it is only a matter of time."""
        if not self._parts:
            return None
        policy = self._policy
        if policy.count and self._held >= policy.count:
            return "count"
        if policy.byte_size and self._held_bytes >= policy.byte_size:
            return "size"
        if self._ends:
            return "check"
        waited = self._monotonic() - self._parts[0][0]
        if self._closed or waited >= policy.period - _ROUNDING:
            return "period"
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(policy.period - waited, self._period_over)
        return None

    def _period_over(self) -> None:
        self._timer = None
        self._wake_one()

    def _wake_one(self) -> None:
        while self._takers:
            turn = self._takers.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _cut(self, reason: str) -> Delivery:
        self._created(reason)
        taken: list[Delivery] = []
        room = self._policy.count or max(self._held, 1)
        if self._ends:
            room = min(room, self._ends[0] - (self._added - self._held))
        room_bytes = self._policy.byte_size
        while self._parts and room > 0:
            _, carver = self._parts[0]
            wanted = min(room, carver.left)
            if room_bytes:
                wanted = _fitting(carver, wanted, room_bytes, first=not taken)
                if not wanted and carver.left:
                    break
            part = carver.take(wanted)
            taken.append(part)
            room -= len(part.batch)
            self._held -= len(part.batch)
            if self._policy.byte_size:
                used = _size(part.batch)
                room_bytes -= used
                self._held_bytes -= used
            if not carver.left:
                self._parts.popleft()
            if self._policy.byte_size and room_bytes <= 0:
                break
        while self._ends and self._ends[0] <= self._added - self._held:
            self._ends.popleft()
        if self._held < self._capacity:
            self._room.set()
        if self._parts:
            self._wake_one()
        return merge(taken)


def _size(batch: Batch) -> int:
    return sum(len(message.content) for message in batch)


def _fitting(carver: Carver, wanted: int, room_bytes: int, *, first: bool) -> int:
    """How many of the next messages fit; one at least when the batch would be empty otherwise."""
    count = 0
    for message in carver.upcoming():
        room_bytes -= len(message.content)
        if count == wanted or (room_bytes < 0 and (count or not first)):
            break
        count += 1
    return count


def _release(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)

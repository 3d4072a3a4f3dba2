"""Hand-over between pipelines of one process: what an `inproc` output and its input share.

There is no queue: a delivery crosses over whole, with its duty to be settled, when a taker is there.
What the far side makes of it comes back to whoever handed it over.
"""

from __future__ import annotations

import asyncio
from collections import deque

from openmeter_collector.message import Delivery


class Handover:
    """One name. Belongs to one event loop; both sides may be several."""

    def __init__(self) -> None:
        self._offered: deque[Delivery] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()

    def offer(self, delivery: Delivery) -> None:
        """Hold out a delivery until somebody takes it."""
        self._offered.append(delivery)
        self._wake_one()

    def withdraw(self, delivery: Delivery) -> None:
        """Take back what was offered; nothing happens when it has been taken."""
        if delivery in self._offered:
            self._offered.remove(delivery)

    async def take(self) -> Delivery:
        """The next delivery."""
        while not self._offered:
            turn = asyncio.get_running_loop().create_future()
            self._takers.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                # Woken and cancelled in one turn: pass the wake-up on.
                if turn.done() and not turn.cancelled():
                    self._wake_one()
                raise
        return self._offered.popleft()

    def _wake_one(self) -> None:
        while self._takers:
            turn = self._takers.popleft()
            if not turn.done():
                turn.set_result(None)
                return


class Handovers:
    """All names of one process that pipelines share."""

    def __init__(self) -> None:
        self._by_name: dict[str, Handover] = {}

    def named(self, name: str) -> Handover:
        """The hand-over of a name; made when it is first asked for."""
        return self._by_name.setdefault(name, Handover())

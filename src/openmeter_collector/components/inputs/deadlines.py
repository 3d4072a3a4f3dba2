"""How long senders wait for their events to be safe, watched over by one task for all of them.

A timer per request would cost more than the request.
"""

from __future__ import annotations

import asyncio
from collections import deque

from openmeter_collector.api import Settle

_LOOKS = 0.1
"""Seconds between looks, and so how late a deadline may be noticed."""


class Waiting:
    """A request whose events are on their way into the buffer. Told once, whoever comes first."""

    __slots__ = ("_told", "deadline")

    def __init__(self, deadline: float, told: Settle) -> None:
        self.deadline = deadline
        self._told: Settle | None = told

    @property
    def over(self) -> bool:
        """It was told."""
        return self._told is None

    def settle(self, failure: Exception | None) -> None:
        """Tell it, unless it was told."""
        told, self._told = self._told, None
        if told is not None:
            told(failure)


class Deadlines:
    """Requests that wait, each for the same time."""

    def __init__(self, timeout: float, late: Exception) -> None:
        """`late`: what a request is told when its time is over."""
        self._timeout = timeout
        self._late = late
        self._time = asyncio.get_running_loop().time
        self._pending: deque[Waiting] = deque()

    def waiting(self, told: Settle) -> Waiting:
        """A request that is not watched over yet: hand it over first, then `watch` it."""
        return Waiting(self._time() + self._timeout, told)

    def watch(self, waiting: Waiting) -> None:
        """Watch over a request that was taken."""
        self._pending.append(waiting)

    async def run(self) -> None:
        """Tell those that waited too long; runs until cancelled."""
        pending = self._pending
        while True:
            now = self._time()
            while pending and (pending[0].deadline <= now or pending[0].over):
                pending.popleft().settle(self._late)
            await asyncio.sleep(_LOOKS)

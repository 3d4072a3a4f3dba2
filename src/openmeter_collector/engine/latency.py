"""How long deliveries take from hand-over to settlement."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from openmeter_collector.message import Delivery
from openmeter_collector.telemetry.counters import Timer

_APART_NS: Final = 10_000_000


class Latency:
    """Times deliveries: every one while there are few, up to a hundred a second when there are many.

    A clock and a closure for each of a hundred thousand would cost more than they tell.
    """

    __slots__ = ("_clock", "_next", "_timer")

    def __init__(self, timer: Timer, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._timer = timer
        self._clock = clock
        self._next = 0

    def watch(self, delivery: Delivery) -> None:
        """Time one from now to its settlement, whatever that is."""
        began = self._clock()
        if began < self._next:
            return
        self._next = began + _APART_NS
        delivery.tell_also(lambda _: self._timer.observe(self._clock() - began))

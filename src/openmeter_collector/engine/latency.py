"""How long deliveries take from hand-over to settlement, and writes of outputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from openmeter_collector.component.output import Output
from openmeter_collector.message import Batch, Delivery
from openmeter_collector.telemetry.counters import Metrics, Timer

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
        observe = self._timer.begin()
        delivery.tell_also(lambda _: observe(self._clock() - began))


class TimedOutput:
    """An output whose successful writes are timed. A span goes around it: the time belongs to that."""

    __slots__ = ("_output", "_timer")

    def __init__(self, output: Output, metrics: Metrics) -> None:
        self._output = output
        self._timer = metrics.timer("output_latency_ns", "Time for one write.")

    async def write(self, batch: Batch) -> None:
        """See `component.output.Output.write`."""
        began = time.perf_counter_ns()
        await self._output.write(batch)
        self._timer.observe(time.perf_counter_ns() - began)

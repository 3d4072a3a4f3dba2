"""What is counted about rate limits."""

from __future__ import annotations

from openmeter_collector.component.rate_limit import RateLimit
from openmeter_collector.telemetry.counters import Metrics


class CountedLimit:
    """A rate limit with its counters."""

    def __init__(self, limit: RateLimit, metrics: Metrics) -> None:
        self._limit = limit
        self._checked = metrics.counter("rate_limit_checked", "Times the limit was asked.")
        self._triggered = metrics.counter("rate_limit_triggered", "Times it said to wait.")
        self._errors = metrics.counter("rate_limit_error", "Times it could not be asked.")

    async def access(self) -> float:
        self._checked.add()
        try:
            wait = await self._limit.access()
        except Exception:
            self._errors.add()
            raise
        if wait > 0:
            self._triggered.add()
        return wait

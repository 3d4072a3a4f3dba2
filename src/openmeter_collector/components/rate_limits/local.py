"""A rate limit inside this process.

Counts in windows that begin with the first use, on a clock that never jumps. Whoever is refused is
told when it is their turn: as many as fit into the next window come back with it, the rest later, so
that waiting callers do not all race for each window.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from openmeter_collector.api import ByteSize, Duration, Env, Example, RateLimit, field, rate_limit

HUNDRED_A_SECOND = Example(
    "A hundred a second",
    """
    rate_limit_resources:
      - label: slow_api
        local:
          count: 100
          interval: 1s
    """,
)


@rate_limit("local", categories=("Local",), examples=[HUNDRED_A_SECOND])
class Local:
    """Lets so many pass in each interval, counted in this process.

    Everything that refers to the same label shares the limit. Other replicas and workers count for
    themselves.
    """

    count: int = field(default=1000, minimum=0, doc="How many pass in an interval; 0 is no limit.")
    interval: Duration = field(default=Duration("1s"), minimum=1e-6, doc="How long an interval is.")
    byte_size: ByteSize = field(
        default=ByteSize(0),
        doc="How many bytes pass in an interval, where the caller says how large it is; "
        "0 is no limit.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[RateLimit]:
        yield _Windows(self.count, int(self.byte_size), float(self.interval), env.monotonic)


class _Windows:
    def __init__(
        self, count: int, size: int, interval: float, monotonic: Callable[[], float]
    ) -> None:
        self._count = count
        self._size = size
        self._interval = interval
        self._monotonic = monotonic
        self._ends = float("-inf")
        self._passed = self._bytes = self._refused = 0

    async def access(self, size: int = 0) -> float:
        now = self._monotonic()
        if now >= self._ends:
            self._ends = now + self._interval
            self._passed = self._bytes = self._refused = 0
        if self._fits(size):
            self._passed += 1
            self._bytes += size
            return 0.0
        turn = self._refused // self._count if self._count else 0
        self._refused += 1
        return self._ends - now + turn * self._interval

    def _fits(self, size: int) -> bool:
        if self._count and self._passed >= self._count:
            return False
        # One message larger than the whole allowance passes alone; it could never pass otherwise.
        return not self._size or not self._bytes or self._bytes + size <= self._size

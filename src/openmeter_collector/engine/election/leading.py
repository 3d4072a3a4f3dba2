"""What a replica knows of its own leadership, and what it does only while it leads."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from openmeter_collector.component.leader import Leadership
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log


class Leading:
    """See `component.leader.Leadership`. Told by an elector, asked by everybody else."""

    def __init__(self, identity: str, monotonic: Callable[[], float], log: Log) -> None:
        self.identity = identity
        self.holder = ""
        """Who leads, as far as is known."""
        self.problem = ""
        """Why the election does not get on, empty when it does."""
        self._monotonic = monotonic
        self._log = log
        self._term = 0
        self._above = 0
        self._leads = False
        self._until = 0.0
        self._changed = asyncio.Event()
        self.elections = 0

    @property
    def leading(self) -> bool:
        return self._leads and self._monotonic() < self._until

    @property
    def term(self) -> int:
        return self._term

    @property
    def fence(self) -> int:
        return self._term + self._above

    def outrank(self, term: int) -> None:
        if self.leading and term > self.fence:
            self._log.warning("terms were higher once; was the lease deleted?", term=term)
            self._above = term + 1 - self._term

    async def wait(self) -> int:
        while not self.leading:
            await self._change(None)
        return self._term

    async def lost(self, term: int) -> None:
        while self.leading and self._term == term:
            left = self._until - self._monotonic()
            await self._change(None if math.isinf(left) else left)

    async def _change(self, timeout: float | None) -> None:
        changed = self._changed
        try:
            async with asyncio.timeout(timeout):
                await changed.wait()
        except TimeoutError:
            return

    # ---- told by the elector -----------------------------------------------------------

    def acquired(self, term: int, until: float = math.inf) -> None:
        """This replica leads, until that moment (of the monotonic clock) unless renewed."""
        self._term, self._until, self._leads = term, until, True
        self.holder, self.problem = self.identity, ""
        self.elections += 1
        self._log.info("leading", identity=self.identity, term=term)
        self._tell()

    def renewed(self, until: float) -> None:
        """Still. Too late is not at all: what ran in that term has been stopped already."""
        if not self.leading:
            return
        self._until = until
        self.problem = ""

    def ended(self, reason: str) -> None:
        """No more."""
        if self._leads:
            self._leads = False
            self._log.warning("leading no more", identity=self.identity, reason=reason)
            self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def measure(self, metrics: MetricStore) -> None:
        """Show it."""
        scope = metrics.scope()
        scope.gauge("leader", "1 when this replica leads.", lambda: float(self.leading))
        scope.gauge("leader_term", "Number of its last leadership.", lambda: float(self._term))
        scope.gauge("leader_elections", "Times it was elected.", lambda: float(self.elections))

    def shown(self) -> dict[str, object]:
        """For `/ready`."""
        made: dict[str, object] = {
            "leading": self.leading,
            "identity": self.identity,
            "holder": self.holder,
            "term": self._term,
        }
        if self.problem:
            made["problem"] = self.problem
        return made


async def while_leading(leadership: Leadership, run: Callable[[], Awaitable[None]]) -> None:
    """Run for as long as this replica leads, and again when it leads again, until it ends by itself.

    Whatever is under way when leadership ends is cancelled; positions it had not made true by then
    cannot be advanced by it any more.
    """
    while True:
        term = await leadership.wait()
        running = asyncio.ensure_future(run())
        losing = asyncio.ensure_future(leadership.lost(term))
        both: set[asyncio.Future[None]] = {running, losing}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
                return
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)
        if not running.cancelled():
            running.result()

"""Inputs that fetch one window of time after the other, without holes.

    source = ...                                    # fetches the messages of one window
    plan = WindowPlan(grid_of(schedule), max_age=7 * 86400)
    yield WindowedInput(env, source, plan)          # the running input

Which windows are done, open or lost is in a ledger (`values.windows`), which becomes true in the same
transaction as the events of the window it tells of. A window that fails stays open and is fetched
again; windows of a time when nobody ran are fetched oldest first. The newest one never waits for them.

A source fetches concurrently; the ledger is written one window after the other, as `component.state`
asks for. A window in several pieces goes out piece by piece, the ledger with the last one: after a
crash in between, the pieces come again, with the same ids if the mapping makes stable ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from openmeter_collector.component.env import Env
from openmeter_collector.component.input import Intake
from openmeter_collector.component.window_pages import WindowPage
from openmeter_collector.errors import (
    BatchFailed,
    CollectorError,
    Disconnected,
    Overloaded,
    Superseded,
)
from openmeter_collector.message import Batch, Checkpoint, Delivery, by_index
from openmeter_collector.values.windows import Grid, Ledger, Span, Window, moment_text

_LOOK_AGAIN: Final = 10.0  # seconds; a clock that was set is noticed within this
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 300.0
_NOTE_EVERY: Final = 60.0
_ONLY_NOW: Final = "the source shows only what is now, and that time has passed"


class Unobtainable(CollectorError):
    """The source does not have a window any more, and never will again."""


class Unfinished(CollectorError):
    """A window was fetched in part.

    Attributes:
        rest: names of the parts that are missing, for the next attempt.
    """

    def __init__(self, text: str, rest: Sequence[str]) -> None:
        self.rest = tuple(rest)
        super().__init__(text)


class _NotLeading(Disconnected):
    """The life of this input ends; whoever leads goes on."""


class WindowSource(Protocol):
    """Where windows are fetched from."""

    def fetch(self, window: Window, rest: Sequence[str]) -> AsyncIterator[Batch | Delivery]:
        """The messages of one window, in as many batches as are practical. May run concurrently.

        What was yielded goes out at once, so yield only what is right whatever follows. A delivery
        is settled when its messages are safe, or with what prevented it.

        Args:
            rest: what the last attempt said is missing; empty for all of it.

        Raises:
            Unobtainable: this window is gone for good.
            Unfinished: what was yielded is right, and some parts are missing.
            CollectorError: it did not work this time; nothing is lost, the window comes again.
        """


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """How windows are fetched.

    Attributes:
        grid: where time is cut.
        name: of the ledger, among those of the same component.
        delay: seconds after its end at which a window is first fetched.
        history: the source can be asked about the past; without it, a window can be fetched only
            until the next one has ended.
        max_age: seconds after which an open window is given up; 0 for never.
        max_parallel: open windows of the past that are fetched at a time, beside the newest.
    """

    grid: Grid
    name: str = "windows"
    delay: float = 0.0
    history: bool = True
    max_age: float = 7 * 86_400.0
    max_parallel: int = 4


@dataclass(slots=True)
class _Waiting:
    """A window that failed."""

    attempts: int
    until: float


class WindowedInput:
    """See the module. One source, one ledger."""

    def __init__(self, env: Env, source: WindowSource, plan: WindowPlan) -> None:
        self._env = env
        self._source = source
        self._plan = plan
        self._grid = plan.grid
        self.ledger = Ledger(0, 0)
        self._committing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._flying: set[Window] = set()
        self._waiting: dict[Window, _Waiting] = {}
        self._failures = 0
        self._paused_until = 0.0
        self._looked = 0.0
        self._noted = 0.0
        self._lost_upto = -1
        self._told: list[Window] = []
        self._measure()

    def _measure(self) -> None:
        metrics, label = self._env.metrics, {"windows": self._plan.name}
        self._done = metrics.counter("windows_done", "Windows whose events are safe.", **label)
        self._failed = metrics.counter("windows_failed", "Attempts that failed.", **label)
        metrics.gauge("gaps_open", "Gaps to be fetched.", lambda: len(self._told), **label)
        metrics.gauge(
            "gaps_impossible",
            "Gaps that cannot be fetched any more and nobody has accepted.",
            lambda: len(self.ledger.lost),
            **label,
        )
        metrics.gauge(
            "gaps_impossible_seconds",
            "Their length.",
            lambda: sum(one.end - one.start for one in self.ledger.lost) / 1000,
            **label,
        )
        metrics.gauge("window_lag_seconds", "Age of the oldest open window.", self._lag, **label)

    def _lag(self) -> float:
        return (
            max(0.0, self._env.now() - self.ledger.open[0].start / 1000)
            if self.ledger.open
            else 0.0
        )

    # ---- life ------------------------------------------------------------------------------

    async def run(self, intake: Intake) -> None:
        """See `Input.run`."""
        fresh = await self._load()
        page = WindowPage(self._plan.name, lambda: self.ledger, self._told_by_hand)
        path = f"/windows/{self._env.node.display()}/{self._plan.name}"
        async with self._env.mount([path], page), asyncio.TaskGroup() as tasks:
            self._intake = intake
            self._tasks = tasks
            if fresh:
                await self._commit([], _nothing)
            while True:
                self._look()
                await self._sleep()

    async def _load(self) -> bool:
        """Read the ledger; says whether there was none."""
        kept = await self._env.state.load(self._plan.name)
        try:
            self.ledger = Ledger.decode(kept) if kept else self._new()
        except ValueError as error:
            self._env.log.warning(
                "the record of windows cannot be read and was begun anew", reason=str(error)
            )
            self.ledger = self._new()
            kept = None
        now = self._now()
        self.ledger.advance(self._grid, now)
        missed = self._grid.floor(now) - self.ledger.open[0].start if self.ledger.open else 0
        newest = self.ledger.newest(self._grid)
        if newest is not None and missed > newest.end - newest.start:
            start = self.ledger.open[0].start
            self._tell(Window(start, newest.start), "nobody was running, or it was not done yet")
        return not kept

    def _new(self) -> Ledger:
        return Ledger.begin(self._grid, self._now())

    def _now(self) -> int:
        return int((self._env.now() - self._plan.delay) * 1000)

    async def _sleep(self) -> None:
        """Until there may be something to do: the next edge, the end of a pause, a window done."""
        now = self._env.monotonic()
        edge = (self._grid.after(self.ledger.upto) - self._now()) / 1000
        ends = [self._paused_until, *(one.until for one in self._waiting.values())]
        waits = [_LOOK_AGAIN, edge, *(end - now for end in ends if end > self._looked)]
        sleeping = asyncio.ensure_future(self._env.sleep(max(min(waits), 0.001)))
        changing = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({sleeping, changing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            changing.cancel()
            self._changed.clear()

    # ---- what to fetch ---------------------------------------------------------------------

    def _look(self) -> None:
        """Open what has ended, give up what is too old, start what is due."""
        self.ledger.advance(self._grid, self._now())
        newest = self.ledger.newest(self._grid)
        given_up = self._given_up(newest)
        if given_up:
            self._tasks.create_task(self._commit([], _nothing))
        if newest is not None and newest not in self._flying and newest not in self._waiting:
            self._start(newest)
        now = self._looked = self._env.monotonic()
        if now < self._paused_until:
            return
        # After a failure one at a time asks whether the source is well again.
        limit = self._plan.max_parallel if not self._failures else 1
        slots = limit - len(self._flying - {newest})
        for window in self.ledger.windows(self._grid):
            if slots <= 0:
                return
            waiting = self._waiting.get(window)
            if window not in self._flying and (waiting is None or waiting.until <= now):
                self._start(window)
                slots -= 1

    def _given_up(self, newest: Window | None) -> list[Span]:
        ledger, plan = self.ledger, self._plan
        found: list[Span] = []
        if plan.max_age:
            limit = self._grid.floor(self._now() - int(plan.max_age * 1000))
            found += ledger.expire(limit, f"older than {plan.max_age:g}s (catch_up.max_age)")
        if not plan.history:
            now = newest.start if newest is not None else ledger.upto
            found += ledger.expire(min([now, *(one.start for one in self._flying)]), _ONLY_NOW)
        for span in found:
            self._say_lost(Window(span.start, span.end), ledger.lost[-1].cause)
            self._waiting = {
                one: state for one, state in self._waiting.items() if one.start >= span.end
            }
        if found:
            self._forget_told()
        return found

    def _start(self, window: Window) -> None:
        self._flying.add(window)
        self._tasks.create_task(self._attempt(window))

    async def _attempt(self, window: Window) -> None:
        try:
            await self._fetch(window)
        finally:
            self._flying.discard(window)
            self._changed.set()

    async def _fetch(self, window: Window) -> None:
        last = Delivery([])
        try:
            async for piece in self._source.fetch(window, self.ledger.rest(window)):
                if last.batch:
                    await self._deliver(last.batch, ())
                    last.settle(None)
                last = piece if isinstance(piece, Delivery) else Delivery(piece)
        except Unobtainable as gone:
            cause = str(gone)
            await self._commit(last.batch, lambda ledger: ledger.lose(window, cause))
            self._say_lost(window, cause)
        except Unfinished as part:
            told, rest = str(part), part.rest
            await self._commit(last.batch, lambda ledger: ledger.fail(window, told, rest))
            last.settle(None)
            self._fails(window, part)
            return
        except _NotLeading:
            raise
        except CollectorError as error:
            last.settle(error)
            self.ledger.fail(window, str(error), self.ledger.rest(window))
            self._fails(window, error)
            return
        except Exception as error:  # noqa: BLE001 - a defect of the source costs no window
            self._env.log.warning("a window failed by a defect", error=repr(error), **_when(window))
            self.ledger.fail(window, repr(error))
            self._fails(window, CollectorError(repr(error)))
            return
        else:
            await self._commit(last.batch, lambda ledger: ledger.done(window))
            self._done.add()
        last.settle(None)
        self._succeeds(window)

    def _succeeds(self, window: Window) -> None:
        self._failures, self._paused_until = 0, 0.0
        self._waiting.pop(window, None)
        # The source is well: what waited for that has waited long enough, unless it failed often.
        for one in self._waiting.values():
            if one.attempts < 3:
                one.until = 0.0
        self._forget_told()

    def _fails(self, window: Window, error: CollectorError) -> None:
        self._failed.add()
        self._failures += 1
        known = self._waiting.setdefault(window, _Waiting(0, 0.0))
        known.attempts += 1
        now, asked = self._env.monotonic(), 0.0
        if isinstance(error, Overloaded) and error.retry_after:
            asked = min(error.retry_after, 3600.0)
        # The newest window is tried in spite of a pause and must not make it longer: older ones may
        # be well again while the newest always fails (a server whose clock is behind).
        if now >= self._paused_until:
            self._paused_until = now + (asked or self._pause(self._failures))
        known.until = now + (asked or self._pause(known.attempts))
        if self._tell(window, str(error)) or now > self._noted + _NOTE_EVERY:
            # Nothing is done that would carry the ledger along; who looks into it should see why.
            self._noted = now
            self._tasks.create_task(self._commit([], _nothing))

    def _pause(self, attempts: int) -> float:
        full = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempts - 1, 20))
        return full * (0.5 + self._env.random() / 2)

    # ---- what is said ----------------------------------------------------------------------

    def _tell(self, window: Window, cause: str) -> bool:
        """Say it once for each gap: neighbours and repetitions are the same one."""
        for at, gap in enumerate(self._told):
            if gap.start <= window.start <= gap.end:
                self._told[at] = Window(gap.start, max(gap.end, window.end))
                return False
        self._told.append(window)
        self._env.log.warning(
            "windows are missing and will be fetched", **_when(window), cause=cause
        )
        return True

    def _say_lost(self, window: Window, cause: str) -> None:
        """Once for each stretch: an expression that never works loses a window every minute."""
        follows = window.start <= self._lost_upto <= window.end
        self._lost_upto = window.end
        if not follows:
            self._env.log.error("windows are lost", **_when(window), cause=cause)

    def _forget_told(self) -> None:
        def is_open(gap: Window) -> bool:
            return any(one.start < gap.end and gap.start < one.end for one in self.ledger.open)

        for gap in self._told:
            if not is_open(gap):
                self._env.log.info("a gap is closed", **_when(gap))
        self._told = [gap for gap in self._told if is_open(gap)]

    async def _told_by_hand(self, change: Callable[[Ledger], object]) -> None:
        """A person changes the ledger: fill again, or accept."""
        await self._commit([], change)
        self._waiting.clear()
        self._failures, self._paused_until = 0, 0.0
        self._changed.set()

    # ---- handing over ----------------------------------------------------------------------

    async def _commit(self, batch: Batch, change: Callable[[Ledger], object]) -> None:
        """Hand over messages with the ledger as it is after `change`; one at a time."""
        async with self._committing:
            after = self.ledger.copy()
            change(after)
            checkpoint = self._env.state.checkpoint(self._plan.name, after.encode())
            await self._deliver(batch, (checkpoint,))
            # Applied to the one that lives, which may have learnt more while this was under way.
            change(self.ledger)

    async def _deliver(self, batch: Batch, checkpoints: tuple[Checkpoint, ...]) -> None:
        """Hand over, and again what failed, until it is safe.

        Raises:
            _NotLeading: this replica may not advance the ledger any more.
        """
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            settled: asyncio.Future[Exception | None] = loop.create_future()
            await self._intake.put(Delivery(batch, _into(settled), checkpoints))
            failure = await settled
            if failure is None:
                return
            if isinstance(failure, Superseded):
                raise _NotLeading(str(failure))
            if isinstance(failure, BatchFailed):
                batch = [batch[index] for index in sorted(by_index(failure, len(batch)))]
            attempt += 1
            await self._env.sleep(min(10.0, self._pause(attempt)))


def _into(settled: asyncio.Future[Exception | None]) -> Callable[[Exception | None], None]:
    def settle(failure: Exception | None) -> None:
        if not settled.done():
            settled.set_result(failure)

    return settle


def _nothing(ledger: Ledger) -> None:
    del ledger


def _when(window: Window) -> dict[str, str]:
    return {"start": moment_text(window.start), "end": moment_text(window.end)}

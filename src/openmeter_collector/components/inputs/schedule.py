"""Reads from another input at aligned moments.

Guarantees: each window of the schedule is read once or is named as lost; what is read is read at the end
of the window, never before. What the child gives is what is now, so a window cannot be read later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

from openmeter_collector.api import (
    Batch,
    CollectorError,
    Delivery,
    Env,
    Example,
    Input,
    InputNode,
    Intake,
    Message,
    Retryable,
    WindowedInput,
    WindowPlan,
    check_schedule,
    field,
    input,  # noqa: A004
    windows_of,
)
from openmeter_collector.values.units import format_duration
from openmeter_collector.values.windows import Grid, Window, moment_text

PODS = Example(
    "Running pods, each fifteen seconds",
    """
    input:
      schedule:
        interval: 15s
        input:
          kubernetes_resources:
            namespaces: [default]
    """,
)
_TOO_LATE: Final = "it was not read before the next window ended"


@input("schedule", categories=("Utility",), examples=[PODS])
class Schedule:
    """Reads from the child input once for each window of time, at its end.

    Windows lie at multiples of the interval since 1970 (UTC), whenever the collector was started: with
    `15s` at :00, :15, :30 and :45. All replicas and all restarts have the same ones.

    A child that lists what is there and ends (`kubernetes_resources`) is read to its end, all of it
    belongs to the window. Of any other, one batch is taken. When reading fails it is tried again until
    the next window ends; then the window is lost: named in the log, in `gaps_impossible` and by
    `openmeter-collector gaps`.

    Metadata: `schedule_time` (end of the window), `schedule_interval` (its length, such as `15s`),
    `window_start`, `window_end`. With leader election, runs only on the leader.
    """

    leader_only: ClassVar[bool] = True

    input: InputNode = field(doc="What to read from.")
    interval: str = field(
        doc="Length of windows, such as `15s`; or their ends as a cron expression, seconds first.",
        examples=["15s", "1m", "0 */5 * * * *"],
        lint=check_schedule,
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        grid = windows_of(self.interval, f"{env.node.path}.interval")
        plan = WindowPlan(grid, history=False, max_parallel=1)
        async with asyncio.TaskGroup() as tasks:
            source = _Child(self.input, env, grid, tasks)
            try:
                yield _Scheduled(WindowedInput(env, source, plan), source)
            finally:
                source.stop()


class _Scheduled:
    """The windows of a child; what its rules let go is counted where the events go."""

    def __init__(self, windows: WindowedInput, source: _Child) -> None:
        self._windows = windows
        self._source = source

    async def run(self, intake: Intake) -> None:
        self._source.gate.books = intake
        await self._windows.run(intake)


class _Child:
    """The child input as a source of windows."""

    def __init__(self, node: InputNode, env: Env, grid: Grid, tasks: asyncio.TaskGroup) -> None:
        self._node = node
        self._env = env
        self._grid = grid
        self._tasks = tasks
        self._once = bool(getattr(type(node.config), "reads_once", False))
        self.gate = _Gate()
        self._running: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """End the child."""
        if self._running is not None:
            self._running.cancel()

    async def fetch(self, window: Window, rest: Sequence[str]) -> AsyncIterator[Batch | Delivery]:
        del rest
        metadata = {
            "schedule_time": moment_text(window.end),
            "schedule_interval": format_duration((window.end - window.start) * 1_000_000),
            "window_start": moment_text(window.start),
            "window_end": moment_text(window.end),
        }
        left = (self._grid.after(window.end) / 1000) - self._env.now()
        pieces = self._read_all(left) if self._once else self._read_one(left)
        async for piece in pieces:
            batch = [one.with_metadata({**one.metadata, **metadata}) for one in piece.batch]
            yield Delivery(batch, piece.settle)

    async def _read_all(self, seconds: float) -> AsyncIterator[Delivery]:
        """All that a child gives which ends by itself."""
        given: asyncio.Queue[Delivery] = asyncio.Queue(maxsize=1)

        class Taking:
            dropped = staticmethod(self.gate.dropped)
            refused = staticmethod(self.gate.refused)

            async def put(self, delivery: Delivery) -> None:
                # Taken over: from here on the window answers for it, which is read anew as a whole
                # when anything fails. The child can go on to its end.
                await given.put(Delivery(delivery.batch))
                delivery.settle(None)

            def offer(self, delivery: Delivery) -> None:
                del delivery
                raise Retryable("only inputs that wait can be read on a schedule")

        async def read() -> None:
            async with (
                asyncio.timeout(seconds),
                self._env.input(self._node, reopen=False) as child,
            ):
                await child.run(Taking())

        reading = asyncio.ensure_future(read())
        try:
            while not (reading.done() and given.empty()):
                taking = asyncio.ensure_future(given.get())
                await asyncio.wait({taking, reading}, return_when=asyncio.FIRST_COMPLETED)
                if taking.done():
                    yield taking.result()
                else:
                    taking.cancel()
            _raise_plainly(reading)
        finally:
            if not reading.done():
                reading.cancel()
                await asyncio.wait({reading})

    async def _read_one(self, seconds: float) -> AsyncIterator[Delivery]:
        """The next batch of a child that goes on for ever; it is not let read ahead."""
        asked = self.gate.ask()
        try:
            async with asyncio.timeout(seconds):
                # Twice: one that had given its last batch ends when it is let go on.
                for _ in range(2):
                    if self._running is None or self._running.done():
                        self._running = self._tasks.create_task(self._run())
                    waited: set[asyncio.Future[Any]] = {asked, self._running}
                    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                    if asked.done():
                        break
        except TimeoutError as error:
            raise Retryable(_TOO_LATE) from error
        if asked.done():
            yield asked.result()

    async def _run(self) -> None:
        async with self._env.input(self._node) as child:
            await child.run(self.gate)


class _Gate:
    """Lets one delivery through each time it is asked, and lets the child read on only then."""

    def __init__(self) -> None:
        self.books: Intake | None = None
        """Where what rules let go is counted."""
        self._wanted: asyncio.Future[Delivery] | None = None
        self._asked = asyncio.Event()

    def ask(self) -> asyncio.Future[Delivery]:
        """The next delivery."""
        if self._wanted is None or self._wanted.done():
            self._wanted = asyncio.get_running_loop().create_future()
            self._asked.set()
        return self._wanted

    async def put(self, delivery: Delivery) -> None:
        while self._wanted is None or self._wanted.done():
            await self._again()
        self._wanted.set_result(delivery)
        # Only when the next one is asked for does the child go on: it reads then, not before.
        await self._again()

    def offer(self, delivery: Delivery) -> None:
        if self._wanted is None or self._wanted.done():
            raise Retryable("it is not the time to read")
        self._wanted.set_result(delivery)

    def dropped(self, messages: Sequence[Message], rule: str) -> None:
        if self.books is not None:
            self.books.dropped(messages, rule)

    def refused(self, contents: Sequence[bytes], reason: str) -> None:
        if self.books is not None:
            self.books.refused(contents, reason)

    async def _again(self) -> None:
        self._asked.clear()
        await self._asked.wait()


def _raise_plainly(reading: asyncio.Task[None]) -> None:
    error: BaseException | None = reading.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        raise Retryable(_TOO_LATE) from error
    if isinstance(error, CollectorError):
        raise error
    if error is not None:
        raise Retryable(f"the child input failed: {error!r}") from error

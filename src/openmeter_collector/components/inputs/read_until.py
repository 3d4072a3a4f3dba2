"""Reads from an input until a message says that it is enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    CollectorError,
    Delivery,
    Duration,
    Env,
    Example,
    Input,
    InputNode,
    Intake,
    MappingText,
    Overloaded,
    by_index,
    field,
    input,  # noqa: A004
)

_AGAIN_AFTER = 1.0
UNTIL_END = Example(
    "Stop after the message that says so",
    """
    input:
      read_until:
        check: 'this.type == "end"'
        input:
          generate:
            interval: 1s
            mapping: 'root.type = if count("read") > 9 { "end" } else { "more" }'
    """,
)


@input("read_until", categories=("Utility",), examples=[UNTIL_END])
class ReadUntil:
    """Reads from a child input until a message meets a condition, or until nothing came for a while.

    The message that meets it is still handed over; what follows it is left to the source, which is not
    told that the messages it gave together with that one are done with. Of a request that holds several
    (`http_server`), all are handed over. The input ends when everything it handed over is safe.
    """

    input: InputNode = field(doc="The input to read from.")
    check: MappingText | None = field(
        default=None,
        doc="A query, asked for each message; true ends the input after that message.",
        examples=['this.type == "end"', 'count("messages") >= 100'],
    )
    idle_timeout: Duration | None = field(
        default=None, doc="End when no message came for this long.", examples=["5s"]
    )
    restart_input: bool = field(
        default=False, doc="Open the child again when it ends before the condition is met."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        yield _Reader(self, env)


class _Reader:
    def __init__(self, config: ReadUntil, env: Env) -> None:
        self._config = config
        self._env = env

    async def run(self, intake: Intake) -> None:
        async with asyncio.TaskGroup() as tasks:
            gate = _Gate(self._config, self._env, intake, tasks)
            reading = tasks.create_task(self._read(gate))
            enough = tasks.create_task(gate.enough.wait())
            idle = tasks.create_task(self._idle(gate))
            await asyncio.wait({reading, enough, idle}, return_when=asyncio.FIRST_COMPLETED)
            gate.closed = True
            await gate.all_settled()
            for task in (reading, enough, idle):
                task.cancel()

    async def _read(self, gate: _Gate) -> None:
        while True:
            async with self._env.input(self._config.input) as child:
                await child.run(gate)
            if not self._config.restart_input:
                return

    async def _idle(self, gate: _Gate) -> None:
        timeout = self._config.idle_timeout
        if timeout is None:
            await asyncio.Event().wait()
            return
        while (left := gate.last + float(timeout) - self._env.monotonic()) > 0:
            await self._env.sleep(left)


class _Gate:
    """An intake that lets messages through up to the one that is the last.

    It repeats what failed by itself: the child cannot, once it is not listened to any more.
    """

    def __init__(
        self, config: ReadUntil, env: Env, intake: Intake, tasks: asyncio.TaskGroup
    ) -> None:
        self._check = config.check
        self._env = env
        self._intake = intake
        self.dropped = intake.dropped
        self.refused = intake.refused
        self._tasks = tasks
        self._under_way = 0
        self._settled = asyncio.Event()
        self.last = env.monotonic()
        self.enough = asyncio.Event()
        self.closed = False

    def offer(self, delivery: Delivery) -> None:
        if self.enough.is_set():
            raise Overloaded("this input has read as much as it was to read")
        self.last = self._env.monotonic()
        self._intake.offer(self._counted(delivery, again=False))
        self._under_way += 1
        self._look(delivery)

    async def put(self, delivery: Delivery) -> None:
        if self.closed or self.enough.is_set():
            await asyncio.Event().wait()  # the source keeps it; whoever reads is cancelled
        self.last = self._env.monotonic()
        self._under_way += 1
        last = self._look(delivery)
        if last is not None and last + 1 < len(delivery.batch):
            # A source of which a part is wanted is not told that it is done with.
            delivery = Delivery(delivery.batch[: last + 1])
        await self._intake.put(self._counted(delivery, again=True))

    async def all_settled(self) -> None:
        """Wait until nothing that was handed over is under way."""
        while self._under_way > 0:
            self._settled.clear()
            await self._settled.wait()

    def _counted(self, delivery: Delivery, *, again: bool) -> Delivery:
        def settle(failure: Exception | None) -> None:
            if failure is not None and again:
                self._tasks.create_task(self._repeat(delivery, failure))
                return
            delivery.settle(failure)
            self._under_way -= 1
            self._settled.set()

        return Delivery(delivery.batch, settle, delivery.checkpoints)

    async def _repeat(self, delivery: Delivery, failure: Exception) -> None:
        await self._env.sleep(_AGAIN_AFTER)
        failed = by_index(failure, len(delivery.batch))
        rest = Delivery([delivery.batch[index] for index in sorted(failed)], delivery.settle)
        await self._intake.put(self._counted(rest, again=True))

    def _look(self, delivery: Delivery) -> int | None:
        """Which message is the last one, if it is among these."""
        if self._check is None:
            return None
        for index in range(len(delivery.batch)):
            try:
                if self._check.program.check(delivery.batch, index):
                    self.enough.set()
                    return index
            except CollectorError as error:
                self._env.log.warning("the check failed", error=str(error))
        return None

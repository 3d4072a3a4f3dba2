"""Where inputs hand over: through their processors into the buffer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from openmeter_collector.component.buffer import Buffer
from openmeter_collector.component.env import Chain, Env
from openmeter_collector.component.input import Intake, Puller
from openmeter_collector.engine.chain import through
from openmeter_collector.engine.retry import BackOff
from openmeter_collector.errors import EndOfInput, Overloaded
from openmeter_collector.message import Batch, Delivery
from openmeter_collector.message.settlement import Stage, merge

_REPLAY = BackOff(initial=0.1, longest=10.0)


class BufferIntake:
    """See `component.input.Intake`."""

    def __init__(self, env: Env, chain: Chain, buffer: Buffer, tasks: asyncio.TaskGroup) -> None:
        """`tasks` runs what `offer` cannot finish at once: chains that wait."""
        self._chain = chain
        self._buffer = buffer
        self._tasks = tasks
        self._received = env.metrics.counter("input_received", "Messages received.")

    def offer(self, delivery: Delivery) -> None:
        if self._chain.empty:
            # The hot path of durable ingest: two calls between the socket and the writer.
            self._buffer.write(delivery)
        elif self._chain.sync:
            with Stage(delivery) as stage:
                results = self._chain.run_sync(stage.batch)
            self._write(delivery, stage, results)
        else:
            self._tasks.create_task(self._offer_later(delivery))
        self._received.add(len(delivery.batch))

    async def put(self, delivery: Delivery) -> None:
        self._received.add(len(delivery.batch))
        if not self._chain.empty:
            delivery = _one(delivery, await through(self._chain, delivery))
        while True:
            await self._buffer.wait_for_room()
            try:
                self._buffer.write(delivery)
            except Overloaded:
                continue
            return

    async def _offer_later(self, delivery: Delivery) -> None:
        with Stage(delivery) as stage:
            results = await self._chain.run(stage.batch)
        try:
            self._write(delivery, stage, results)
        except Overloaded as error:
            delivery.settle(error)

    def _write(self, delivery: Delivery, stage: Stage, results: list[Batch]) -> None:
        made = stage.deliveries(results)
        if made or delivery.checkpoint is not None:
            try:
                self._buffer.write(_one(delivery, made))
            except Exception as error:
                stage.abandon(error)
                raise


def _one(delivery: Delivery, made: list[Delivery]) -> Delivery:
    """What processors made of one delivery, as one write, so that its checkpoint is in the same
    transaction as all of its events (and is written even when a rule dropped them all).
    """
    if not made:
        return Delivery([], None, delivery.checkpoint)
    merged = merge(made)
    if delivery.checkpoint is not None:
        merged.checkpoint = delivery.checkpoint
    return merged


class PullInput:
    """Makes an `Input` of a `Puller`: reads at our pace, repeats what was not delivered."""

    def __init__(self, env: Env, puller: Puller) -> None:
        self._env = env
        self._puller = puller

    async def run(self, intake: Intake) -> None:
        """See `Input.run`."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    delivery = await self._puller.read()
                except EndOfInput:
                    return
                await intake.put(self._repeating(delivery, intake, tasks.create_task, attempt=1))

    def _repeating(
        self,
        delivery: Delivery,
        intake: Intake,
        start: Callable[..., object],
        attempt: int,
    ) -> Delivery:
        """A source that is read cannot be told to come again; so we hold on to what failed."""

        def settle(failure: Exception | None) -> None:
            if failure is None:
                delivery.settle(None)
            else:
                start(self._repeat(delivery, intake, start, attempt))

        return Delivery(delivery.batch, settle, delivery.checkpoint)

    async def _repeat(
        self,
        delivery: Delivery,
        intake: Intake,
        start: Callable[..., object],
        attempt: int,
    ) -> None:
        await self._env.sleep(_REPLAY.delay(attempt, self._env.random()))
        await intake.put(self._repeating(delivery, intake, start, attempt + 1))

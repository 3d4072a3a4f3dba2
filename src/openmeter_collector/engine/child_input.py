"""An input inside another one: its processors, its counters, its own connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from openmeter_collector.component.env import Chain, Env
from openmeter_collector.component.input import Hold, Intake
from openmeter_collector.engine.batching import Batcher, Policy
from openmeter_collector.engine.chain import through
from openmeter_collector.engine.input_loop import as_one
from openmeter_collector.engine.lives import (
    keep_input_running,
    run_input_held,
    run_input_once,
    run_input_within,
)
from openmeter_collector.engine.status import Connection
from openmeter_collector.errors import EndOfInput, Overloaded
from openmeter_collector.message import Delivery, Message
from openmeter_collector.message.settlement import Stage


class ChildInput:
    """See `component.input.Input`. Opened anew when its connection is lost, unlike its parent."""

    def __init__(
        self,
        env: Env,
        chain: Chain,
        *,
        reopen: bool = True,
        hold: Hold | None = None,
        nested: bool = False,
    ) -> None:
        """`nested`: it is a child of what is held."""
        self._env = env
        self._chain = chain
        self._run = keep_input_running if reopen else run_input_once
        if hold is not None:
            self._run = partial(run_input_within if nested else run_input_held, hold)

    async def run(self, intake: Intake) -> None:
        """See `Input.run`."""
        node = self._env.node
        async with asyncio.TaskGroup() as tasks:
            within = _ChildIntake(self._env, self._chain, intake, tasks)
            await self._run(self._env, within, Connection(node.label, node.path))


class LeftOut:
    """An input that runs in another process: it has nothing to give here."""

    def __init__(self, env: Env, reason: str) -> None:
        self._env = env
        self._reason = reason

    async def run(self, intake: Intake) -> None:
        """See `Input.run`."""
        del intake
        self._env.log.info("input does not run here", input=self._env.node.name, why=self._reason)


class _ChildIntake:
    def __init__(self, env: Env, chain: Chain, intake: Intake, tasks: asyncio.TaskGroup) -> None:
        self._chain = chain
        self._intake = intake
        self._tasks = tasks
        self._received = env.metrics.counter("input_received", "Messages received.")

    def offer(self, delivery: Delivery) -> None:
        if self._chain.empty:
            self._intake.offer(delivery)
        elif self._chain.sync:
            with Stage(delivery, self.dropped) as stage:
                results = self._chain.run_sync(stage.batch)
            made = stage.deliveries(results)
            if made or delivery.checkpoints:
                try:
                    self._intake.offer(as_one(delivery, made))
                except Exception as error:
                    stage.abandon(error)
                    raise
        else:
            self._tasks.create_task(self._offer_later(delivery))
        self._received.add(len(delivery.batch))

    async def put(self, delivery: Delivery) -> None:
        self._received.add(len(delivery.batch))
        made = await through(self._chain, delivery, self.dropped)
        if made or delivery.checkpoints:
            await self._intake.put(as_one(delivery, made))

    def dropped(self, messages: Sequence[Message], rule: str) -> None:
        self._intake.dropped(messages, rule)

    def refused(self, contents: Sequence[bytes], reason: str) -> None:
        self._intake.refused(contents, reason)

    async def _offer_later(self, delivery: Delivery) -> None:
        made = await through(self._chain, delivery, self.dropped)
        if not made and not delivery.checkpoints:
            return
        one = as_one(delivery, made)
        try:
            self._intake.offer(one)
        except Overloaded as error:
            one.settle(error)


@asynccontextmanager
async def batched(env: Env, policy: Policy, chain: Chain, intake: Intake) -> AsyncIterator[Intake]:
    """An intake that collects; what is left is handed over when the block is left."""
    collecting = _BatchingIntake(env, policy, chain, intake)
    handing = asyncio.get_running_loop().create_task(collecting.hand_over())
    try:
        yield collecting
    except asyncio.CancelledError:
        handing.cancel()
        raise
    finally:
        collecting.batcher.close()
        await asyncio.wait({handing})
    handing.result()


class _BatchingIntake:
    def __init__(self, env: Env, policy: Policy, chain: Chain, intake: Intake) -> None:
        self._chain = chain
        self._intake = intake
        self.dropped = intake.dropped
        self.refused = intake.refused
        metrics = env.metrics
        self.batcher = Batcher(
            policy,
            env.monotonic,
            capacity=2 * (policy.count or 4096),
            created=lambda mechanism: metrics.counter(
                "batch_created", "Batches cut, by reason.", mechanism=mechanism
            ).add(),
        )

    def offer(self, delivery: Delivery) -> None:
        if not self.batcher.has_room:
            raise Overloaded("more comes in than can be handed on", 1.0)
        self.batcher.add(delivery)

    async def put(self, delivery: Delivery) -> None:
        await self.batcher.room()
        self.batcher.add(delivery)

    async def hand_over(self) -> None:
        """Until closed and empty."""
        while True:
            try:
                batch = await self.batcher.take()
            except EndOfInput:
                return
            made = await through(self._chain, batch, self.dropped)
            for one in [as_one(batch, made)] if batch.checkpoints else made:
                await self._intake.put(one)

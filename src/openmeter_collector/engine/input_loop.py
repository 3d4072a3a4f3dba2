"""Where inputs hand over: through their processors into the buffer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from openmeter_collector.component.buffer import Buffer, KeepsBooks
from openmeter_collector.component.env import Chain, Env
from openmeter_collector.component.input import Intake, Puller
from openmeter_collector.engine.chain import through
from openmeter_collector.engine.latency import Latency
from openmeter_collector.engine.recent import Recent
from openmeter_collector.engine.retry import BackOff
from openmeter_collector.engine.state import PipelineState
from openmeter_collector.engine.strict import only_sound
from openmeter_collector.errors import BatchFailed, EndOfInput, Overloaded
from openmeter_collector.message import Batch, Delivery, Message, by_index
from openmeter_collector.message.settlement import Stage, merge

_REPLAY = BackOff(initial=0.1, longest=10.0)
_ROOM_AGAIN = 0.01


class BufferIntake:
    """See `component.input.Intake`."""

    def __init__(
        self,
        env: Env,
        chain: Chain,
        buffer: Buffer,
        tasks: asyncio.TaskGroup,
        state: PipelineState,
        recent: Recent | None = None,
    ) -> None:
        """`tasks` runs what `offer` cannot finish at once: chains that wait."""
        self._state = state
        self._sleep = env.sleep
        self._recent = recent or Recent()
        self._chain = chain
        self._buffer = buffer
        self._books = buffer if isinstance(buffer, KeepsBooks) else None
        self._tasks = tasks
        self._received = env.metrics.counter("input_received", "Messages received.")
        self._latency = Latency(
            env.metrics.timer("input_latency_ns", "Time from receiving to settlement.")
        )

    def offer(self, delivery: Delivery) -> None:
        self._latency.watch(delivery)
        if self._chain.empty:
            # The hot path of durable ingest: two calls between the socket and the writer.
            if delivery.checkpoints:
                self._keep(delivery)
            else:
                self._buffer.write(delivery)
                self._recent.note(delivery.batch)
        elif self._chain.sync:
            with Stage(delivery, self.dropped) as stage:
                results = self._chain.run_sync(stage.batch)
            self._write(delivery, stage, results)
        else:
            self._tasks.create_task(self._offer_later(delivery))
        self._received.add(len(delivery.batch))

    async def put(self, delivery: Delivery) -> None:
        self._received.add(len(delivery.batch))
        self._latency.watch(delivery)
        if not self._chain.empty:
            made = await through(self._chain, delivery, self.dropped)
            delivery = as_one(delivery, only_sound(made) if self._chain.strict else made)
        while True:
            await self._buffer.wait_for_room()
            try:
                self._keep(delivery)
            except Overloaded:
                # There is room, but not for this much, and nobody gets to make more while we ask.
                await self._sleep(_ROOM_AGAIN)
                continue
            return

    def dropped(self, messages: Sequence[Message], rule: str) -> None:
        if self._books is not None:
            self._books.dropped(messages, rule)

    def refused(self, contents: Sequence[bytes], reason: str) -> None:
        if self._books is not None:
            self._books.refused(contents, reason)

    async def _offer_later(self, delivery: Delivery) -> None:
        with Stage(delivery, self.dropped) as stage:
            results = await self._chain.run(stage.batch)
        try:
            self._write(delivery, stage, results)
        except Overloaded as error:
            delivery.settle(error)

    def _write(self, delivery: Delivery, stage: Stage, results: list[Batch]) -> None:
        made = stage.deliveries(results)
        if self._chain.strict:
            made = only_sound(made)
        if made or delivery.checkpoints:
            try:
                self._keep(as_one(delivery, made))
            except Exception as error:
                stage.abandon(error)
                raise

    def _keep(self, delivery: Delivery) -> None:
        attached = self._state.attach(delivery)
        if attached is not None:
            self._buffer.write(attached)
            self._recent.note(attached.batch)


def as_one(delivery: Delivery, made: list[Delivery]) -> Delivery:
    """What processors made of one delivery, as one write, so that its checkpoint is in the same
    transaction as all of its events (and is written even when a rule dropped them all).
    """
    if not made:
        return Delivery([], None, delivery.checkpoints)
    merged = merge(made)
    if delivery.checkpoints:
        merged.checkpoints = delivery.checkpoints
    return merged


class PullInput:
    """Makes an `Input` of a `Puller`: reads at our pace, repeats what was not delivered.

    The end of the source is not the end of the input: what was read is repeated until it is settled.
    """

    def __init__(self, env: Env, puller: Puller) -> None:
        self._env = env
        self._puller = puller
        self._under_way = 0
        self._settled = asyncio.Event()
        self._running = True

    async def run(self, intake: Intake) -> None:
        """See `Input.run`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    try:
                        delivery = await self._puller.read()
                    except EndOfInput:
                        break
                    self._under_way += 1
                    await intake.put(self._repeating(delivery, intake, tasks.create_task, 1))
                while self._under_way:
                    self._settled.clear()
                    await self._settled.wait()
        finally:
            self._running = False

    def _repeating(
        self,
        delivery: Delivery,
        intake: Intake,
        start: Callable[..., object],
        attempt: int,
    ) -> Delivery:
        """A source that is read cannot be told to come again; so we hold on to what failed."""

        def settle(failure: Exception | None) -> None:
            if failure is not None and self._running:
                start(self._repeat(failed_part(delivery, failure), intake, start, attempt))
                return
            delivery.settle(failure)
            self._under_way -= 1
            self._settled.set()

        return Delivery(delivery.batch, settle, delivery.checkpoints)

    async def _repeat(
        self,
        delivery: Delivery,
        intake: Intake,
        start: Callable[..., object],
        attempt: int,
    ) -> None:
        await self._env.sleep(_REPLAY.delay(attempt, self._env.random()))
        await intake.put(self._repeating(delivery, intake, start, attempt + 1))


def failed_part(delivery: Delivery, failure: Exception) -> Delivery:
    """What is left to do of a delivery of which some messages are dealt with."""
    if not isinstance(failure, BatchFailed) or len(failure.errors) >= len(delivery.batch):
        return delivery
    errors = by_index(failure, len(delivery.batch))
    if len(errors) == len(delivery.batch):
        return delivery
    indexes = sorted(errors)
    whole = delivery

    def settle(again: Exception | None) -> None:
        verdicts = by_index(again, len(indexes))
        left = {indexes[at]: error for at, error in verdicts.items()}
        whole.settle(BatchFailed(left) if left else None)

    return Delivery([whole.batch[at] for at in indexes], settle, whole.checkpoints)

"""An output inside another one: its processors, its batching, its counters.

Unlike an output at the root it never repeats by itself: the component it belongs to (`fallback`,
`switch`, `drop_on`) has to see what went wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from openmeter_collector.component.env import Chain, Env
from openmeter_collector.component.output import Output
from openmeter_collector.engine.batching import Batcher, Policy
from openmeter_collector.engine.chain import through
from openmeter_collector.engine.halving import narrowed
from openmeter_collector.errors import CollectorError, Dropped, EndOfInput, Rejected
from openmeter_collector.message import Batch, Delivery, as_failure, by_index
from openmeter_collector.spec.fields import BatchPolicy, MappingText
from openmeter_collector.telemetry.logs import Log


def policy_of(config: object, log: Log | None = None) -> Policy:
    """The batching policy in an output's config; one that never waits when it has none."""
    batching = getattr(config, "batching", None)
    return Policy() if batching is None else policy_from(batching, log)


def policy_from(batching: BatchPolicy, log: Log | None = None) -> Policy:
    """What a policy in a config says."""
    return Policy(
        count=int(batching.count),
        byte_size=int(batching.byte_size),
        period=float(batching.period or 0.0),
        check=None if batching.check is None else _checker(batching.check, log),
    )


def _checker(check: MappingText, log: Log | None) -> Callable[[Batch, int], bool]:
    def ends(batch: Batch, index: int) -> bool:
        try:
            return bool(check.program.check(batch, index))
        except CollectorError as error:
            # A message that cannot be asked ends no batch.
            if log is not None:
                log.debug("batching: check failed", error=str(error))
            return False

    return ends


class ChildOutput:
    """See `component.output.Output`."""

    def __init__(self, env: Env, chain: Chain, output: Output, batch_chain: Chain) -> None:
        self._chain = chain
        self._output = output
        self._batch_chain = batch_chain
        self._policy = policy_of(env.node.config, env.log)
        metrics = env.metrics
        self._sent = metrics.counter("output_sent", "Messages delivered.")
        self._batch_sent = metrics.counter("output_batch_sent", "Batches delivered.")
        self._errors = metrics.counter("output_error", "Failed attempts to write.")
        self._batcher: Batcher | None = None
        policy = self._policy
        if policy.count > 1 or policy.byte_size or policy.period or policy.check:
            self._batcher = Batcher(
                self._policy,
                env.monotonic,
                capacity=2 * (self._policy.count or 4096),
                created=lambda mechanism: metrics.counter(
                    "batch_created", "Batches cut, by reason.", mechanism=mechanism
                ).add(),
            )

    @classmethod
    @asynccontextmanager
    async def running(cls, env: Env, chain: Chain, output: Output) -> AsyncIterator[ChildOutput]:
        """With the tasks that write its batches."""
        batching = getattr(env.node.config, "batching", None)
        nodes = batching.processors if batching is not None else ()
        async with env.processors(nodes) as batch_chain:
            child = cls(env, chain, output, batch_chain)
            if child._batcher is None:
                yield child
                return
            async with asyncio.TaskGroup() as tasks:
                for _ in range(int(getattr(env.node.config, "max_in_flight", 1))):
                    tasks.create_task(child._work(child._batcher))
                try:
                    yield child
                finally:
                    child._batcher.close()

    async def write(self, batch: Batch) -> None:
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def settle(failure: Exception | None) -> None:
            if not done.done():
                done.set_result(failure)

        for delivery in await through(self._chain, Delivery(batch, settle)):
            if self._batcher is None:
                await self._write_now(delivery)
            else:
                await self._batcher.room()
                self._batcher.add(delivery)
        failure = as_failure(by_index(await done, len(batch)), len(batch))
        if failure is not None:
            raise failure

    async def _work(self, batcher: Batcher) -> None:
        while True:
            try:
                delivery = await batcher.take()
            except EndOfInput:
                return
            await self._write_now(delivery)
            del delivery  # not to be held in memory until the next one comes

    async def _write_now(self, delivery: Delivery) -> None:
        """Write a batch; one that is refused is halved, before its processors made one of many,
        until what is refused is alone. The neighbours of a bad message are delivered.
        """
        verdicts = await narrowed(delivery.batch, self._attempt, Rejected)
        delivery.settle(as_failure(verdicts, len(delivery.batch)))

    async def _attempt(self, batch: Batch) -> Exception | None:
        outcome: list[Exception | None] = []
        for one in await through(self._batch_chain, Delivery(batch, outcome.append)):
            try:
                await self._output.write(one.batch)
            except Dropped as error:
                self._sent.add(len(one.batch))
                self._batch_sent.add()
                one.settle(error)
                continue
            except Exception as error:  # noqa: BLE001 - handed up through the settlement
                self._errors.add()
                one.settle(error)
                continue
            self._sent.add(len(one.batch))
            self._batch_sent.add()
            one.settle(None)
        return outcome[0]

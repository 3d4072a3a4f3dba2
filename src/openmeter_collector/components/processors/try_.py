"""Runs processors until one fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    Chain,
    Env,
    Example,
    Processor,
    ProcessorNode,
    field,
    processor,
)
from openmeter_collector.components.processors.common import in_order_of, processor_of

STEPS = Example(
    "Skip the rest when the first step fails",
    """
    pipeline:
      processors:
        - try:
            - mapping: root = content().decode("base64")
            - mapping: root.amount = this.amount.number()
        - catch:
            - log:
                message: 'failed: ${! error() }'
    """,
)


@processor("try", categories=("Composition",), examples=[STEPS], value="processors")
class Try:
    """Runs processors over each message, one at a time, and skips the rest of them once one failed.

    A message that comes flagged passes by all of them. Flags stay; follow with a `catch`.
    """

    processors: list[ProcessorNode] = field(default_factory=list, doc="The steps.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor | AsyncProcessor]:
        async with AsyncExitStack() as stack:
            steps = [await stack.enter_async_context(env.processors([n])) for n in self.processors]
            waits = not all(step.sync for step in steps)
            yield processor_of(_Trier(steps).run, waits=waits)


class _Trier:
    def __init__(self, steps: list[Chain]) -> None:
        self._steps = steps

    async def run(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for message in batch:
            made += await self._try([message])
        return [made] if made else []

    async def _try(self, batch: Batch) -> Batch:
        batches = [batch]
        for step in self._steps:
            results: list[Batch] = []
            for one in batches:
                results += await self._step(step, one)
            batches = results
        return [message for one in batches for message in one]

    async def _step(self, step: Chain, batch: Batch) -> list[Batch]:
        healthy = [message for message in batch if message.error is None]
        if len(healthy) == len(batch):
            return await step.run(batch)
        if not healthy:
            return [batch]
        failed = [message for message in batch if message.error is not None]
        done = [message for one in await step.run(healthy) for message in one]
        return [in_order_of(batch, [*failed, *done])]

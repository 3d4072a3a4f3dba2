"""Runs processors over messages one at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
from openmeter_collector.components.processors.common import flat, processor_of

ALONE = Example(
    "Take no notice of the batch",
    """
    pipeline:
      processors:
        - for_each:
            - mapping: |
                root = this
                root.size_of_batch = batch_size()
    """,
)


@processor("for_each", categories=("Composition",), examples=[ALONE], value="processors")
class ForEach:
    """Runs processors over each message as if it were a batch of its own; then they are one again."""

    processors: list[ProcessorNode] = field(default_factory=list, doc="What to run.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor | AsyncProcessor]:
        async with env.processors(self.processors) as chain:
            yield processor_of(_Each(chain).run, waits=not chain.sync)


class _Each:
    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def run(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for message in batch:
            made += flat(await self._chain.run([message]))
        return [made] if made else []

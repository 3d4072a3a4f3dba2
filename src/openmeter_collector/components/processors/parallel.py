"""Runs processors over messages at the same time."""

from __future__ import annotations

import asyncio
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

LOOK_UP = Example(
    "Look up eight customers at a time",
    """
    pipeline:
      processors:
        - parallel:
            cap: 8
            processors:
              - sleep:
                  duration: 10ms
    """,
)


@processor("parallel", categories=("Composition",), examples=[LOOK_UP])
class Parallel:
    """Runs processors over the messages of a batch at the same time, each as a batch of its own.

    Of use for processors that wait for something. The order stays.
    """

    cap: int = field(default=0, minimum=0, doc="Messages at the same time; 0 is no limit.")
    processors: list[ProcessorNode] = field(default_factory=list, doc="What to run.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor | AsyncProcessor]:
        async with env.processors(self.processors) as chain:
            yield processor_of(_AtOnce(chain, self.cap).run, waits=not chain.sync)


class _AtOnce:
    def __init__(self, chain: Chain, cap: int) -> None:
        self._chain = chain
        self._cap = cap

    async def run(self, batch: Batch) -> list[Batch]:
        made: list[list[Batch]] = []
        if self._chain.sync:
            made = [await self._chain.run([message]) for message in batch]
        else:
            room = asyncio.Semaphore(self._cap or max(1, len(batch)))
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._one([message], room)) for message in batch]
            made = [task.result() for task in running]
        whole = [message for results in made for message in flat(results)]
        return [whole] if whole else []

    async def _one(self, batch: Batch, room: asyncio.Semaphore) -> list[Batch]:
        async with room:
            return await self._chain.run(batch)

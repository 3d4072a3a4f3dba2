"""Tries processors again until they succeed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    Chain,
    Duration,
    Env,
    Example,
    Message,
    ProcessorNode,
    field,
    processor,
    section,
)
from openmeter_collector.components.processors.common import flat

PATIENT = Example(
    "Ask a cache three times more",
    """
    cache_resources:
      - label: plans
        memory: {}
    processor_resources:
      - label: plan
        retry:
          max_retries: 3
          backoff:
            initial_interval: 100ms
          processors:
            - cache:
                resource: plans
                operator: get
                key: ${! json("subject") }
    """,
)


@section
class BackOff:
    """How long to wait between attempts."""

    initial_interval: Duration = field(default=Duration("500ms"), doc="Before the second attempt.")
    max_interval: Duration = field(default=Duration("10s"), doc="The longest.")
    max_elapsed_time: Duration = field(
        default=Duration("1m"), doc="Give up after this time; `0s` is no limit."
    )


@processor("retry", categories=("Composition",), examples=[PATIENT])
class Retry:
    """Runs processors over each message until none of their results is flagged.

    Each attempt begins with the message as it came, which must not be flagged itself: a flag it came
    with is cleared first. After the last attempt the flagged results go on as they are.
    """

    backoff: BackOff = field(default_factory=BackOff, doc="The pauses; they grow by half.")
    processors: list[ProcessorNode] = field(default_factory=list, doc="What is tried.")
    parallel: bool = field(
        default=False,
        doc="Try the messages of a batch at the same time, not one after the other. Their order stays.",
    )
    max_retries: int = field(
        default=0, minimum=0, doc="Attempts after the first; 0 leaves it to the time."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        async with env.processors(self.processors) as chain:
            yield _Retrier(self, chain, env)


class _Retrier:
    def __init__(self, config: Retry, chain: Chain, env: Env) -> None:
        self._config = config
        self._chain = chain
        self._env = env

    async def process(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        if self._config.parallel and len(batch) > 1:
            async with asyncio.TaskGroup() as tasks:
                trying = [
                    tasks.create_task(self._until_it_succeeds(message.with_error(None)))
                    for message in batch
                ]
            made = flat(task.result() for task in trying)
        else:
            for message in batch:
                made += await self._until_it_succeeds(message.with_error(None))
        return [made] if made else []

    async def _until_it_succeeds(self, message: Message) -> Batch:
        pauses = self._config.backoff
        longest, patience = float(pauses.max_interval), float(pauses.max_elapsed_time)
        pause = float(pauses.initial_interval)
        began = self._env.monotonic()
        attempt = 0
        while True:
            results = flat(await self._chain.run([message]))
            attempt += 1
            if all(one.error is None for one in results):
                return results
            if self._config.max_retries and attempt > self._config.max_retries:
                return results
            wait = min(pause, longest) * (0.5 + self._env.random())
            if patience and self._env.monotonic() + wait - began > patience:
                return results
            await self._env.sleep(wait)
            pause *= 1.5

"""Deals with messages on which a processor failed."""

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
from openmeter_collector.components.processors.common import processor_of

REPLACE = Example(
    "Note what went wrong and go on",
    """
    pipeline:
      processors:
        - mapping: root.amount = this.amount.number()
        - catch:
            - log:
                level: ERROR
                message: 'no amount: ${! error() }'
            - mapping: root = deleted()
    """,
)


@processor("catch", categories=("Composition",), examples=[REPLACE], value="processors")
class Catch:
    """Runs processors over each message that is flagged as failed, one at a time; others pass by.

    Within them `error()` says what went wrong. Afterwards no message is flagged any more, not even
    one on which a processor of the list failed: check `errored()` at its end, or use `switch`,
    where that matters.
    """

    processors: list[ProcessorNode] = field(
        default_factory=list, doc="What to do with a failed message."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor | AsyncProcessor]:
        async with env.processors(self.processors) as chain:
            yield _Passing(chain) if chain.sync else processor_of(_Catcher(chain).run, waits=True)


class _Catcher:
    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def run(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for message in batch:
            if message.error is None:
                made.append(message)
                continue
            for result in await self._chain.run([message]):
                made += [one.with_error(None) for one in result]
        return [made] if made else []


class _Passing:
    """The same without waiting. Most batches have nothing flagged in them, which costs one look."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def process(self, batch: Batch) -> list[Batch]:
        for message in batch:
            if message.error is not None:
                return self._caught(batch)
        return [batch]

    def _caught(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for message in batch:
            if message.error is None:
                made.append(message)
                continue
            for result in self._chain.run_sync([message]):
                made += [one.with_error(None) for one in result]
        return [made] if made else []

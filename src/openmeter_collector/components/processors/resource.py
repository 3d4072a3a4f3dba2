"""A processor that is written somewhere else."""

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
    ProcessorRef,
    field,
    processor,
)
from openmeter_collector.components.processors.common import processor_of

SHARED = Example(
    "The same steps in two places",
    """
    processor_resources:
      - label: tidy
        mapping: root = this.without("internal")
      - label: tidy_twice
        for_each:
          - resource: tidy
    """,
)


@processor("resource", categories=("Utility",), examples=[SHARED], value="resource")
class Resource:
    """Runs a processor of `processor_resources`. All places that name it share the one."""

    resource: ProcessorRef = field(doc="Its label.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor | AsyncProcessor]:
        try:
            waits = not env.processor_resource(self.resource).sync
        except KeyError:  # a resource further down, not opened yet
            waits = True
        yield processor_of(_Shared(self.resource, env).run, waits=waits)


class _Shared:
    def __init__(self, label: str, env: Env) -> None:
        self._label = label
        self._env = env
        self._chain: Chain | None = None

    async def run(self, batch: Batch) -> list[Batch]:
        if self._chain is None:
            self._chain = self._env.processor_resource(self._label)
        return await self._chain.run(batch)

"""Holds other processors together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Env,
    Example,
    Processor,
    ProcessorNode,
    field,
    processor,
)
from openmeter_collector.components.processors.common import processor_of

GROUP = Example(
    "Name a group of steps, so that a unit test can take its place",
    """
    pipeline:
      processors:
        - label: enrich
          processors:
            - mapping: root.region = "eu"
            - json_schema:
                schema_path: file://./cloudevents.spec.json
    """,
)


@processor("processors", categories=("Composition",), examples=[GROUP], value="processors")
class Processors:
    """Runs processors one after the other, as they would run without it.

    Good for giving several one label, and for making one resource of them.
    """

    processors: list[ProcessorNode] = field(default_factory=list, doc="What to run.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor | AsyncProcessor]:
        async with env.processors(self.processors) as chain:
            yield processor_of(chain.run, waits=not chain.sync)

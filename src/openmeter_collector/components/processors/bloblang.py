"""The `mapping` processor under the name it once had."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Env, Example, MappingText, Processor, field, processor
from openmeter_collector.components.processors.mapping import Mapper

OLD = Example(
    "As it is written in old configs",
    """
    pipeline:
      processors:
        - bloblang: root.id = this.request_id
    """,
)


@processor(
    "bloblang",
    categories=("Mapping", "Parsing"),
    examples=[OLD],
    value="mapping",
)
class Bloblang:
    """Runs a mapping over each message, as `mapping` does. Write `mapping` in new configs."""

    mapping: MappingText = field(doc="The mapping.", examples=["root = this.event"])

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield Mapper(self.mapping.program.run, env)

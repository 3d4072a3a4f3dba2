"""Changes messages in place, as far as a mapping says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Env, Example, MappingText, Processor, field, processor
from openmeter_collector.components.processors.mapping import Mapper

STAMP = Example(
    "Set two fields and leave the rest alone",
    """
    pipeline:
      processors:
        - mutation: |
            root.source = "gateway"
            root.data.internal = deleted()
    """,
)


@processor("mutation", categories=("Mapping", "Parsing"), examples=[STAMP], value="mutation")
class Mutation:
    """Runs a mapping over each message in which `root` starts as the message itself.

    What is not assigned stays. `this` sees what was assigned so far. When it fails, what was
    assigned before stays, and the message is flagged; use `mapping` where that must not be.
    """

    mutation: MappingText = field(doc="The mapping.", examples=['root.source = "gateway"'])

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield Mapper(self.mutation.program.mutate, env, partial=True)

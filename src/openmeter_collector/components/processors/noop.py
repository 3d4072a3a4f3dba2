"""Does nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Batch, Env, Example, Processor, processor

LEAVE = Example(
    "Leave some messages as they are",
    """
    pipeline:
      processors:
        - switch:
            - check: this.type == "raw"
              processors:
                - noop: {}
            - processors:
                - mapping: root = this.event
    """,
)


@processor("noop", categories=("Utility",), examples=[LEAVE])
class Noop:
    """Passes messages on as they are. For places where a processor has to stand."""

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        del env
        yield _Nothing()


class _Nothing:
    def process(self, batch: Batch) -> list[Batch]:
        return [batch]

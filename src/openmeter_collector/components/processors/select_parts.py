"""Keeps some messages of a batch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Batch, Env, Example, Processor, field, processor

FIRST = Example(
    "Only the first of each batch",
    """
    pipeline:
      processors:
        - select_parts:
            parts: [0]
    """,
)


@processor("select_parts", categories=("Utility",), examples=[FIRST])
class SelectParts:
    """Keeps the messages of a batch at some places, in the order they are named; others are dropped.

    A place that the batch does not have is passed over.
    """

    parts: list[int] = field(
        default_factory=list, doc="Places from 0; negative numbers count from behind."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        del env
        yield _Selector(self.parts)


class _Selector:
    def __init__(self, parts: list[int]) -> None:
        self._parts = parts

    def process(self, batch: Batch) -> list[Batch]:
        count = len(batch)
        kept = [batch[part] for part in self._parts if -count <= part < count]
        return [kept] if kept else []

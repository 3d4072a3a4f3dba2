"""Adds a message to a batch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    Env,
    Example,
    Interpolated,
    Message,
    Processor,
    field,
    processor,
)
from openmeter_collector.bloblang import MappingFailed
from openmeter_collector.components.processors.common import Flag, joined_origin

HEADER = Example(
    "A line before the others",
    """
    pipeline:
      processors:
        - insert_part:
            index: 0
            content: id,subject
        - archive:
            format: lines
    """,
)


@processor("insert_part", categories=("Composition",), examples=[HEADER])
class InsertPart:
    """Adds a message to each batch. It has the metadata of the first one.

    When its content cannot be made, the batch stays as it is, flagged.
    """

    index: int = field(
        default=-1, doc="Where; negative numbers count from behind, -1 is after the last."
    )
    content: Interpolated = field(
        default_factory=lambda: Interpolated(""), doc="What is in it, made from the first message."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield _Inserter(self, env)


class _Inserter:
    def __init__(self, config: InsertPart, env: Env) -> None:
        self._config = config
        self._flag = Flag(env)

    def process(self, batch: Batch) -> list[Batch]:
        if not batch:
            return []
        try:
            text = self._config.content.resolve(batch, 0)
        except MappingFailed as error:
            return [[self._flag(message, error) for message in batch]]
        first = batch[0]
        # It stands for the whole batch: when it fails, nobody can say whose fault it was.
        new = Message(
            text.encode("utf-8", "surrogateescape"),
            first.metadata,
            origin=joined_origin(batch),
            context=first.context,
        )
        index = self._config.index
        at = max(0, len(batch) + 1 + index) if index < 0 else min(index, len(batch))
        return [[*batch[:at], new, *batch[at:]]]

"""Makes batches of messages with the same value."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    Env,
    Example,
    Interpolated,
    Processor,
    field,
    processor,
)
from openmeter_collector.bloblang import MappingFailed
from openmeter_collector.components.processors.common import Flag

BY_SUBJECT = Example(
    "A batch for each customer",
    """
    pipeline:
      processors:
        - group_by_value:
            value: ${! json("subject") }
        - archive:
            format: json_array
    """,
)


@processor("group_by_value", categories=("Composition",), examples=[BY_SUBJECT])
class GroupByValue:
    """Divides a batch by a value of its messages; each value is a batch of its own from here.

    Messages whose value cannot be made are flagged and make a batch of their own.
    """

    value: Interpolated = field(
        doc="What messages of a batch have in common.", examples=['${! json("subject") }']
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield _Grouping(self.value, Flag(env))


class _Grouping:
    def __init__(self, value: Interpolated, flag: Flag) -> None:
        self._value = value
        self._flag = flag

    def process(self, batch: Batch) -> list[Batch]:
        groups: dict[str, Batch] = {}
        failed: Batch = []
        for index, message in enumerate(batch):
            try:
                value = self._value.resolve(batch, index)
            except MappingFailed as error:
                failed.append(self._flag(message, f"group value interpolation error: {error}"))
            else:
                groups.setdefault(value.strip(), []).append(message)
        return [*groups.values(), failed] if failed else list(groups.values())

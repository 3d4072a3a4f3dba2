"""Rows of messages, for `sql_insert` as output and as processor."""

from __future__ import annotations

from openmeter_collector.api import Batch, CollectorError, MappingText, Value
from openmeter_collector.components.sql.building import arguments


def values_of(
    mapping: MappingText, batch: Batch, columns: int
) -> tuple[dict[int, list[Value]], dict[int, Exception]]:
    """By index in the batch: the values of a row, or why there are none."""
    made: dict[int, list[Value]] = {}
    failed: dict[int, Exception] = {}
    for index in range(len(batch)):
        try:
            values = arguments(mapping, batch, index)
        except (CollectorError, ValueError, RecursionError) as error:
            failed[index] = error
            continue
        if len(values) == columns:
            made[index] = values
        else:
            failed[index] = ValueError(
                f"args_mapping gave {len(values)} values, there are {columns} columns"
            )
    return made, failed

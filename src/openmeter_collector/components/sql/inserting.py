"""Rows of messages, for `sql_insert` as output and as processor."""

from __future__ import annotations

from openmeter_collector.api import Batch, CollectorError, MappingText, Value, field, section
from openmeter_collector.components.sql.building import arguments
from openmeter_collector.components.sql.contract import Insert
from openmeter_collector.components.sql.fields import SqlConnection


@section
class SqlTarget(SqlConnection):
    """A database, and the table that rows go to."""

    table: str = field(doc="The table.")
    columns: list[str] = field(minimum=1, doc="Its columns.", examples=[["id", "subject"]])
    args_mapping: MappingText = field(
        doc="Makes an array with a value for each column.",
        examples=["root = [ this.id, this.subject ]"],
    )
    prefix: str = field(default="", advanced=True, doc="Put before the INSERT.")
    suffix: str = field(
        default="",
        advanced=True,
        doc="Put at the end of the query.",
        examples=["ON CONFLICT (id) DO NOTHING"],
    )
    options: list[str] = field(
        default_factory=list,
        advanced=True,
        doc="Words between INSERT and INTO.",
        examples=[["IGNORE"]],
    )

    def insert(self) -> Insert:
        """Where rows go."""
        return Insert(self.table, self.columns, self.prefix, self.suffix, self.options)


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

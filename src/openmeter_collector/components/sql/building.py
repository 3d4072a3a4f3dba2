"""Queries from fields, and their values from mappings."""

from __future__ import annotations

from collections.abc import Sequence

from openmeter_collector.api import Batch, MappingText, Value
from openmeter_collector.bloblang import DELETED, NOTHING
from openmeter_collector.components.sql.contract import Database, Statement
from openmeter_collector.components.sql.statements import numbered


def select(
    columns: Sequence[str],
    table: str,
    *,
    where: str = "",
    prefix: str = "",
    order: str = "",
    suffix: str = "",
) -> str:
    """A SELECT statement; the parts are the operator's own words."""
    parts = [prefix, f"SELECT {', '.join(columns)} FROM {table}"]  # noqa: S608 - a config is no input
    if where:
        parts.append(f"WHERE {where}")
    if order:
        parts.append(f"ORDER BY {order}")
    parts.append(suffix)
    return " ".join(part for part in parts if part)


def in_own_style(database: Database, query: str) -> str:
    """A query whose placeholders are `?`, as the driver wants it."""
    return numbered(query) if database.numbered else query


def arguments(mapping: MappingText | None, batch: Batch, index: int) -> list[Value]:
    """The values for a statement.

    Raises:
        ValueError: the mapping gives something else than an array.
        MappingFailed: it fails.
    """
    if mapping is None:
        return []
    body, _ = mapping.program.run(batch, index)
    if body is NOTHING:
        body = batch[index].structured()
    if body is DELETED or not isinstance(body, list):
        kind = "nothing" if body is DELETED else type(body).__name__
        raise ValueError(f"args_mapping gave {kind}; it must give an array, such as [ this.id ]")
    return body


def statement(database: Database, query: str, args: Sequence[Value]) -> Statement:
    """A statement whose placeholders are `?`."""
    return Statement(in_own_style(database, query), args)

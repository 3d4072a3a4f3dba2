"""Rows of tuples as blocks."""

from __future__ import annotations

from collections.abc import Sequence

from openmeter_collector.api import ConfigError, Rejected, Value
from openmeter_collector.components.sql.contract import Block, Row


def block_of(names: Sequence[str], rows: Sequence[Sequence[Value]], marks: Sequence[str]) -> Block:
    """Rows with their marks.

    Raises:
        ConfigError: there is no column of that name.
    """
    made = [dict(zip(names, row, strict=True)) for row in rows]
    return Block(made, marks_of(names, made, marks))


def marks_of(
    names: Sequence[str], rows: Sequence[Row], marks: Sequence[str]
) -> list[tuple[Value, ...]]:
    """The values of some columns; see `block_of`."""
    for mark in marks:
        if mark not in names:
            raise ConfigError(
                f"cursor: the result has no column {mark!r}, it has {', '.join(names)}; "
                "select it, by that name"
            )
    return [tuple(row[mark] for mark in marks) for row in rows] if marks else []


def too_many(most: int) -> Rejected:
    """A result is larger than a message should hold."""
    return Rejected(f"the result has more than {most} rows; put a LIMIT into the query")

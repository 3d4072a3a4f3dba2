"""How far a table has been read: a column that only grows, with a key for rows that share a value."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openmeter_collector.api import ConfigError, Duration, Value, field, section
from openmeter_collector.values import json


@section
class Cursor:
    """Reads on where the last run stopped."""

    column: str = field(
        default="",
        doc="A column that grows with every new row, or change, and is selected: a serial number, a "
        "time of the last change. Empty is no cursor. Rows in which it is NULL are never read.",
    )
    key: list[str] = field(
        default_factory=list,
        doc="Columns that tell apart rows with the same value of `column`, such as the primary key. "
        "Without them, rows that get a value that has been read already are not seen.",
    )
    initial: Any = field(
        default=None,
        doc="Where to start when nothing was read yet, this value included. Null is the beginning.",
        examples=["2026-01-01T00:00:00Z", 1000],
    )
    lag: Duration = field(
        default=Duration("0s"),
        doc="How late a row may become visible: longer than the longest transaction that writes. Rows "
        "are read up to the greatest value that there was so long ago, so a row that becomes visible "
        "behind a later one is not missed.",
    )
    page_size: int = field(
        default=100_000,
        minimum=1,
        maximum=10_000_000,
        advanced=True,
        doc="Rows asked for in one query.",
    )


@dataclass(frozen=True, slots=True)
class Position:
    """The last row that was read: the value of the cursor's column and of its key."""

    mark: tuple[Value, ...]

    def to_bytes(self, columns: Sequence[str]) -> bytes:
        """As it is kept."""
        return json.dumps({"columns": list(columns), "mark": list(self.mark)})


def position_from(data: bytes | None, columns: Sequence[str], where: str) -> Position | None:
    """What was kept, None when there was nothing.

    Raises:
        ConfigError: it was kept for other columns.
    """
    if data is None:
        return None
    kept = json.loads(data)
    if kept["columns"] != list(columns):
        raise ConfigError(
            f"{where}: the position that is kept is one in {', '.join(kept['columns'])}, the cursor is "
            f"now {', '.join(columns)}; give the input another label to begin anew"
        )
    return Position(tuple(kept["mark"]))


def name_of(column: str) -> str:
    """What a column is called in the result."""
    return column.rpartition(".")[2].strip('"`')


class SeenMarks:
    """The greatest value there was, and when: what is old enough to be read up to.

    Whoever took a number before that moment and commits within the lag is seen.
    """

    def __init__(self, lag: float) -> None:
        self._lag = lag
        self._seen: deque[tuple[float, Value]] = deque()

    def add(self, moment: float, value: Value) -> None:
        """The greatest value at a moment."""
        if value is not None:
            self._seen.append((moment, value))

    def old_enough(self, now: float) -> Value:
        """The newest value that is as old as the lag; None when there is none."""
        while len(self._seen) > 1 and self._seen[1][0] <= now - self._lag:
            self._seen.popleft()
        return self._seen[0][1] if self._seen and self._seen[0][0] <= now - self._lag else None

    def wait(self, now: float) -> float:
        """Seconds until the oldest one is old enough; 0 when there is none to wait for."""
        return max(0.0, self._seen[0][0] + self._lag - now) if self._seen else 0.0

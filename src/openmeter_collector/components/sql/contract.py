"""What a driver is to the components: one database, asked through a handful of calls.

Errors leave a driver as the collector's own: `Rejected` when the data was refused (a value that does
not fit, a broken constraint), `Retryable` for everything else, because a table that is missing today
may be there tomorrow and nothing may be lost over it. Texts are the server's; they never hold the DSN.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from openmeter_collector.api import Value

Row = dict[str, Value]
"""A row as JSON-like values, by column name."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a driver connects and what it makes of values.

    Attributes:
        driver: as the config names it.
        dsn: where the database is. A secret: it holds the password.
        where: names the component in texts.
        structured: JSON columns and arrays become values, bytes become base64; else they are text.
        exact_numbers: decimals become JSON numbers with all their digits; else they are text.
    """

    driver: str
    dsn: str
    where: str
    structured: bool = False
    exact_numbers: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with its placeholders in the driver's own style, and the values for them."""

    query: str
    args: Sequence[Value] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a result, in order.

    Attributes:
        marks: for each row, the values of the columns that were asked for, in a form that
            `Database.argument` turns back into an argument.
    """

    rows: list[Row]
    marks: list[tuple[Value, ...]]


class Database(Protocol):
    """A database, connected to when it is needed."""

    numbered: bool
    """Placeholders are `$1`, not `?`."""

    def stream(
        self, statement: Statement, size: int, marks: Sequence[str] = ()
    ) -> AsyncGenerator[Block, None]:
        """The rows of a result in blocks of at most `size`, read as they are taken."""

    async def run(self, statements: Sequence[Statement], most: int) -> list[list[Row]]:
        """Run statements in one transaction, where the database has them.

        Args:
            most: rows of one result at most; more is an error.

        Returns:
            The rows of each.
        """

    async def insert(self, insert: Insert, rows: Sequence[Sequence[Value]]) -> None:
        """Insert rows, all or none where the database can."""

    async def script(self, text: str) -> None:
        """Run statements that give no rows, one after the other."""

    def argument(self, mark: Value) -> Value:
        """A mark of a block as an argument of a later query."""

    async def close(self) -> None:
        """Close what is open."""


@dataclass(frozen=True, slots=True)
class Insert:
    """Where rows go: the parts of an INSERT statement, written by the operator."""

    table: str
    columns: Sequence[str]
    prefix: str = ""
    suffix: str = ""
    options: Sequence[str] = ()

    def head(self) -> str:
        """Everything before the values."""
        words = ("INSERT", *self.options, "INTO", self.table)
        text = f"{' '.join(words)} ({', '.join(self.columns)}) "
        return f"{self.prefix} {text}" if self.prefix else text

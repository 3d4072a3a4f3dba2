"""Reads rows of a table: once, at intervals, or on from where the last run stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    ConfigError,
    Env,
    Example,
    Input,
    Puller,
    Value,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.inputs.sql_polling import SqlPolling, opened
from openmeter_collector.components.sql.building import select, statement
from openmeter_collector.components.sql.contract import Database, Statement
from openmeter_collector.components.sql.fields import open_database
from openmeter_collector.components.sql.reading import Asked, Plan

LAST_SECONDS = Example(
    "The rows of the last thirty seconds, once",
    """
    input:
      sql_select:
        driver: postgres
        dsn: postgres://meter:${DB_PASSWORD}@db:5432/shop?sslmode=require
        table: orders
        columns: [ id, customer, amount, created_at ]
        where: created_at >= ?
        args_mapping: root = [ now().ts_sub_iso8601("PT30S") ]
    """,
)
FOLLOW = Example(
    "Every new row exactly once, also after a crash",
    """
    input:
      label: orders
      sql_select:
        driver: postgres
        dsn: postgres://meter:${DB_PASSWORD}@db:5432/shop?sslmode=require
        table: orders
        columns: [ id, customer, amount, created_at ]
        cursor:
          column: created_at
          key: [ id ]
          lag: 30s
        interval: 10s
    """,
)


@input("sql_select", categories=("Services",), examples=[LAST_SECONDS, FOLLOW])
class SqlSelect(SqlPolling):
    """Makes a message of each row of a SELECT: an object with a field for each column.

    Without `cursor` and `interval` the query is run once, and the input ends with its result.

    With `cursor` only rows that were not read before are asked for. The position is kept in the
    buffer, in the same transaction as the rows, so that a crash neither loses a row nor reads one
    twice. With `interval` too, the query is run again and again.

    With `interval` alone, each run is about one window of time: `args_mapping` sees its edges as
    `this.window.from` (included) and `this.window.to` (not). Windows follow each other without a gap;
    one that failed, or in which the collector did not run, is asked for later, see `catch_up` and
    `openmeter-collector gaps`. Messages have the metadata `window_start` and `window_end`. A window whose
    rows were handed over in part is asked for again as a whole: give its events ids that stay the same.

    Times are RFC 3339, in UTC where the database knows the moment; a date is its midnight. Integers
    keep all their digits. A result is never held in memory as a whole.

    With leader election, runs only on the leader; give the replicas a shared `state`, or a new leader
    begins where its own journal ends.
    """

    table: str = field(doc="The table, or whatever can stand after FROM.", examples=["orders"])
    columns: list[str] = field(
        minimum=1, doc="Columns, or expressions with a name.", examples=[["*"], ["id", "amount"]]
    )
    where: str = field(
        default="",
        doc="Which rows, without the word WHERE. `?` stands for the values of `args_mapping`, whatever "
        "the driver; `??` is a question mark.",
        examples=["type = ? and created_at > ?"],
    )
    prefix: str = field(default="", advanced=True, doc="Put before the SELECT.")
    suffix: str = field(
        default="", advanced=True, doc="Put at the end of the query.", examples=["ORDER BY id"]
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller | Input]:
        if self.cursor.column and "order by" in self.suffix.lower():
            raise ConfigError(f"{env.node.display()}: suffix: the cursor orders the rows itself")
        async with open_database(self, env, verify=True) as database:
            plan = Plan(
                _Select(self, database),
                self.args_mapping,
                self.cursor if self.cursor.column else None,
                self.schedule(),
                self.batch_size,
                pages=True,
            )
            async with opened(self, plan, database, env) as reader:
                yield reader


class _Select:
    """See `reading.Query`."""

    def __init__(self, config: SqlSelect, database: Database) -> None:
        self._config = config
        self._database = database
        self._cursor = config.cursor

    def statement(self, asked: Asked) -> Statement:
        if not self._cursor.column:
            return self._made(self._config.where, asked.args)
        column = self._cursor.column
        terms = [f"({self._config.where})"] if self._config.where else []
        args = list(asked.args)
        if asked.after is not None:
            term, more = _after((column, *self._cursor.key), asked.after)
            terms.append(term)
            args += more
        elif asked.first is not None:
            terms.append(f"{column} >= ?")
            args.append(asked.first)
        else:
            terms.append(f"{column} IS NOT NULL")
        if asked.until is not None:
            terms.append(f"{column} <= ?")
            args.append(asked.until)
        order = ", ".join((column, *self._cursor.key))
        return self._made(" AND ".join(terms), args, order, f"LIMIT {self._cursor.page_size} ")

    def greatest(self, args: Sequence[Value]) -> Statement:
        query = select(
            [f"max({self._cursor.column}) AS greatest"],
            self._config.table,
            where=self._config.where,
            prefix=self._config.prefix,
        )
        return statement(self._database, query, args)

    def _made(
        self, where: str, args: Sequence[Value], order: str = "", limit: str = ""
    ) -> Statement:
        query = select(
            self._config.columns,
            self._config.table,
            where=where,
            prefix=self._config.prefix,
            order=order,
            suffix=(limit + self._config.suffix).rstrip(),
        )
        return statement(self._database, query, args)


def _after(columns: Sequence[str], marks: Sequence[Value]) -> tuple[str, list[Value]]:
    """Rows after one, in the order of some columns. Written out, because not every database uses an
    index for the comparison of tuples; the first term is what it is used for.
    """
    first, *rest = columns
    value, *others = marks
    if not rest:
        return f"{first} > ?", [value]
    term, args = _after(rest, others)
    return f"{first} >= ? AND ({first} > ? OR ({term}))", [value, value, *args]

"""Reads the result of any query: once, at intervals, or on from where the last run stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Env,
    Example,
    Input,
    Puller,
    Value,
    field,
    input,  # noqa: A004
    section,
)
from openmeter_collector.components.inputs.sql_polling import SqlPolling, opened
from openmeter_collector.components.sql.contract import Statement
from openmeter_collector.components.sql.fields import open_database
from openmeter_collector.components.sql.position import Cursor
from openmeter_collector.components.sql.reading import Asked, Plan

HOURLY = Example(
    "The sums of each hour",
    """
    input:
      sql_raw:
        driver: postgres
        dsn: postgres://meter:${DB_PASSWORD}@db:5432/shop?sslmode=require
        query: |
          SELECT customer, date_trunc('hour', created_at) AS hour, sum(amount) AS amount
          FROM orders WHERE created_at >= $1 AND created_at < $2 GROUP BY 1, 2
        args_mapping: root = [ this.window.from, this.window.to ]
        interval: 0 * * * *
    """,
)
JOIN = Example(
    "New rows of a join, exactly once",
    """
    input:
      label: line_items
      sql_raw:
        driver: mysql
        dsn: meter:${DB_PASSWORD}@tcp(db:3306)/shop?parseTime=true
        query: |
          SELECT i.id, o.customer, i.quantity FROM items i JOIN orders o ON o.id = i.order_id
          WHERE i.id > ? ORDER BY i.id LIMIT 1000
        args_mapping: root = [ this.cursor.value ]
        cursor: { column: id, initial: 0 }
        interval: 10s
    """,
)


@section
class RawCursor(Cursor):
    """Reads on where the last run stopped."""

    greatest: str = field(
        default="",
        doc="With `lag`: a query for the greatest value of `column` that there is, called `greatest`. The "
        "main query then has to ask for rows up to `this.cursor.until`.",
        examples=["SELECT max(id) AS greatest FROM orders"],
    )


def _check_cursor(cursor: RawCursor) -> str | None:
    if cursor.lag and not cursor.greatest:
        return (
            "lag needs to know how far the table reaches, which cannot be read off a query of yours; "
            "set cursor.greatest, and ask for rows up to this.cursor.until"
        )
    if cursor.greatest and not cursor.lag:
        return "cursor.greatest is for cursor.lag, which is not set"
    return None


@input("sql_raw", categories=("Services",), examples=[HOURLY, JOIN])
class SqlRaw(SqlPolling):
    """Makes a message of each row of a query's result: an object with a field for each column.

    Placeholders are the driver's own: `$1` for `postgres`, `?` for `mysql`, `sqlite` and `duckdb`,
    either for `clickhouse`. Values, `interval` and `cursor` work as for `sql_select`, except that the
    query is yours: with a cursor it has to ask for the rows after `this.cursor.value` (and
    `this.cursor.key`), in the order of the cursor's columns. It is then run until it gives no rows. With
    `cursor.lag` it has to end at `this.cursor.until`, too, and `cursor.greatest` says how far there is
    something to read.
    """

    query: str = field(doc="The query.", minimum=1)
    cursor: RawCursor = field(
        default_factory=RawCursor,
        ours=True,
        doc="Read on where the last run stopped.",
        lint=_check_cursor,
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller | Input]:
        cursor = self.cursor if self.cursor.column else None
        async with open_database(self, env, verify=True) as database:
            plan = Plan(
                _Raw(self.query, self.cursor.greatest),
                self.args_mapping,
                cursor,
                self.schedule(),
                self.batch_size,
                pages=False,
            )
            async with opened(self, plan, database, env) as reader:
                yield reader


class _Raw:
    """See `reading.Query`."""

    def __init__(self, query: str, greatest: str) -> None:
        self._query = query
        self._greatest = greatest

    def statement(self, asked: Asked) -> Statement:
        return Statement(self._query, asked.args)

    def greatest(self, args: Sequence[Value]) -> Statement:
        del args
        return Statement(self._greatest)

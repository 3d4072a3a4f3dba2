"""Looks up rows for each message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    CollectorError,
    Env,
    Example,
    MappingText,
    Message,
    field,
    processor,
)
from openmeter_collector.components.processors.common import Flag
from openmeter_collector.components.sql.building import arguments, select, statement
from openmeter_collector.components.sql.contract import Database
from openmeter_collector.components.sql.fields import SqlConnection, open_database

MOST_ROWS = 100_000
"""Rows in one message at most."""
PLAN = Example(
    "Add a customer's plan to its events",
    """
    pipeline:
      processors:
        - branch:
            processors:
              - sql_select:
                  driver: mysql
                  dsn: meter:${DB_PASSWORD}@tcp(db:3306)/shop
                  table: customers
                  columns: [ plan ]
                  where: id = ?
                  args_mapping: root = [ this.subject ]
            result_map: root.data.plan = this.index(0).plan
    """,
)


@processor("sql_select", categories=("Integration",), examples=[PLAN])
class SqlSelect(SqlConnection):
    """Runs a SELECT for each message and replaces its content by the rows: an array of objects.

    If the query fails, the message stays as it is and is flagged. More than 100,000 rows are an error.
    """

    table: str = field(doc="The table, or whatever can stand after FROM.")
    columns: list[str] = field(
        minimum=1, doc="Columns, or expressions with a name.", examples=[["*"], ["id", "plan"]]
    )
    where: str = field(
        default="",
        doc="Which rows, without the word WHERE. `?` stands for the values of `args_mapping`, whatever "
        "the driver.",
        examples=["id = ?"],
    )
    args_mapping: MappingText | None = field(
        default=None,
        doc="Makes an array of the values for `where`.",
        examples=["root = [ this.subject ]"],
    )
    prefix: str = field(default="", advanced=True, doc="Put before the SELECT.")
    suffix: str = field(
        default="", advanced=True, doc="Put at the end of the query.", examples=["LIMIT 1"]
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        async with open_database(self, env) as database:
            yield _Selector(self, database, env)


class _Selector:
    def __init__(self, config: SqlSelect, database: Database, env: Env) -> None:
        self._mapping = config.args_mapping
        self._database = database
        self._flag = Flag(env)
        self._query = select(
            config.columns,
            config.table,
            where=config.where,
            prefix=config.prefix,
            suffix=config.suffix,
        )

    async def process(self, batch: Batch) -> list[Batch]:
        made = [await self._looked_up(batch, index) for index in range(len(batch))]
        return [made] if made else []

    async def _looked_up(self, batch: Batch, index: int) -> Message:
        try:
            args = arguments(self._mapping, batch, index)
            asked = statement(self._database, self._query, args)
            (rows,) = await self._database.run([asked], MOST_ROWS)
        except (CollectorError, ValueError, RecursionError) as error:
            return self._flag(batch[index], error)
        return batch[index].with_value(rows)

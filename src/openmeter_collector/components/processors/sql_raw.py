"""Runs statements for each message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    CollectorError,
    Env,
    Example,
    Message,
    field,
    processor,
)
from openmeter_collector.components.processors.common import Flag
from openmeter_collector.components.processors.sql_select import MOST_ROWS
from openmeter_collector.components.sql.contract import Database
from openmeter_collector.components.sql.fields import open_database
from openmeter_collector.components.sql.statements_fields import (
    Prepared,
    RawStatement,
    SqlStatements,
    prepared,
)

COUNT = Example(
    "Count events and add the count to each",
    """
    pipeline:
      processors:
        - branch:
            processors:
              - sql_raw:
                  driver: postgres
                  dsn: postgres://meter:${DB_PASSWORD}@db:5432/usage?sslmode=require
                  query: UPDATE counts SET n = n + 1 WHERE subject = $1 RETURNING n
                  args_mapping: root = [ this.subject ]
            result_map: root.data.n = this.index(0).n
    """,
)


@processor("sql_raw", categories=("Integration",), examples=[COUNT])
class SqlRaw(SqlStatements):
    """Runs a statement for each message and replaces its content by the rows: an array of objects.

    Several statements (`queries`) are run in one transaction. With `exec_only` the message stays as it
    is. If anything fails, the message stays as it is and is flagged.

    Placeholders are the driver's own: `$1` for `postgres`, `?` for `mysql`, `sqlite` and `duckdb`,
    either for `clickhouse`.
    """

    queries: list[RawStatement] = field(
        default_factory=list, doc="Statements to run after `query`, in the same transaction."
    )
    exec_only: bool = field(default=False, doc="The result is of no interest: the message stays.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        ready = prepared(env, self, self.queries, exec_only=self.exec_only)
        async with open_database(self, env) as database:
            yield _Runner(ready, database, env)


class _Runner:
    def __init__(self, ready: Prepared, database: Database, env: Env) -> None:
        self._prepared = ready
        self._database = database
        self._flag = Flag(env)

    async def process(self, batch: Batch) -> list[Batch]:
        made = [await self._run(batch, index) for index in range(len(batch))]
        return [made] if made else []

    async def _run(self, batch: Batch, index: int) -> Message:
        wanted = self._prepared.wanted
        try:
            statements = self._prepared.statements(batch, index)
            results = await self._database.run(statements, 0 if wanted < 0 else MOST_ROWS)
        except (CollectorError, ValueError, RecursionError) as error:
            return self._flag(batch[index], error)
        return batch[index] if wanted < 0 else batch[index].with_value(results[wanted])

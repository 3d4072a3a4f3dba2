"""Inserts a row for each message. A batch is one transaction: all of its rows are there, or none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    BatchPolicy,
    CollectorError,
    Env,
    Example,
    Output,
    Rejected,
    as_failure,
    field,
    output,
)
from openmeter_collector.components.sql.contract import Database
from openmeter_collector.components.sql.fields import open_database
from openmeter_collector.components.sql.inserting import SqlTarget, values_of

EVENTS = Example(
    "Keep a copy of every event, once",
    """
    output:
      sql_insert:
        driver: postgres
        dsn: postgres://meter:${DB_PASSWORD}@db:5432/usage?sslmode=require
        table: events
        columns: [ source, id, subject, data ]
        args_mapping: root = [ this.source, this.id, this.subject, this.data.format_json() ]
        suffix: ON CONFLICT (source, id) DO NOTHING
        batching:
          count: 500
          period: 1s
    """,
)


@output("sql_insert", categories=("Services",), examples=[EVENTS])
class SqlInsertOutput(SqlTarget):
    """Inserts a row for each message, a batch in one transaction (ClickHouse: in one insert).

    What the database refuses because of the data, such as a value that does not fit, is narrowed down
    to the message concerned, which becomes a dead letter; its neighbours are inserted. Everything else
    is tried again. A connection that is lost while it commits leaves open whether it did: let the
    table refuse duplicates, and say so in `suffix` (`ON CONFLICT DO NOTHING`).
    """

    max_in_flight: int = field(default=64, minimum=1, doc="Inserts under way at the same time.")
    batching: BatchPolicy = field(
        default_factory=BatchPolicy, doc="How rows are put together into one insert."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        async with open_database(self, env) as database:
            yield _Inserter(self, database, env)


class _Inserter:
    def __init__(self, config: SqlInsertOutput, database: Database, env: Env) -> None:
        self._mapping = config.args_mapping
        self._database = database
        self._where = env.node.display()
        self._insert = config.insert()

    async def write(self, batch: Batch) -> None:
        made, failed = values_of(self._mapping, batch, len(self._insert.columns))
        verdicts: dict[int, Exception] = {
            index: Rejected(f"{self._where}: {error}") for index, error in failed.items()
        }
        if made:
            try:
                await self._database.insert(self._insert, list(made.values()))
            except CollectorError as error:
                verdicts |= dict.fromkeys(made, error)
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure

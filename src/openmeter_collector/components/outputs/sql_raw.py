"""Runs statements for each message. A batch is one transaction: all of them took effect, or none."""

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
from openmeter_collector.components.sql.contract import Database, Statement
from openmeter_collector.components.sql.fields import open_database
from openmeter_collector.components.sql.statements_fields import Prepared, SqlStatements, prepared

UPSERT = Example(
    "Keep the last state of each subject",
    """
    output:
      sql_raw:
        driver: postgres
        dsn: postgres://meter:${DB_PASSWORD}@db:5432/usage?sslmode=require
        query: |
          INSERT INTO last_seen (subject, at) VALUES ($1, $2)
          ON CONFLICT (subject) DO UPDATE SET at = greatest(last_seen.at, excluded.at)
        args_mapping: root = [ this.subject, this.time ]
    """,
)


@output("sql_raw", categories=("Services",), examples=[UPSERT])
class SqlRawOutput(SqlStatements):
    """Runs a statement, or several, for each message, those of a batch in one transaction.

    What the database refuses because of the data is narrowed down to the message concerned, which
    becomes a dead letter. Everything else is tried again, so statements should have the same effect
    when they are run twice. ClickHouse has no transactions: there, a batch that failed half-way is run
    again from its beginning.

    Placeholders are the driver's own: `$1` for `postgres`, `?` for `mysql`, `sqlite` and `duckdb`,
    either for `clickhouse`.
    """

    max_in_flight: int = field(default=64, minimum=1, doc="Writes under way at the same time.")
    batching: BatchPolicy = field(
        default_factory=BatchPolicy, doc="How messages are put together into one transaction."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        ready = prepared(env, self, exec_only=True)
        async with open_database(self, env) as database:
            yield _Runner(ready, database, env)


class _Runner:
    def __init__(self, ready: Prepared, database: Database, env: Env) -> None:
        self._prepared = ready
        self._database = database
        self._where = env.node.display()

    async def write(self, batch: Batch) -> None:
        verdicts: dict[int, Exception] = {}
        statements: dict[int, list[Statement]] = {}
        for index in range(len(batch)):
            try:
                statements[index] = self._prepared.statements(batch, index)
            except (CollectorError, ValueError, RecursionError) as error:
                verdicts[index] = Rejected(f"{self._where}: {error}")
        if statements:
            try:
                await self._database.run([one for some in statements.values() for one in some], 0)
            except CollectorError as error:
                verdicts |= dict.fromkeys(statements, error)
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure

"""Runs statements for each message. A batch is one transaction: all of them took effect, or none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    BatchPolicy,
    CollectorError,
    Dropped,
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
from openmeter_collector.components.sql.statements_fields import (
    Prepared,
    RoutedStatement,
    SqlStatements,
    check_routes,
    prepared,
)

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
CHANGES = Example(
    "Keep a copy of a table that is followed",
    """
    output:
      sql_raw:
        driver: postgres
        dsn: postgres://meter:${DB_PASSWORD}@db:5432/usage?sslmode=require
        queries:
          - when: root = meta("operation") == "delete"
            query: DELETE FROM orders WHERE id = $1
            args_mapping: root = [ this.id ]
          - query: |
              INSERT INTO orders (id, amount) VALUES ($1, $2)
              ON CONFLICT (id) DO UPDATE SET amount = excluded.amount
            args_mapping: root = [ this.id, this.amount ]
    """,
)


@output("sql_raw", categories=("Services",), examples=[UPSERT, CHANGES])
class SqlRawOutput(SqlStatements):
    """Runs a statement, or several, for each message, those of a batch in one transaction.

    What the database refuses because of the data is narrowed down to the message concerned, which
    becomes a dead letter. Everything else is tried again, so statements should have the same effect
    when they are run twice. ClickHouse has no transactions: there, a batch that failed half-way is run
    again from its beginning.

    Placeholders are the driver's own: `$1` for `postgres`, `?` for `mysql`, `sqlite` and `duckdb`,
    either for `clickhouse`.
    """

    queries: list[RoutedStatement] = field(
        default_factory=list,
        doc="Statements to run after `query`, in the same transaction; with `when`, the first that is for "
        "the message. A message that none is for is dropped, and counted as that.",
        lint=check_routes,
    )
    max_in_flight: int = field(default=64, minimum=1, doc="Writes under way at the same time.")
    batching: BatchPolicy = field(
        default_factory=BatchPolicy, doc="How messages are put together into one transaction."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        ready = prepared(env, self, self.queries, exec_only=True)
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
                if made := self._prepared.statements(batch, index):
                    statements[index] = made
                else:
                    verdicts[index] = Dropped(f"{self._where} (sql_raw: no statement matched)")
            except (CollectorError, ValueError, RecursionError) as error:
                verdicts[index] = Rejected(f"{self._where}: {error}")
        if statements:
            try:
                await self._database.run([one for some in statements.values() for one in some], 0)
            except CollectorError as error:
                verdicts |= dict.fromkeys(statements, error)
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure

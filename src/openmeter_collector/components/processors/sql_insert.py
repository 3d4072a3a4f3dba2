"""Inserts a row for each message, and passes the messages on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    CollectorError,
    Env,
    Example,
    processor,
)
from openmeter_collector.components.processors.common import Flag
from openmeter_collector.components.sql.contract import Database
from openmeter_collector.components.sql.fields import open_database
from openmeter_collector.components.sql.inserting import SqlTarget, values_of

AUDIT = Example(
    "Note each event in a table of its own",
    """
    pipeline:
      processors:
        - sql_insert:
            driver: sqlite
            dsn: file:audit.db
            table: seen
            columns: [ id ]
            args_mapping: root = [ this.id ]
            init_statement: CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY)
            options: [ OR IGNORE ]
    """,
)


@processor("sql_insert", categories=("Integration",), examples=[AUDIT])
class SqlInsert(SqlTarget):
    """Inserts a row for each message, those of a batch in one transaction; the messages stay as they are.

    If the insert fails, all messages of the batch are flagged; if `args_mapping` fails, its message is.
    """

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        async with open_database(self, env) as database:
            yield _Inserter(self, database, env)


class _Inserter:
    def __init__(self, config: SqlInsert, database: Database, env: Env) -> None:
        self._mapping = config.args_mapping
        self._database = database
        self._flag = Flag(env)
        self._insert = config.insert()

    async def process(self, batch: Batch) -> list[Batch]:
        if not batch:
            return []
        made, failed = values_of(self._mapping, batch, len(self._insert.columns))
        if made:
            try:
                await self._database.insert(self._insert, list(made.values()))
            except CollectorError as error:
                failed |= dict.fromkeys(made, error)
        return [
            [
                self._flag(message, failed[index]) if index in failed else message
                for index, message in enumerate(batch)
            ]
        ]

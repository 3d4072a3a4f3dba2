"""PostgreSQL, and what speaks its protocol, by psycopg."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from openmeter_collector.api import (
    CollectorError,
    ConfigError,
    Disconnected,
    Rejected,
    Retryable,
    Value,
    install_extra,
)
from openmeter_collector.components.sql.contract import Block, Insert, Options, Row, Statement
from openmeter_collector.components.sql.marks import marks_of, too_many
from openmeter_collector.components.sql.pool import Bounds, Pool
from openmeter_collector.components.sql.postgres_types import changes_of, register
from openmeter_collector.components.sql.values import as_text, moment_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import AsyncConnection

_MOST_ARGUMENTS: Final = 65_535
# Classes of SQLSTATE that speak of the data: values that do not fit, broken constraints.
_OF_THE_DATA: Final = ("22", "23")
_CONNECTION_LOST: Final = ("08", "57")


class Postgres:
    """See `contract.Database`."""

    numbered = True

    def __init__(self, options: Options, bounds: Bounds, monotonic: Callable[[], float]) -> None:
        try:
            import psycopg  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigError(
                f"{options.where}: the driver for PostgreSQL is missing; {install_extra('postgres')}"
            ) from error
        # What it has to say it also raises; without a handler its log would go to stderr.
        logging.getLogger("psycopg").addHandler(logging.NullHandler())
        self._psycopg = psycopg
        self._options = options
        self._conninfo = conninfo(options)
        self._pool: Pool[AsyncConnection[Any]] = Pool(
            self._connect, lambda one: one.close(), bounds, monotonic
        )

    async def stream(
        self, statement: Statement, size: int, marks: Sequence[str] = ()
    ) -> AsyncGenerator[Block, None]:
        try:
            async with self._pool.connection() as connection, connection.cursor() as cursor:
                rows: list[tuple[Value, ...]] = []
                # Chunks of the library are never larger, so a chunk is a block.
                async for row in cursor.stream(
                    statement.query, _arguments(statement.args), size=size
                ):
                    rows.append(row)
                    if len(rows) == size:
                        yield self._block(cursor, rows, marks)
                        rows = []
                if rows:
                    yield self._block(cursor, rows, marks)
        except self._psycopg.Error as error:
            raise self._told(error) from error

    async def run(self, statements: Sequence[Statement], most: int) -> list[list[Row]]:
        made: list[list[Row]] = []
        try:
            async with self._pool.connection() as connection:
                # One statement is a transaction of its own, and some want to be alone.
                block = connection.transaction() if len(statements) > 1 else nullcontext()
                async with block:
                    for statement in statements:
                        args = _arguments(statement.args)
                        cursor = await connection.execute(statement.query, args)
                        made.append(await self._rows(cursor, most))
        except self._psycopg.Error as error:
            raise self._told(error) from error
        return made

    async def insert(self, insert: Insert, rows: Sequence[Sequence[Value]]) -> None:
        width = max(1, len(insert.columns))
        at_once = max(1, _MOST_ARGUMENTS // width)
        statements = [
            _inserting(insert, rows[start : start + at_once])
            for start in range(0, len(rows), at_once)
        ]
        await self.run(statements, 0)

    async def script(self, text: str) -> None:
        try:
            async with self._pool.connection() as connection:
                await connection.execute(text)
        except self._psycopg.Error as error:
            raise self._told(error) from error

    def argument(self, mark: Value) -> Value:
        return moment_of(mark) or mark

    async def close(self) -> None:
        await self._pool.close()

    async def _connect(self) -> AsyncConnection[Any]:
        connection: AsyncConnection[Any] = await self._psycopg.AsyncConnection.connect(
            self._conninfo,
            autocommit=True,
            # Connection poolers between us and the server do not know prepared statements.
            prepare_threshold=None,
            cursor_factory=self._psycopg.AsyncRawCursor,
        )
        register(
            connection.adapters,
            structured=self._options.structured,
            exact_numbers=self._options.exact_numbers,
        )
        return connection

    def _block(self, cursor: Any, rows: Sequence[Sequence[Value]], marks: Sequence[str]) -> Block:
        columns = [(column.name, column.type_code) for column in cursor.description or ()]
        names = [name for name, _ in columns]
        made = [dict(zip(names, row, strict=True)) for row in rows]
        changes = changes_of(
            columns,
            structured=self._options.structured,
            exact_numbers=self._options.exact_numbers,
        )
        for name, make in changes:
            for row in made:
                value = row[name]
                if value is not None:
                    row[name] = make(value)
        return Block(made, marks_of(names, made, marks))

    async def _rows(self, cursor: Any, most: int) -> list[Row]:
        if cursor.description is None:
            return []
        rows = await cursor.fetchmany(most + 1)
        if len(rows) > most > 0:
            raise too_many(most)
        return self._block(cursor, rows, ()).rows if most else []

    def _told(self, error: Exception) -> CollectorError:
        state = getattr(error, "sqlstate", None) or ""
        said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
        text = f"{self._options.where}: {' '.join(said.split())}" + (f" ({state})" if state else "")
        if state.startswith(_OF_THE_DATA):
            return Rejected(text)
        if not state or state.startswith(_CONNECTION_LOST):
            return Disconnected(text)
        return Retryable(text)


def conninfo(options: Options, **more: str) -> str:
    """A DSN as libpq takes it: parameters it does not know are settings of the session.

    Raises:
        ConfigError: it is none.
    """
    import psycopg  # noqa: PLC0415 - an extra
    from psycopg import conninfo as info  # noqa: PLC0415

    known = {default.keyword.decode() for default in psycopg.pq.Conninfo.get_defaults()}
    settings: dict[str, str] = {}
    dsn = options.dsn
    unreadable = ConfigError(
        f"{options.where}: the dsn cannot be read; "
        "it looks like postgres://user:password@host:5432/database?sslmode=require"
    )
    if dsn.startswith(("postgres://", "postgresql://")):
        try:
            parts = urlsplit(dsn)
        except ValueError as error:
            raise unreadable from error
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        settings = {name: value for name, value in pairs if name not in known}
        query = urlencode([(name, value) for name, value in pairs if name in known])
        dsn = urlunsplit(parts._replace(query=query))
    settings.pop("binary_parameters", None)
    try:
        made: dict[str, Any] = dict(info.conninfo_to_dict(dsn, **more))
    except psycopg.Error:
        # The library's text repeats the DSN, which holds the password; so it is not shown.
        raise unreadable from None
    if settings:
        given = [f"-c {name}={_escaped(value)}" for name, value in settings.items()]
        made["options"] = " ".join(filter(None, [str(made.get("options") or ""), *given]))
    made.setdefault("application_name", "openmeter-collector")
    made.setdefault("connect_timeout", "15")
    if options.driver == "postgres" and not os.environ.get("PGSSLMODE"):
        made.setdefault("sslmode", "require")
    # Times come in UTC whatever the server is set to.
    fixed = "-c TimeZone=UTC -c DateStyle=ISO -c bytea_output=hex"
    made["options"] = f"{made.get('options') or ''} {fixed}".strip()
    return info.make_conninfo(**made)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _arguments(args: Sequence[Value]) -> list[str | None] | None:
    """As text of no type, so that the server reads them in the type that is asked for."""
    return [as_text(one) for one in args] or None


def _inserting(insert: Insert, rows: Sequence[Sequence[Value]]) -> Statement:
    width = len(insert.columns)
    groups = ", ".join(
        "(" + ", ".join(f"${at * width + one + 1}" for one in range(width)) + ")"
        for at in range(len(rows))
    )
    query = f"{insert.head()}VALUES {groups} {insert.suffix}".rstrip()
    return Statement(query, [value for row in rows for value in row])

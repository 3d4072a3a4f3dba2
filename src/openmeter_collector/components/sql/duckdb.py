"""DuckDB, in this process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from openmeter_collector.api import (
    CollectorError,
    ConfigError,
    Rejected,
    Retryable,
    Value,
    install_extra,
)
from openmeter_collector.components.sql.contract import Block, Insert, Options, Row, Statement
from openmeter_collector.components.sql.marks import block_of, too_many
from openmeter_collector.components.sql.pool import Bounds, Pool
from openmeter_collector.components.sql.threads import in_thread
from openmeter_collector.components.sql.values import (
    base64_of,
    integer,
    moment_of,
    number,
    number_of_float,
    rfc3339,
    simple,
    text_of_bytes,
)
from openmeter_collector.values import json
from openmeter_collector.values.kinds import SourceNumber
from openmeter_collector.values.timestamp import Timestamp

# Nanoseconds are cut off, and months become 30 days.
_INEXACT: Final = re.compile(r"\b(?:TIMESTAMP_NS|INTERVAL)\b")
_QUOTED: Final = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")


class DuckDb:
    """See `contract.Database`."""

    numbered = False

    def __init__(self, options: Options, bounds: Bounds, monotonic: Callable[[], float]) -> None:
        try:
            import duckdb  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigError(
                f"{options.where}: the driver for DuckDB is missing; {install_extra('duckdb')}"
            ) from error
        self._duckdb = duckdb
        self._options = options
        self._shape = _Shape(options)
        self._root: Any = None
        self._pool: Pool[Any] = Pool(self._connect, _closed, bounds, monotonic)

    async def stream(
        self, statement: Statement, size: int, marks: Sequence[str] = ()
    ) -> AsyncGenerator[Block, None]:
        try:
            async with self._pool.connection() as connection:
                stop = connection.interrupt
                result = await in_thread(
                    stop, connection.execute, statement.query, _arguments(statement.args)
                )
                names, kinds = self._columns(result)
                while rows := await in_thread(stop, result.fetchmany, size):
                    made = [self._shape.values(row, kinds) for row in rows]
                    yield block_of(names, made, marks)
        except self._duckdb.Error as error:
            raise self._told(error) from error

    async def run(self, statements: Sequence[Statement], most: int) -> list[list[Row]]:
        try:
            async with self._pool.connection() as connection:
                return await in_thread(
                    connection.interrupt, self._work, connection, statements, most
                )
        except self._duckdb.Error as error:
            raise self._told(error) from error

    async def insert(self, insert: Insert, rows: Sequence[Sequence[Value]]) -> None:
        group = "(" + ", ".join("?" * len(insert.columns)) + ")"
        query = f"{insert.head()}VALUES {', '.join([group] * len(rows))} {insert.suffix}".rstrip()
        await self.run([Statement(query, [value for row in rows for value in row])], 0)

    async def script(self, text: str) -> None:
        await self.run([Statement(text)], 0)

    def argument(self, mark: Value) -> Value:
        return moment_of(mark) or mark

    async def close(self) -> None:
        await self._pool.close()
        if self._root is not None:
            await asyncio.to_thread(self._root.close)
            self._root = None

    async def _connect(self) -> Any:
        try:
            if self._root is None:
                self._root = await asyncio.to_thread(self._duckdb.connect, self._options.dsn)
        except self._duckdb.Error as error:
            raise self._told(error) from error
        connection = self._root.cursor()
        connection.execute("SET TimeZone='UTC'")
        return connection

    def _work(self, connection: Any, statements: Sequence[Statement], most: int) -> list[list[Row]]:
        made: list[list[Row]] = []
        connection.begin()
        for statement in statements:
            result = connection.execute(statement.query, _arguments(statement.args))
            rows = result.fetchmany(most + 1) if most and result.description else []
            if len(rows) > most > 0:
                raise too_many(most)
            names, kinds = self._columns(result) if rows else ([], [])
            made.append(
                [dict(zip(names, self._shape.values(row, kinds), strict=True)) for row in rows]
            )
        connection.commit()
        return made

    def _columns(self, result: Any) -> tuple[list[str], list[str]]:
        """Names and types.

        Raises:
            Retryable: the library would change values of a type.
        """
        description = result.description or ()
        names, kinds = [column[0] for column in description], [str(one[1]) for one in description]
        for name, kind in zip(names, kinds, strict=True):
            if inexact := _INEXACT.search(_QUOTED.sub("", kind)):
                raise Retryable(
                    f"{self._options.where}: column {name} has the type {inexact[0]}, which DuckDB's "
                    "library changes on the way; cast it to VARCHAR or TIMESTAMP in the query"
                )
        return names, kinds

    def _told(self, error: Exception) -> CollectorError:
        text = f"{self._options.where}: {' '.join(str(error).split())}"
        data = (self._duckdb.ConstraintException, self._duckdb.ConversionException)
        return Rejected(text) if isinstance(error, data) else Retryable(text)


class _Shape:
    """What DuckDB's values become."""

    def __init__(self, options: Options) -> None:
        self._structured = options.structured
        self._exact = options.exact_numbers

    def values(self, row: Sequence[Any], kinds: Sequence[str]) -> list[Value]:
        """A row's values."""
        return [self._value(value, kind) for value, kind in zip(row, kinds, strict=True)]

    def _value(self, value: Any, kind: str = "") -> Value:
        if isinstance(value, str):
            return json.loads(value.encode()) if kind == "JSON" and self._structured else value
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return integer(value)
        if isinstance(value, float):
            return number_of_float(value)
        if isinstance(value, Decimal):
            return number(f"{value:f}") if self._exact else f"{value:f}"
        if isinstance(value, datetime):
            return rfc3339(value.replace(tzinfo=None).isoformat(" "))
        if isinstance(value, bytes):
            return base64_of(value) if self._structured else text_of_bytes(value)
        if isinstance(value, list | tuple | dict):
            made = self._nested(value)
            return made if self._structured else json.dumps(made).decode()
        return rfc3339(value.isoformat()) if isinstance(value, date) else _text(value)

    def _nested(self, value: Any) -> Value:
        if isinstance(value, dict):
            return {str(key): self._nested(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._nested(one) for one in value]
        return self._value(value)


def _text(value: time | timedelta | UUID | object) -> str:
    return value.isoformat() if isinstance(value, time) else str(value)


def _arguments(args: Sequence[Value]) -> list[Any] | None:
    return [_argument(one) for one in args] or None


def _argument(value: Value) -> Any:
    if isinstance(value, Timestamp):
        return Timestamp(value.ns).text()
    return Decimal(value.text) if isinstance(value, SourceNumber) else simple(value)


async def _closed(connection: Any) -> None:
    connection.close()

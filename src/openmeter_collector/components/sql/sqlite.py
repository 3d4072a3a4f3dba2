"""SQLite, by the library the journal is made with."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import apsw

from openmeter_collector.api import CollectorError, Rejected, Retryable, Value
from openmeter_collector.components.sql.contract import Block, Insert, Options, Row, Statement
from openmeter_collector.components.sql.marks import marks_of, too_many
from openmeter_collector.components.sql.pool import Bounds, Pool
from openmeter_collector.components.sql.threads import in_thread
from openmeter_collector.components.sql.values import (
    base64_of,
    number_of_float,
    rfc3339,
    simple,
    text_of_bytes,
    wall_clock,
)
from openmeter_collector.values.kinds import Int64
from openmeter_collector.values.timestamp import Timestamp

_PRAGMA: Final = re.compile(r"(\w+)(?:\((.*)\)|=(.*))?")
_BUSY_MS: Final = 5_000
_MOST_ARGUMENTS: Final = 32_000


class Sqlite:
    """See `contract.Database`."""

    numbered = False

    def __init__(self, options: Options, bounds: Bounds, monotonic: Callable[[], float]) -> None:
        self._options = options
        self._pool: Pool[apsw.Connection] = Pool(self._connect, _closed, bounds, monotonic)

    async def stream(
        self, statement: Statement, size: int, marks: Sequence[str] = ()
    ) -> AsyncGenerator[Block, None]:
        try:
            async with self._pool.connection() as connection:
                cursor = connection.cursor()
                try:
                    await in_thread(
                        connection.interrupt,
                        cursor.execute,
                        statement.query,
                        _arguments(statement.args),
                    )
                    shape = _Shape(cursor, self._options)
                    while rows := await in_thread(connection.interrupt, _fetch, cursor, size):
                        # Marks are what is stored: text that is compared as text.
                        stored = (
                            [dict(zip(shape.names, row, strict=True)) for row in rows]
                            if marks
                            else []
                        )
                        yield Block(
                            [shape.row(row) for row in rows], marks_of(shape.names, stored, marks)
                        )
                finally:
                    cursor.close(True)
        except apsw.Error as error:
            raise self._told(error) from error

    async def run(self, statements: Sequence[Statement], most: int) -> list[list[Row]]:
        made: list[list[Row]] = []

        def work(connection: apsw.Connection) -> None:
            with connection:
                made.extend(self._rows(connection, one, most) for one in statements)

        try:
            async with self._pool.connection() as connection:
                await in_thread(connection.interrupt, work, connection)
        except apsw.Error as error:
            raise self._told(error) from error
        return made

    async def insert(self, insert: Insert, rows: Sequence[Sequence[Value]]) -> None:
        group = "(" + ", ".join("?" * len(insert.columns)) + ")"
        at_once = max(1, _MOST_ARGUMENTS // max(1, len(insert.columns)))
        statements = []
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            groups = ", ".join([group] * len(part))
            query = f"{insert.head()}VALUES {groups} {insert.suffix}".rstrip()
            statements.append(Statement(query, [value for row in part for value in row]))
        await self.run(statements, 0)

    async def script(self, text: str) -> None:
        await self.run([Statement(text)], 0)

    def argument(self, mark: Value) -> Value:
        return mark

    async def close(self) -> None:
        await self._pool.close()

    async def _connect(self) -> apsw.Connection:
        return await asyncio.to_thread(self._opened)

    def _opened(self) -> apsw.Connection:
        dsn = self._options.dsn
        connection = apsw.Connection(
            dsn,
            apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI,
        )
        connection.set_busy_timeout(_BUSY_MS)
        for name, value in parse_qsl(dsn.partition("?")[2]):
            found = _PRAGMA.fullmatch(value) if name == "_pragma" else None
            if found:
                given = found[2] or found[3]
                connection.execute(f"PRAGMA {found[1]}" + (f"={given}" if given else ""))
        return connection

    def _rows(self, connection: apsw.Connection, statement: Statement, most: int) -> list[Row]:
        cursor = connection.cursor()
        cursor.execute(statement.query, _arguments(statement.args))
        rows: list[Any] = []
        shape: _Shape | None = None
        for row in cursor:
            shape = shape or _Shape(cursor, self._options)
            rows.append(row)
            if len(rows) > most > 0:
                raise too_many(most)
        return [shape.row(row) for row in rows] if shape and most else []

    def _told(self, error: apsw.Error) -> CollectorError:
        text = f"{self._options.where}: {error}"
        data = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)
        return Rejected(text) if isinstance(error, data) else Retryable(text)


class _Shape:
    """What the declared types of a result make of its values."""

    def __init__(self, cursor: apsw.Cursor, options: Options) -> None:
        try:
            description = cursor.getdescription()
        except apsw.ExecutionCompleteError:  # an empty result has no columns any more
            description = ()
        self.names = [name for name, _ in description]
        kinds = [(kind or "").upper() for _, kind in description]
        self._times = [
            at for at, kind in enumerate(kinds) if kind in {"DATE", "DATETIME", "TIMESTAMP"}
        ]
        self._bools = [at for at, kind in enumerate(kinds) if kind in {"BOOLEAN", "BOOL"}]
        self._of_bytes = base64_of if options.structured else text_of_bytes

    def row(self, values: Sequence[Any]) -> Row:
        made = list(values)
        for at in self._times:
            if isinstance(made[at], str):
                made[at] = _moment(made[at])
        for at in self._bools:
            if isinstance(made[at], int):
                made[at] = made[at] != 0
        for at, value in enumerate(made):
            kind = type(value)
            if kind is int:
                made[at] = Int64(value)
            elif kind is float:
                made[at] = number_of_float(value)
            elif kind is bytes:
                made[at] = self._of_bytes(value)
        return dict(zip(self.names, made, strict=True))


def _moment(text: str) -> str:
    if text.endswith(("+00:00", " +0000 UTC")):
        text = text.removesuffix("+00:00").removesuffix(" +0000 UTC")
    elif text[-6:-5] in {"+", "-"} and text[-3:-2] == ":":
        return rfc3339(text[:-6], text[-6:])
    return rfc3339(text)


def _fetch(cursor: apsw.Cursor, size: int) -> list[Any]:
    rows = []
    for row in cursor:
        rows.append(row)
        if len(rows) == size:
            break
    return rows


def _arguments(args: Sequence[Value]) -> list[Any]:
    # Moments in the form of SQLite's own functions, because there they are compared as text.
    return [wall_clock(one) if isinstance(one, Timestamp) else simple(one) for one in args]


async def _closed(connection: apsw.Connection) -> None:
    await asyncio.to_thread(connection.close)

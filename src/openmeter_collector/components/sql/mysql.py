"""MySQL and MariaDB, by asyncmy."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

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
from openmeter_collector.components.sql.marks import block_of, too_many
from openmeter_collector.components.sql.pool import Bounds, Pool
from openmeter_collector.components.sql.statements import formatted, separate
from openmeter_collector.components.sql.values import (
    base64_of,
    integer,
    moment_of,
    number,
    number_of_float,
    rfc3339,
    simple,
    text_of_bytes,
    wall_clock,
)
from openmeter_collector.values import json
from openmeter_collector.values.kinds import SourceNumber
from openmeter_collector.values.timestamp import UTC_ZONE, Timestamp, Zone, days_of, load_zone
from openmeter_collector.values.units import parse_duration

_DSN: Final = re.compile(
    r"(?:(?P<user>[^:@/]*)(?::(?P<password>.*))?@)?"
    r"(?:(?P<net>[^@(/]+)(?:\((?P<address>[^)]*)\))?)?"
    r"/(?P<database>[^?/]*)(?:\?(?P<query>.*))?",
    re.DOTALL,
)
# Codes of errors that speak of the data: duplicate keys, broken references, values that do not fit.
_OF_THE_DATA: Final = frozenset(
    {1048, 1062, 1136, 1216, 1217, 1264, 1265, 1292, 1364, 1366, 1406, 1451, 1452, 3140, 3819, 4025}
)
_CONNECTION_LOST: Final = frozenset({1040, 1053, 1158, 1159, 1160, 1161, 2002, 2003, 2006, 2013})


@dataclass(frozen=True, slots=True)
class Target:
    """What a DSN says.

    Attributes:
        places: hosts and ports, to be tried in this order.
    """

    user: str
    password: str
    places: tuple[tuple[str, int], ...]
    socket: str | None
    database: str
    parse_time: bool
    zone: Zone
    tls: str
    connect_timeout: float
    settings: tuple[tuple[str, str], ...]


def target_of(dsn: str, where: str) -> Target:
    """Read `user:password@tcp(host:port)/database?parseTime=true`.

    Raises:
        ConfigError: it is none.
    """
    found = _DSN.fullmatch(dsn)
    if found is None or found["net"] not in {None, "tcp", "unix"}:
        raise ConfigError(
            f"{where}: the dsn cannot be read; "
            "it looks like user:password@tcp(host:3306)/database?parseTime=true"
        )
    given = dict(parse_qsl(found["query"] or "", keep_blank_values=True))
    address = found["address"] or "127.0.0.1"
    parse_time = given.pop("parseTime", "false").lower() in {"true", "1"}
    tls = given.pop("tls", "false").lower()
    timeout = parse_duration(given.pop("timeout", "10s")) / 1e9
    for known in ("charset", "collation", "readTimeout", "writeTimeout", "multiStatements",
                  "interpolateParams", "allowNativePasswords", "allowCleartextPasswords",
                  "checkConnLiveness", "clientFoundRows", "columnsWithAlias", "maxAllowedPacket",
                  "rejectReadOnly", "serverPubKey", "timeTruncate", "allowAllFiles",
                  "allowFallbackToPlaintext", "allowOldPasswords", "connectionAttributes"):  # fmt: skip
        given.pop(known, None)
    return Target(
        user=found["user"] or "",
        password=found["password"] or "",
        places=tuple(_place(one.strip()) for one in address.split(",")),
        socket=address if found["net"] == "unix" else None,
        database=unquote(found["database"]),
        parse_time=parse_time,
        zone=_zone(given.pop("loc", "UTC"), where),
        tls=tls,
        connect_timeout=max(1, timeout),
        settings=tuple(given.items()),
    )


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":") if re.search(r":\d+$", address) else (address, "", "")
    return host.strip("[]"), int(port or 3306)


class MySql:
    """See `contract.Database`."""

    numbered = False

    def __init__(self, options: Options, bounds: Bounds, monotonic: Callable[[], float]) -> None:
        try:
            import asyncmy  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigError(
                f"{options.where}: the driver for MySQL is missing; {install_extra('mysql')}"
            ) from error
        self._asyncmy = asyncmy
        self._error: type[Exception] = asyncmy.errors.Error
        self._options = options
        self._target = target_of(options.dsn, options.where)
        self._conversions = _conversions(options, self._target)
        self._pool: Pool[Any] = Pool(self._connect, _closed, bounds, monotonic)

    async def stream(
        self, statement: Statement, size: int, marks: Sequence[str] = ()
    ) -> AsyncGenerator[Block, None]:
        from asyncmy.cursors import SSCursor  # noqa: PLC0415 - an extra

        try:
            async with self._pool.connection() as connection:
                cursor = SSCursor(connection)
                await cursor.execute(*self._filled(statement))
                while rows := await cursor.fetchmany(size):
                    yield block_of(_names(cursor), rows, marks)
                await cursor.close()
        except (self._error, OSError, TimeoutError) as error:
            raise self._told(error) from error

    async def run(self, statements: Sequence[Statement], most: int) -> list[list[Row]]:
        made: list[list[Row]] = []
        try:
            async with self._pool.connection() as connection:
                await connection.begin()
                for statement in statements:
                    async with connection.cursor() as cursor:
                        await cursor.execute(*self._filled(statement))
                        made.append(await _rows(cursor, most))
                await connection.commit()
        except (self._error, OSError, TimeoutError) as error:
            raise self._told(error) from error
        return made

    async def insert(self, insert: Insert, rows: Sequence[Sequence[Value]]) -> None:
        group = "(" + ", ".join("?" * len(insert.columns)) + ")"
        query = f"{insert.head()}VALUES {', '.join([group] * len(rows))} {insert.suffix}".rstrip()
        await self.run([Statement(query, [value for row in rows for value in row])], 0)

    async def script(self, text: str) -> None:
        await self.run([Statement(one) for one in separate(text)], 0)

    def argument(self, mark: Value) -> Value:
        return moment_of(mark) or mark

    async def close(self) -> None:
        await self._pool.close()

    async def _connect(self) -> Any:
        *others, last = self._target.places
        for host, port in others:
            try:
                return await self._connect_to(host, port)
            except (self._error, OSError, TimeoutError) as error:
                if not isinstance(self._told(error), Disconnected):
                    raise  # it is there, and refuses us
        return await self._connect_to(*last)

    async def _connect_to(self, host: str, port: int) -> Any:
        target = self._target
        connection = await self._asyncmy.connect(
            host=host,
            port=port,
            unix_socket=target.socket,
            user=target.user,
            # The library encodes it as latin-1; this gives it the bytes of the text.
            password=target.password.encode().decode("latin-1"),
            database=target.database or None,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=target.connect_timeout,
            conv=self._conversions,
            ssl=_tls(target.tls, self._options.where),
        )
        for name, value in target.settings:
            if not re.fullmatch(r"\w+", name):
                raise ConfigError(f"{self._options.where}: dsn: {name!r} is no parameter")
            async with connection.cursor() as cursor:
                await cursor.execute(f"SET {name}={value}")
        return connection

    def _filled(self, statement: Statement) -> tuple[Any, ...]:
        if not statement.args:
            return (statement.query,)
        zone = self._target.zone
        return formatted(statement.query), tuple(_argument(one, zone) for one in statement.args)

    def _told(self, error: Exception) -> CollectorError:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        said = " ".join(str(part) for part in error.args[1:]) or str(error)
        text = f"{self._options.where}: {' '.join(said.split())}" + (f" ({code})" if code else "")
        if code in _OF_THE_DATA:
            return Rejected(text)
        if code in _CONNECTION_LOST or not code:
            return Disconnected(text)
        return Retryable(text)


def _zone(name: str, where: str) -> Zone:
    try:
        return load_zone(name)
    except ValueError as error:
        raise ConfigError(f"{where}: dsn: loc={name}: there is no such time zone") from error


def _conversions(options: Options, target: Target) -> dict[Any, Any]:
    from asyncmy import converters  # noqa: PLC0415 - an extra
    from asyncmy.constants import FIELD_TYPE as KIND  # noqa: PLC0415

    def text(value: Any) -> Value:
        return value if isinstance(value, str) else _of_bytes(value)

    def moment(value: str) -> str:
        if "00" in {
            value[5:7],
            value[8:10],
        }:  # a zero date is no moment, and must not look like one
            return value
        made = rfc3339(value)
        if target.zone is UTC_ZONE or made == value:
            return made
        fields = [int(part) for part in re.split(r"[-T:.Z]", made)[:6]]
        return made[:-1] + _offset(fields, target.zone)

    _of_bytes = base64_of if options.structured else text_of_bytes
    made = dict(converters.conversions)
    made |= dict.fromkeys(
        (KIND.TIMESTAMP, KIND.DATETIME, KIND.DATE, KIND.NEWDATE),
        moment if target.parse_time else text,
    )
    made |= dict.fromkeys(
        (
            KIND.TIME, KIND.BIT, KIND.BLOB, KIND.TINY_BLOB, KIND.MEDIUM_BLOB, KIND.LONG_BLOB,
            KIND.STRING, KIND.VAR_STRING, KIND.VARCHAR, KIND.ENUM, KIND.SET, KIND.GEOMETRY,
        ),
        text,
    )  # fmt: skip
    made |= dict.fromkeys(
        (KIND.TINY, KIND.SHORT, KIND.LONG, KIND.LONGLONG, KIND.INT24, KIND.YEAR), integer
    )
    made |= dict.fromkeys((KIND.FLOAT, KIND.DOUBLE), lambda value: number_of_float(float(value)))
    made |= dict.fromkeys(
        (KIND.DECIMAL, KIND.NEWDECIMAL), number if options.exact_numbers else text
    )
    made[KIND.JSON] = (lambda value: json.loads(value.encode())) if options.structured else text
    made[SourceNumber] = lambda value, *_: value.text
    return made


def _offset(wall: list[int], zone: Zone) -> str:
    year, month, day, hour, minute, second = wall
    seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
    offset, _ = zone.offset_of_wall(seconds)
    sign = "-" if offset < 0 else "+"
    return f"{sign}{abs(offset) // 3600:02}:{abs(offset) // 60 % 60:02}"


async def _closed(connection: Any) -> None:
    connection.close()


def _tls(mode: str, where: str) -> ssl.SSLContext | None:
    if mode in {"false", "0", ""}:
        return None
    if mode in {"true", "1"}:
        return ssl.create_default_context()
    if mode in {"skip-verify", "preferred"}:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    raise ConfigError(f"{where}: dsn: tls={mode} is unknown; use true, false or skip-verify")


def _argument(value: Value, zone: Zone) -> Any:
    if isinstance(value, Timestamp):
        return wall_clock(value, zone)
    if isinstance(value, SourceNumber):
        return Decimal(value.text)
    return simple(value)


def _names(cursor: Any) -> list[str]:
    return [column[0] for column in cursor.description or ()]


async def _rows(cursor: Any, most: int) -> list[Row]:
    if not cursor.description:
        return []
    rows = await cursor.fetchmany(most + 1)
    if len(rows) > most > 0:
        raise too_many(most)
    names = _names(cursor)
    return [dict(zip(names, row, strict=True)) for row in rows] if most else []

"""ClickHouse over its HTTP interface, by clickhouse-connect.

Rows come as JSON that the server writes, one array a line with the types ahead, so that every type
has the server's own text and no digit is lost on the way.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

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
from openmeter_collector.components.sql.statements import filled, separate
from openmeter_collector.components.sql.values import (
    as_text,
    integer,
    moment_of,
    number_of_float,
    rfc3339,
)
from openmeter_collector.values import json
from openmeter_collector.values.timestamp import Timestamp
from openmeter_collector.values.units import parse_duration

_FORMAT: Final = "JSONCompactEachRowWithNamesAndTypes"
# Native ports of the Go driver's DSNs -> the HTTP ports a server has beside them.
_HTTP_PORTS: Final = {9000: 8123, 9440: 8443}
_CODE: Final = re.compile(r"[Cc]ode:\s*(\d+)")
# Codes that speak of the data: cannot parse, type mismatch, out of range, broken constraint.
_OF_THE_DATA: Final = frozenset(
    {6, 26, 27, 33, 34, 38, 41, 53, 69, 70, 72, 117, 131, 321, 349, 407, 469, 676, 691}
)
_GIVES_ROWS: Final = re.compile(
    r"\s*(?:SELECT|WITH|SHOW|DESC|DESCRIBE|EXPLAIN|EXISTS)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a DSN says.

    Attributes:
        places: hosts and ports, to be tried in this order.
        spread: begin with another one for each connection.
    """

    places: tuple[tuple[str, int], ...]
    spread: bool
    secure: bool
    verify: bool
    user: str
    password: str
    database: str
    connect_timeout: float
    settings: dict[str, str]
    translated: bool
    """The DSN named the native port; the HTTP port beside it is used."""


def target_of(dsn: str, where: str) -> Target:
    """Read `clickhouse://user:password@host:9000/database` or `http://user:password@host:8123/database`.

    Raises:
        ConfigError: it is none, or it names a native port that says nothing about the HTTP one.
    """
    unreadable = ConfigError(
        f"{where}: the dsn cannot be read; it looks like http://user:password@host:8123/database"
    )
    try:
        parts = urlsplit(dsn)
        *_, hosts = parts.netloc.rpartition("@")
        addresses = [urlsplit(f"//{one}") for one in hosts.split(",")]
        named = [(one.hostname or "", one.port) for one in addresses]
    except ValueError:
        raise unreadable from None
    if parts.scheme not in {"clickhouse", "tcp", "http", "https"} or not all(n for n, _ in named):
        raise unreadable
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    http = parts.scheme in {"http", "https"}
    secure = parts.scheme == "https" or given.pop("secure", "false").lower() in {"true", "1"}
    if not http and any(port == 9440 for _, port in named):
        secure = True
    places = tuple(
        (host, _http_port(host, port, where, http=http, secure=secure)) for host, port in named
    )
    strategy = given.pop("connection_open_strategy", "in_order")
    for native in ("dial_timeout", "read_timeout", "compress", "compress_level",
                   "block_buffer_size", "max_compression_buffer", "debug", "client_info_product", "hosts",
                   "max_open_conns", "max_idle_conns", "conn_max_lifetime", "http_path"):  # fmt: skip
        if native != "dial_timeout":
            given.pop(native, None)
    timeout = parse_duration(given.pop("dial_timeout", "30s")) / 1e9
    return Target(
        places=places,
        spread=strategy in {"random", "round_robin"},
        secure=secure,
        verify=given.pop("skip_verify", "false").lower() not in {"true", "1"},
        user=given.pop("username", "") or unquote(parts.username or "") or "default",
        password=given.pop("password", "") or unquote(parts.password or ""),
        database=given.pop("database", "") or unquote(parts.path.strip("/")) or "default",
        connect_timeout=max(1.0, timeout),
        settings=given,
        translated=not http,
    )


def _http_port(host: str, port: int | None, where: str, *, http: bool, secure: bool) -> int:
    port = port or (8443 if secure else 8123)
    if http or port in _HTTP_PORTS.values():
        return port
    if port in _HTTP_PORTS:
        return _HTTP_PORTS[port]
    raise ConfigError(
        f"{where}: the dsn names port {port} of ClickHouse's native protocol, which is not "
        "spoken here; give the address of its HTTP interface, "
        f"such as http://{host}:8123/database"
    )


class ClickHouse:
    """See `contract.Database`."""

    numbered = False

    def __init__(self, options: Options, bounds: Bounds, monotonic: Callable[[], float]) -> None:
        try:
            import clickhouse_connect  # noqa: PLC0415 - an extra
            from clickhouse_connect.driver import exceptions  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(
                f"{options.where}: the driver for ClickHouse is missing; {install_extra('clickhouse')}"
            ) from error
        self._library = clickhouse_connect
        self._errors: tuple[type[Exception], ...] = (exceptions.ClickHouseError, OSError)
        self._options = options
        self._target = target_of(options.dsn, options.where)
        self._settings = _settings(options)
        self._begin = 0
        self._pool: Pool[Any] = Pool(self._connect, lambda one: one.close(), bounds, monotonic)

    async def stream(
        self, statement: Statement, size: int, marks: Sequence[str] = ()
    ) -> AsyncGenerator[Block, None]:
        query = self._filled(statement)
        try:
            async with self._pool.connection() as client:
                stream = await client.raw_stream(query, settings=self._settings, fmt=_FORMAT)
                async with stream as chunks:
                    async for block in self._blocks(chunks, size, marks):
                        yield block
        except self._errors as error:
            raise self._told(error) from error

    async def run(self, statements: Sequence[Statement], most: int) -> list[list[Row]]:
        made: list[list[Row]] = []
        for statement in statements:
            if most and _GIVES_ROWS.match(statement.query):
                rows: list[Row] = []
                async for block in self.stream(statement, 1000):
                    rows += block.rows
                    if len(rows) > most:
                        raise too_many(most)
                made.append(rows)
            else:
                await self._command(self._filled(statement))
                made.append([])
        return made

    async def insert(self, insert: Insert, rows: Sequence[Sequence[Value]]) -> None:
        suffix = f"{insert.suffix} " if insert.suffix else ""
        query = f"{insert.head()}{suffix}FORMAT JSONCompactEachRow"
        lines = b"\n".join(json.dumps([_inserted(value) for value in row]) for row in rows)
        try:
            async with self._pool.connection() as client:
                await client.raw_insert(
                    insert_block=query.encode() + b"\n" + lines,
                    settings={**self._target.settings, "date_time_input_format": "best_effort"},
                )
        except self._errors as error:
            raise self._told(error) from error

    async def script(self, text: str) -> None:
        for one in separate(text):
            await self._command(one)

    def argument(self, mark: Value) -> Value:
        return moment_of(mark) or mark

    async def close(self) -> None:
        await self._pool.close()

    async def _command(self, query: str) -> None:
        try:
            async with self._pool.connection() as client:
                await client.raw_query(query, settings=self._target.settings)
        except self._errors as error:
            raise self._told(error) from error

    async def _connect(self) -> Any:
        places = self._target.places
        begin, self._begin = self._begin, (self._begin + self._target.spread) % len(places)
        failure: Exception | None = None
        for host, port in (*places[begin:], *places[:begin]):
            try:
                return await self._connect_to(host, port)
            except self._errors as error:
                # Who answers, if only to refuse us, is there; the others would not know better.
                if _CODE.search(str(error)):
                    raise
                failure = error
        assert failure is not None  # there is a place at least
        raise failure

    async def _connect_to(self, host: str, port: int) -> Any:
        target = self._target
        return await self._library.get_async_client(
            host=host,
            port=port,
            secure=target.secure,
            verify=target.verify,
            username=target.user,
            password=target.password,
            database=target.database,
            connect_timeout=target.connect_timeout,
            autogenerate_session_id=False,
            client_name="openmeter-collector",
        )

    def _filled(self, statement: Statement) -> str:
        try:
            return filled(statement.query, [_literal(one) for one in statement.args])
        except ValueError as error:
            raise Rejected(f"{self._options.where}: {error}") from error

    async def _blocks(
        self, chunks: AsyncIterator[bytes], size: int, marks: Sequence[str]
    ) -> AsyncIterator[Block]:
        lines = _lines(chunks, size)
        names: list[str] = []
        types: list[str] | None = None
        changes: list[_Change] = []
        async for some in lines:
            if some[-1].startswith(b"Code:") or b"__exception__" in some[-1]:
                raise self._library.driver.exceptions.DatabaseError(
                    some[-1].decode("utf-8", "replace")
                )
            values = json.loads(b"[" + b",".join(some) + b"]")
            if types is None:
                names, types, *values = values
                changes = [change for at, kind in enumerate(types) if (change := _change(at, kind))]
            if values:
                _make_changes(values, changes)
                yield block_of(names, values, marks)

    def _told(self, error: Exception) -> CollectorError:
        said = " ".join(str(error).split())[:1000]
        if self._target.password:
            said = said.replace(self._target.password, "***")
        text = f"{self._options.where}: {said}"
        found = _CODE.search(said)
        if found is None:
            if self._target.translated:
                tried = ", ".join(f"{host}:{port}" for host, port in self._target.places)
                text += (
                    f"; the HTTP interface at {tried} was tried, "
                    "if it is elsewhere give it as http://host:port/database"
                )
            return Disconnected(text)
        return Rejected(text) if int(found[1]) in _OF_THE_DATA else Retryable(text)


_Change = tuple[int, type, Callable[[Any], Value]]
"""A column, the type its values have as JSON, and what makes the values they are to be."""


def _change(at: int, kind: str) -> _Change | None:
    plain = _plain(kind)
    if plain.startswith("Date"):
        return at, str, _moment
    if plain.startswith(("Int", "UInt")) and not plain.startswith("Interval"):
        return at, int, integer
    if plain.startswith("Float"):
        return at, float, number_of_float
    return None


def _make_changes(rows: list[list[Value]], changes: Sequence[_Change]) -> None:
    """Change values in place to the form they have with every driver."""
    for at, kind, make in changes:
        for row in rows:
            if isinstance(row[at], kind):
                row[at] = make(row[at])


def _plain(kind: str) -> str:
    for wrapper in ("LowCardinality(", "Nullable("):
        if kind.startswith(wrapper):
            kind = kind.removeprefix(wrapper).removesuffix(")")
    return kind


def _moment(text: str) -> str:
    if text.endswith("Z"):
        if "." in text:
            return f"{text[:-1].rstrip('0').rstrip('.')}Z"
        return text
    return rfc3339(text)


def _settings(options: Options) -> dict[str, Any]:
    return target_of(options.dsn, options.where).settings | {
        "date_time_output_format": "iso",
        "output_format_json_quote_64bit_integers": 0,
        "output_format_json_quote_decimals": 0 if options.exact_numbers else 1,
        "output_format_json_quote_denormals": 1,
        "output_format_json_validate_utf8": 1,
    }


async def _lines(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[list[bytes]]:
    """Whole lines, at most `size` at a time."""
    rest = b""
    waiting: list[bytes] = []
    most = size + 2  # the first two are names and types
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        waiting += [line for line in lines if line]
        while len(waiting) >= most:
            yield waiting[:most]
            del waiting[:most]
            most = size
    if rest:
        waiting.append(rest)
    while waiting:
        yield waiting[:most]
        del waiting[:most]
        most = size


def _literal(value: Value) -> str:
    """A value as ClickHouse SQL says it."""
    if value is None:
        return "NULL"
    if isinstance(value, Timestamp):
        return f"parseDateTime64BestEffort('{Timestamp(value.ns).text()}', 9, 'UTC')"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return as_text(value) or "0"
    if isinstance(value, list):
        return f"[{', '.join(_literal(one) for one in value)}]"
    text = (as_text(value) or "").replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def _inserted(value: Value) -> Value:
    if isinstance(value, Timestamp):
        return value.text()
    if isinstance(value, bytes):
        return as_text(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value

"""Positions in PostgreSQL or Redis, for replicas anywhere."""

from __future__ import annotations

import asyncio
import base64
import importlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from openmeter_collector.engine.election.locks import psycopg_library
from openmeter_collector.engine.stores.shared import Kept, refuse_older
from openmeter_collector.errors import ConfigError, Retryable, Superseded, install_extra

T = TypeVar("T")
_ANSWER_WITHIN: Final = 10.0
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?")


class PostgresBackend:
    """See `engine.stores.shared.Backend`. One row for a position; a save is a transaction."""

    def __init__(self, dsn: str, table: str) -> None:
        """Take the settings.

        Raises:
            ConfigError: the library is missing, or the table's name is none.
        """
        self._psycopg = psycopg_library("state.postgres")
        if not _NAME.fullmatch(table):
            raise ConfigError(f"state.postgres.table: {table!r} is no name of a table")
        self._dsn = dsn
        self._table = table
        self._connection: Any = None
        self._one = asyncio.Lock()

    async def read(self, key: str) -> Kept | None:
        async def ask(connection: Any) -> Kept | None:
            cursor = await connection.execute(
                f"SELECT term, value FROM {self._table} WHERE key = %s",  # noqa: S608 - checked
                (key,),
            )
            row = await cursor.fetchone()
            return None if row is None else Kept(int(row[0]), _bytes(row[1]))

        return await self._with_connection(ask)

    async def all(self) -> dict[str, Kept]:
        async def ask(connection: Any) -> dict[str, Kept]:
            cursor = await connection.execute(
                f"SELECT key, term, value FROM {self._table}"  # noqa: S608 - checked
            )
            rows = await cursor.fetchall()
            return {str(key): Kept(int(term), _bytes(value)) for key, term, value in rows}

        return await self._with_connection(ask)

    async def write(self, changes: Mapping[str, Kept]) -> None:
        async def save(connection: Any) -> None:
            async with connection.transaction():
                for key in sorted(
                    changes
                ):  # in one order, so that two writers cannot block each other
                    await self._save_one(connection, key, changes[key])

        await self._with_connection(save)

    async def _save_one(self, connection: Any, key: str, written: Kept) -> None:
        cursor = await connection.execute(
            f"INSERT INTO {self._table} AS kept (key, term, value) VALUES (%s, %s, %s) "  # noqa: S608
            "ON CONFLICT (key) DO UPDATE SET term = greatest(kept.term, excluded.term), "
            "value = coalesce(excluded.value, kept.value) "
            "WHERE excluded.term = 0 OR excluded.term >= kept.term RETURNING term",
            (key, written.term, written.value),
        )
        if await cursor.fetchone() is None:
            found = await connection.execute(
                f"SELECT term FROM {self._table} WHERE key = %s",  # noqa: S608 - checked
                (key,),
            )
            (term,) = await found.fetchone()
            refuse_older(key, Kept(int(term), None), written)

    async def _with_connection(self, work: Callable[[Any], Awaitable[T]]) -> T:
        async with self._one:
            try:
                async with asyncio.timeout(_ANSWER_WITHIN):
                    if self._connection is None:
                        self._connection = await self._open()
                    return await work(self._connection)
            except (TimeoutError, OSError, self._psycopg.Error) as error:
                await self._drop()
                said = str(error).strip() or "no answer in time"
                raise Retryable(f"state.postgres: {said}") from error

    async def _open(self) -> Any:
        connection = await self._psycopg.AsyncConnection.connect(
            self._dsn, autocommit=True, connect_timeout=5
        )
        try:
            # Two replicas that make it at the same moment: one of them is told that it exists.
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self._table} "
                "(key text PRIMARY KEY, term bigint NOT NULL, value bytea)"
            )
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def close(self) -> None:
        """Hang up."""
        await self._drop()


_SCRIPT: Final = """
for i, key in ipairs(KEYS) do
  local term = tonumber(ARGV[i * 2 - 1])
  local kept = tonumber(redis.call('HGET', key, 'term') or '0')
  if term > 0 and term < kept then return {key, tostring(kept)} end
end
for i, key in ipairs(KEYS) do
  local term = tonumber(ARGV[i * 2 - 1])
  local kept = tonumber(redis.call('HGET', key, 'term') or '0')
  if term > kept then kept = term end
  redis.call('HSET', key, 'term', tostring(kept))
  if ARGV[i * 2] ~= '-' then redis.call('HSET', key, 'value', ARGV[i * 2]) end
end
return false
"""


class RedisBackend:
    """See `engine.stores.shared.Backend`. As lasting as the server's own persistence is."""

    def __init__(self, url: str, prefix: str) -> None:
        """Take the settings.

        Raises:
            ConfigError: the library is missing, or the address is none.
        """
        try:
            asyncio_redis = importlib.import_module("redis.asyncio")
            self._errors = importlib.import_module("redis.exceptions")
        except ImportError as error:
            raise ConfigError(
                f"state.redis needs the extra 'redis'; run: {install_extra('redis')}"
            ) from error
        try:
            self._client = asyncio_redis.Redis.from_url(url, socket_timeout=_ANSWER_WITHIN)
        except ValueError as error:
            raise ConfigError(f"state.redis.url: {error}") from error
        self._script = self._client.register_script(_SCRIPT)
        self._prefix = prefix

    async def read(self, key: str) -> Kept | None:
        term, value = await self._asked(self._client.hmget(self._prefix + key, "term", "value"))
        return None if term is None else Kept(int(term), _decoded(value))

    async def all(self) -> dict[str, Kept]:
        found = {}
        pattern = re.sub(r"([*?\[\]^\\])", r"\\\1", self._prefix) + "*"
        cursor = 0
        while True:
            cursor, names = await self._asked(self._client.scan(cursor, match=pattern, count=500))
            for name in names:
                key = name.decode().removeprefix(self._prefix)
                kept = await self.read(key)
                if kept is not None:
                    found[key] = kept
            if not cursor:
                return found

    async def write(self, changes: Mapping[str, Kept]) -> None:
        keys = [self._prefix + key for key in changes]
        arguments: list[str] = []
        for one in changes.values():
            coded = "-" if one.value is None else base64.b64encode(one.value).decode()
            arguments += [str(one.term), coded]
        refused = await self._asked(self._script(keys=keys, args=arguments))
        if refused:
            key, term = (one.decode() for one in refused)
            raise Superseded(
                f"position {key.removeprefix(self._prefix)!r} is in the hands of the leader of term {term}"
            )

    async def _asked(self, asking: Awaitable[T]) -> T:
        try:
            return await asking
        except (self._errors.RedisError, OSError) as error:
            raise Retryable(f"state.redis: {error}") from error

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


def _decoded(value: bytes | None) -> bytes | None:
    return None if value is None else base64.b64decode(value)

"""A cache in a file, which survives restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import apsw

from openmeter_collector.api import (
    Cache,
    ConfigError,
    Duration,
    Env,
    Example,
    Retryable,
    cache,
    field,
)

T = TypeVar("T")
SEEN = Example(
    "What was seen in the last day, also after a restart",
    """
    cache_resources:
      - label: seen
        sqlite:
          path: ./seen.db
          default_ttl: 24h
    """,
)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, value BLOB NOT NULL, ends REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cache_ends ON cache (ends) WHERE ends IS NOT NULL;
"""
_SWEEP_EVERY: Final = 60.0
_SWEEP_MOST: Final = 10_000


@cache("sqlite", ours=True, dangerous="files", categories=("Local",), examples=[SEEN])
class SqliteCache:
    """Keeps values in a SQLite file. A value that was put is there after a crash and a restart.

    Values whose time is over are removed from the file from time to time. When there are more than
    `max_items`, those that end first go first.
    """

    path: str = field(doc="The file; made when it is not there.", examples=["./seen.db"], minimum=1)
    default_ttl: Duration | None = field(
        default=None,
        doc="How long a value is kept when it is not said with it; empty keeps it for ever.",
    )
    max_items: int = field(default=10_000_000, minimum=0, doc="Values kept at most; 0 is no limit.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Cache]:
        """Opens or makes the file.

        Raises:
            ConfigError: it cannot be opened, or is no SQLite file.
        """
        # One thread for one connection: SQLite serialises anyway, and the event loop never waits.
        with ThreadPoolExecutor(1, "cache") as thread:
            loop = asyncio.get_running_loop()
            try:
                database = await loop.run_in_executor(thread, _opened, Path(self.path))
            except (apsw.Error, OSError) as error:
                raise ConfigError(
                    f"{env.node.where} cache sqlite: {self.path}: {error}; check path"
                ) from error
            try:
                yield _Sqlite(self, env, database, thread)
            finally:
                await loop.run_in_executor(thread, database.close)


def _opened(path: Path) -> apsw.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = apsw.Connection(str(path))
    try:
        database.set_busy_timeout(5000)
        database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        database.execute(_SCHEMA)
    except BaseException:
        database.close()
        raise
    return database


class _Sqlite:
    def __init__(
        self, config: SqliteCache, env: Env, database: apsw.Connection, thread: ThreadPoolExecutor
    ) -> None:
        self._env = env
        self._database = database
        self._thread = thread
        self._ttl = None if config.default_ttl is None else float(config.default_ttl)
        self._most = config.max_items
        self._swept = env.monotonic()

    async def get(self, key: str) -> bytes | None:
        now = self._env.now()
        return await self._run(lambda: self._get(key, now))

    async def set(self, key: str, value: bytes, ttl: float | None = None) -> None:
        ends = self._ends(ttl)
        statement = "INSERT OR REPLACE INTO cache (key, value, ends) VALUES (?, ?, ?)"
        await self._run(lambda: self._database.execute(statement, (key, value, ends)))
        await self._sweep()

    async def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        now, ends = self._env.now(), self._ends(ttl)
        added = await self._run(lambda: self._add(key, value, now, ends))
        await self._sweep()
        return added

    async def delete(self, key: str) -> None:
        await self._run(lambda: self._database.execute("DELETE FROM cache WHERE key = ?", (key,)))

    def _get(self, key: str, now: float) -> bytes | None:
        found = self._database.execute(
            "SELECT value FROM cache WHERE key = ? AND (ends IS NULL OR ends > ?)", (key, now)
        ).fetchone()
        return None if found is None else bytes(found[0])

    def _add(self, key: str, value: bytes, now: float, ends: float | None) -> bool:
        self._database.execute(
            "INSERT INTO cache (key, value, ends) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE "
            "SET value = excluded.value, ends = excluded.ends WHERE cache.ends <= ?",
            (key, value, ends, now),
        )
        return self._database.changes() > 0

    def _ends(self, ttl: float | None) -> float | None:
        length = self._ttl if ttl is None else ttl
        return None if length is None else self._env.now() + length

    async def _sweep(self) -> None:
        if self._env.monotonic() - self._swept < _SWEEP_EVERY:
            return
        self._swept = self._env.monotonic()
        now = self._env.now()
        await self._run(lambda: self._remove_old(now))

    def _remove_old(self, now: float) -> None:
        # A bounded piece at a time: others wait behind it.
        self._database.execute(
            "DELETE FROM cache WHERE key IN (SELECT key FROM cache WHERE ends <= ? LIMIT ?)",
            (now, _SWEEP_MOST),
        )
        if not self._most:
            return
        count = int(self._database.execute("SELECT count(*) FROM cache").get)
        if count > self._most:
            self._database.execute(
                "DELETE FROM cache WHERE key IN "
                "(SELECT key FROM cache ORDER BY ends IS NULL, ends LIMIT ?)",
                (min(count - self._most, _SWEEP_MOST),),
            )

    async def _run(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, call)
        except apsw.Error as error:
            raise Retryable(f"cache sqlite: {error}") from error

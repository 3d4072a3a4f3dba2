"""Election by something that is held: a lock on a file, an advisory lock of PostgreSQL.

Whoever has the lock leads. It is lost with what holds it: the process, or the connection. The term is a
number kept beside the lock, raised with each acquisition.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import os
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from openmeter_collector.engine.election.leading import Leading
from openmeter_collector.errors import ConfigError, install_extra

_RETRY: Final = 2.0
_ANSWER_WITHIN: Final = 5.0
_TABLE: Final = "openmeter_collector_leaders"


class FileElector:
    """A lock on a file, for replicas on one machine or on a shared file system that has locks."""

    def __init__(
        self, path: Path, leading: Leading, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._path = path
        self._leading = leading
        self._sleep = sleep
        self._handle: int | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if self._handle is None:
                try:
                    self._take()
                except OSError as error:
                    self._leading.problem = f"{self._path}: {error.strerror}"
            elif not self._is_same():
                self._leading.ended("the lock file was replaced")
                self._let_go()
            await self._sleep(_RETRY)

    def _take(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = os.read(handle, 200).decode(errors="replace").split()
            self._leading.holder = words[1] if len(words) > 1 else ""
            self._leading.problem = ""
            os.close(handle)
            return
        except OSError:
            os.close(handle)
            raise
        words = os.read(handle, 200).decode(errors="replace").split()
        term = int(words[0]) + 1 if words and words[0].isdecimal() else 1
        content = f"{term} {self._leading.identity}\n".encode()
        os.ftruncate(handle, 0)
        os.pwrite(handle, content, 0)
        os.fsync(handle)
        self._handle = handle
        self._leading.acquired(term)

    def _is_same(self) -> bool:
        """Whether the file we have locked is still the one that others would lock."""
        assert self._handle is not None
        try:
            return os.fstat(self._handle).st_ino == self._path.stat().st_ino
        except OSError:
            return False

    async def release(self) -> None:
        """Give it back."""
        self._leading.ended("stopping")
        self._let_go()

    def _let_go(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


class PostgresElector:
    """An advisory lock: held by a session, so gone when the connection is."""

    def __init__(
        self,
        dsn: str,
        name: str,
        leading: Leading,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        patience: float = 10.0,
    ) -> None:
        """`patience`: seconds without an answer after which we do not trust to lead any more."""
        self._psycopg = psycopg_library("leader_election.postgres")
        self._dsn = dsn
        self._name = name
        self._key = zlib.crc32(name.encode()) | (0x0C01 << 32)
        self._leading = leading
        self._monotonic = monotonic
        self._sleep = sleep
        self._patience = patience
        self._connection: Any = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_ANSWER_WITHIN):
                    await self._attempt()
            except (TimeoutError, OSError, self._psycopg.Error) as error:
                self._leading.problem = f"PostgreSQL: {str(error).strip() or 'no answer in time'}"
                # The server drops the lock with the session; we do the same, and at once.
                self._leading.ended("the connection that holds the lock is gone")
                await self._close()
            await self._sleep(_RETRY)

    async def _attempt(self) -> None:
        began = self._monotonic()
        if self._connection is None:
            self._connection = await self._psycopg.AsyncConnection.connect(
                self._dsn, autocommit=True, connect_timeout=5
            )
        if self._leading.leading:
            await self._connection.execute("SELECT 1")
            self._leading.renewed(began + self._patience)
            return
        cursor = await self._connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key,))
        (got,) = await cursor.fetchone()
        self._leading.problem = ""
        if not got:
            return
        await self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS {_TABLE} "
            "(name text PRIMARY KEY, term bigint NOT NULL, holder text NOT NULL)"
        )
        cursor = await self._connection.execute(
            f"INSERT INTO {_TABLE} AS known (name, term, holder) VALUES (%s, 1, %s) "  # noqa: S608
            "ON CONFLICT (name) DO UPDATE SET term = known.term + 1, holder = excluded.holder "
            "RETURNING term",
            (self._name, self._leading.identity),
        )
        (term,) = await cursor.fetchone()
        self._leading.acquired(int(term), began + self._patience)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                async with asyncio.timeout(_ANSWER_WITHIN):
                    await connection.close()
            except (TimeoutError, OSError, self._psycopg.Error) as error:
                self._leading.problem = str(error)

    async def release(self) -> None:
        """Give it back."""
        self._leading.ended("stopping")
        await self._close()


def psycopg_library(where: str) -> Any:
    """The library that PostgreSQL is spoken with.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("psycopg")
    except ImportError as error:
        raise ConfigError(
            f"{where} needs the extra 'postgres'; run: {install_extra('postgres')}"
        ) from error

"""How a command opens the journal, beside a collector that is running or without one.

Reading changes nothing, not even a byte of a log that a crash left behind. Changing is one short
transaction at a time, which the running collector notices (see `returned`); it waits for such a
transaction as it would for a slow disk.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from openmeter_collector.errors import StorageError
from openmeter_collector.storage.schema import APPLICATION_ID, FORMAT, close_quietly

_PATIENCE_MS: Final = 10_000


@contextmanager
def reading(path: Path) -> Iterator[apsw.Connection]:
    """The file, for reading.

    Raises:
        StorageError: it is not there, or is no journal of this version.
    """
    wal = path.with_name(path.name + "-wal")
    at_rest = owner_of(path) is None and not (wal.exists() and wal.stat().st_size)
    # At rest nothing may be left behind; SQLite would make its two files to watch for writers.
    name = f"{path.absolute().as_uri()}?immutable=1" if at_rest else str(path)
    with _opened(path, apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, name) as connection:
        yield connection


@contextmanager
def changing(path: Path) -> Iterator[apsw.Connection]:
    """The file, for short transactions; what is committed is on the disk.

    Raises:
        StorageError: as for `reading`, or it may not be written.
    """
    with _opened(path, apsw.SQLITE_OPEN_READWRITE, str(path)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        yield connection


@contextmanager
def _opened(path: Path, flags: int, name: str) -> Iterator[apsw.Connection]:
    if not path.exists():
        raise StorageError(f"{path}: no such file; give the path that buffer.sqlite.path has")
    if os.geteuid() not in {0, path.stat().st_uid}:
        # What SQLite leaves beside the file would belong to us, and lock its owner out.
        raise StorageError(f"{path}: belongs to another user; run this as its owner")
    try:
        connection = apsw.Connection(name, flags=flags)
    except apsw.Error as error:
        raise StorageError(f"{path}: cannot be opened ({error})") from error
    try:
        connection.set_busy_timeout(_PATIENCE_MS)
        _check(path, connection)
        yield connection
    except apsw.BusyError as error:
        raise StorageError(f"{path}: is being written for too long ({error}); try again") from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StorageError(
            f"{path}: is damaged ({error}); `buffer verify` says where, and a start of the "
            "collector, or `buffer repair`, saves what can be read"
        ) from error
    finally:
        close_quietly(connection)


def _check(path: Path, connection: apsw.Connection) -> None:
    application = connection.execute("PRAGMA application_id").get
    version = connection.execute("PRAGMA user_version").get
    if application != APPLICATION_ID:
        raise StorageError(f"{path}: is not a journal of this collector")
    if version != FORMAT:
        what = "start the collector once, it brings the file up to date"
        if isinstance(version, int) and version > FORMAT:
            what = "use the newer collector's command"
        raise StorageError(f"{path}: is in journal format {version}, this is {FORMAT}; {what}")


def owner_of(path: Path) -> str | None:
    """The process that has the journal open, as it wrote itself down; None when none has."""
    lock = path.with_name(path.name + ".lock")
    try:
        handle = os.open(lock, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.read(handle, 32).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(handle)
    return None

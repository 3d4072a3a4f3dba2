"""The journal's file: tables, pragmas, how it is opened, locked and versioned."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import apsw

from openmeter_collector.errors import StorageError
from openmeter_collector.storage.upgrade import TABLES_2, upgrade

Durability = Literal["durable", "os", "memory"]

FORMAT: Final = 2
"""Kept in `PRAGMA user_version`. A file with a higher one was written by a newer collector."""

APPLICATION_ID: Final = 0x4F4D434A  # "OMCJ"
_MOST_FORMATS_AHEAD: Final = 1_000

FARTHEST_MS: Final = 1 << 62
"""A time that is later than all."""

# Tables of format 1. A file that was made by it has `tally` as its last column, so columns are always
# named. What stands before `payload` can be read without reading the pages of the payload.
_TABLES: Final = """
CREATE TABLE frames (
    id INTEGER PRIMARY KEY,
    received_ms INTEGER NOT NULL,
    events INTEGER NOT NULL,
    size INTEGER NOT NULL,
    done BLOB,
    tally BLOB,
    payload BLOB NOT NULL
);
CREATE TABLE checkpoints (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    reason TEXT NOT NULL,
    response TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    first_attempt_ms INTEGER NOT NULL,
    last_attempt_ms INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    output TEXT NOT NULL,
    event_id TEXT,
    event_source TEXT,
    event_type TEXT,
    event_subject TEXT,
    metadata BLOB NOT NULL,
    content BLOB NOT NULL
);
"""

# In WAL mode FULL is one fsync of the log per commit, before the commit returns. NORMAL leaves that
# to the next checkpoint: a power cut may then take the newest commits, but never damages the file.
_SYNCHRONOUS: Final = {"durable": "FULL", "os": "NORMAL", "memory": "NORMAL"}


def open_connection(path: Path, durability: Durability) -> apsw.Connection:
    """Open the journal file for writing, making it when it does not exist.

    Raises:
        StorageError: the folder or file cannot be used; the text says why.
        apsw.NotADBError, apsw.CorruptError: what is there is not (any more) a database.
    """
    if not path.exists():
        _create_private(path)
    try:
        connection = apsw.Connection(str(path), statementcachesize=32)
    except apsw.CantOpenError as error:
        raise StorageError(f"{path}: cannot be opened ({error}); check owner and mode") from error
    try:
        _configure(connection, durability)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """Open the journal for reading beside a live writer."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=8)
    connection.set_busy_timeout(5_000)
    return connection


def _configure(connection: apsw.Connection, durability: Durability) -> None:
    connection.set_busy_timeout(5_000)
    version = _pragma(connection, "user_version")
    application = _pragma(connection, "application_id")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    damage = _damaged_head(connection, application, version)
    if damage:
        raise apsw.CorruptError(damage)
    if application == APPLICATION_ID and version > FORMAT:
        raise StorageError(
            f"{connection.filename}: written in journal format {version} by a newer collector; "
            f"this one knows up to {FORMAT}: use the newer one, or another path"
        )
    if tables and application != APPLICATION_ID:
        raise StorageError(
            f"{connection.filename}: is a SQLite database of another program; "
            "move it away, or give the buffer another path"
        )
    if not tables:
        # Before the first table, or they have no effect. Incremental vacuum is what gives space
        # back after a long outage has drained.
        connection.execute("PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL")
    if connection.execute("PRAGMA journal_mode = WAL").get != "wal":
        if tables:  # it was made in this mode
            raise apsw.CorruptError("its head says that it cannot be written")
        raise StorageError(
            f"{connection.filename}: the file system does not support a write-ahead log; "
            "put the buffer on a local disk"
        )
    connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
    connection.execute("PRAGMA wal_autocheckpoint = 2000")
    # A log that grew during a burst shrinks back to this at the next restart of the log.
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if not tables:
        with connection:
            connection.execute(_TABLES + TABLES_2)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        # Whoever made the file may have been killed before this line: so it goes with the tables.
        fsync_folder(Path(connection.filename).parent)
    elif version < FORMAT:
        # Read before it is changed: a damaged file is set aside as it was.
        with connection:
            upgrade(connection, version, FORMAT)


def _damaged_head(connection: apsw.Connection, application: int, version: int) -> str | None:
    """What is wrong with the numbers in a file's head, when its tables say that it is ours."""
    names = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema")}
    if not names >= {"frames", "checkpoints", "dead_letters"}:
        return None
    if application != APPLICATION_ID:
        return "its application id is damaged"
    if version > FORMAT + _MOST_FORMATS_AHEAD or version < 1 or ("ledger" in names and version < 2):
        return "its format number is damaged"
    return None


def close_quietly(connection: apsw.Connection) -> None:
    """Close; what could not be tidied up on the way out is found at the next start."""
    with suppress(apsw.Error):
        connection.close(True)


def _pragma(connection: apsw.Connection, name: str) -> int:
    value = connection.execute(f"PRAGMA {name}").get
    assert isinstance(value, int)
    return value


def _create_private(path: Path) -> None:
    """Events and metadata are other people's data: owner only, from the first byte."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be created ({error.strerror}); "
            "give the buffer a path in a folder this user may write to"
        ) from error


def fsync_folder(folder: Path) -> None:
    """Make names in it survive a power cut; SQLite does this for its log only."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folder(folder: Path) -> None:
    """Make it, with the folders above it, so that a power cut does not take them again."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    fsync_folder(folder.parent)


class FileLock:
    """One process per journal: two would both deliver what is in it."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            StorageError: another process has it.
        """
        self._path = path.with_name(path.name + ".lock")
        try:
            _make_folder(path.parent)
            self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise StorageError(
                f"{self._path}: cannot be created ({error.strerror}); "
                "give the buffer a path in a folder this user may write to"
            ) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._handle, 32).decode(errors="replace").strip()
            os.close(self._handle)
            raise StorageError(
                f"{path}: is in use by process {owner or 'unknown'}; "
                "stop that collector, or give this one another path"
            ) from error
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give it back. The kernel does the same when the process dies."""
        os.close(self._handle)


def volatile_filesystem(path: Path) -> str | None:
    """The file system type when what is written there does not outlive the machine or container.

    Returns:
        `tmpfs`, `ramfs` or `overlay`; None for anything else, or when it cannot be told.
    """
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return None
    folder = str(path.resolve().parent)
    best, kind = "", ""
    for line in mounts:
        _, mount, fstype, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        inside = folder == mount or folder.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, fstype
    return kind if kind in {"tmpfs", "ramfs", "overlay"} else None

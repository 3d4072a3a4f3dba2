"""Positions in a journal that no collector has open: to look at, and to change with care."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from openmeter_collector.errors import StorageError
from openmeter_collector.storage.schema import FileLock, open_connection


def read_checkpoints(path: Path) -> dict[str, bytes]:
    """All positions in a journal; also while a collector has it open.

    Raises:
        StorageError: there is no journal, or it cannot be read.
    """
    if not path.exists():
        raise StorageError(f"{path}: there is no journal; name the one of the collector")
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            rows = connection.execute("SELECT key, value FROM checkpoints")
            return {str(key): bytes(value) for key, value in rows}
        finally:
            connection.close()
    except apsw.Error as error:
        raise StorageError(f"{path}: cannot be read ({error}); is it a journal?") from error


def change_checkpoint(path: Path, key: str, change: Callable[[bytes], bytes]) -> None:
    """Change one position, on disk when this returns.

    Raises:
        StorageError: a collector has the journal open, or it cannot be written.
    """
    lock = FileLock(path)
    try:
        connection = open_connection(path, "durable")
        try:
            with connection:
                rows: list[tuple[bytes]] = connection.execute(  # type: ignore[assignment]
                    "SELECT value FROM checkpoints WHERE key = ?", (key,)
                ).fetchall()
                for (value,) in rows:
                    connection.execute(
                        "UPDATE checkpoints SET value = ? WHERE key = ?",
                        (change(value), key),
                    )
        finally:
            connection.close()
    except apsw.Error as error:
        raise StorageError(f"{path}: cannot be changed ({error})") from error
    finally:
        lock.release()

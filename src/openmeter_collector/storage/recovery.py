"""What is true after a crash, and what to do when the file is not what it should be.

| what is found                         | what happens                                                |
|---------------------------------------|-------------------------------------------------------------|
| nothing                               | a new journal                                               |
| a log with commits not yet copied     | SQLite replays it: every commit whose fsync returned is in  |
| a torn last commit in the log         | SQLite drops it: it was never acknowledged                  |
| not a database, or damaged            | set aside, salvaged frame by frame into a new journal       |
| another program's or a newer database | refused: nothing of it is touched                           |
| one frame whose checksum is wrong     | left in the file, counted, reported; the others are read    |

The collector always starts on damage, and says what it found: usage that could be read is worth more
than a process that waits for a person.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from openmeter_collector.errors import StorageError
from openmeter_collector.storage.frame import decode_frame
from openmeter_collector.storage.schema import Durability, open_connection

_SIDE_FILES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class SetAside:
    """What was found damaged and what could be saved."""

    path: Path
    reason: str
    frames: int
    events: int
    lost_frames: int


@dataclass(slots=True)
class Opened:
    """The journal as it is at the start."""

    last_id: int = 0
    events: int = 0
    size: int = 0
    frames: int = 0
    oldest_ms: int = 0
    dead_letters: int = 0
    checkpoints: dict[str, bytes] = field(default_factory=dict)
    report: SetAside | None = None


def open_or_set_aside(path: Path, durability: Durability) -> Opened:
    """Make sure a usable journal is at `path` and say what it holds.

    Raises:
        StorageError: the file cannot be used and must not be touched.
    """
    try:
        return _look(path, durability)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        aside = _move_aside(path)
        report = _salvage(aside, path, durability, str(error))
    opened = _look(path, durability)
    opened.report = report
    return opened


def _look(path: Path, durability: Durability) -> Opened:
    connection = open_connection(path, durability)
    try:
        opened = Opened()
        # Reads the first page of each row only, never the payloads behind it.
        row = connection.execute(
            "SELECT coalesce(max(id), 0), coalesce(sum(events), 0), coalesce(sum(size), 0), "
            "count(*), coalesce(min(received_ms), 0) FROM frames"
        ).get
        opened.last_id, opened.events, opened.size, opened.frames, opened.oldest_ms = row
        opened.dead_letters = connection.execute("SELECT count(*) FROM dead_letters").get
        for key, value in connection.execute("SELECT key, value FROM checkpoints"):
            opened.checkpoints[str(key)] = bytes(value)
        opened.events -= _already_done(connection)
    finally:
        connection.close()
    return opened


def _already_done(connection: apsw.Connection) -> int:
    rows = connection.execute("SELECT done FROM frames WHERE done IS NOT NULL")
    return sum(bytes(done).count(1) for (done,) in rows)


def _move_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    for side in _SIDE_FILES:
        source = path.with_name(path.name + side)
        if source.exists():
            source.rename(aside.with_name(aside.name + side))
    return aside


def _salvage(aside: Path, path: Path, durability: Durability, reason: str) -> SetAside:
    """Copy every frame that can be read and whose checksum holds."""
    target = open_connection(path, durability)
    frames = events = lost = 0
    try:
        source = apsw.Connection(str(aside), flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error:
        target.close()
        return SetAside(aside, reason, 0, 0, 0)
    try:
        after = 0
        while True:
            try:
                row = source.execute(
                    "SELECT id, received_ms, events, size, done, payload FROM frames "
                    "WHERE id > ? ORDER BY id LIMIT 1",
                    (after,),
                ).get
            except apsw.Error:
                # The page that leads to the next row is gone. What stands behind it cannot be
                # found by key any more; the damaged file is kept for other means.
                lost += 1
                break
            if row is None:
                break
            after = int(row[0])
            try:
                decode_frame(bytes(row[5]))
            except StorageError:
                lost += 1
                continue
            with target:
                target.execute("INSERT INTO frames VALUES (?,?,?,?,?,?)", tuple(row))
            frames += 1
            events += int(row[2])
    finally:
        source.close(True)
        target.close()
    return SetAside(aside, reason, frames, events, lost)

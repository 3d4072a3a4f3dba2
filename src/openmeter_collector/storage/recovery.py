"""What is true after a crash, and what to do when the file is not what it should be.

| what is found                         | what happens                                                |
|---------------------------------------|-------------------------------------------------------------|
| nothing                               | a new journal                                               |
| a log with commits not yet copied     | SQLite replays it: every commit whose fsync returned is in  |
| a torn last commit in the log         | SQLite drops it: it was never acknowledged                  |
| not a database, or damaged            | set aside, salvaged frame by frame into a new journal       |
| another program's or a newer database | refused: nothing of it is touched                           |
| one frame whose checksum is wrong     | left in the file, counted, reported; the others are read    |
| damage that shows only while in use   | noted beside the file; set aside at the next start          |

The collector always starts on damage, and says what it found: usage that could be read is worth more
than a process that waits for a person.

A kill at any moment of a salvage loses nothing: the new journal is made beside the damaged one under
another name, gets its finished name when it is complete, and only then is the damaged one moved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw

from openmeter_collector.errors import StorageError
from openmeter_collector.message import Batch
from openmeter_collector.storage.audit import settle_differences
from openmeter_collector.storage.frame import decode_frame
from openmeter_collector.storage.mended import mended_head
from openmeter_collector.storage.reader import FARTHEST, next_readable
from openmeter_collector.storage.schema import Durability, fsync_folder, open_connection
from openmeter_collector.storage.upgrade import begin_the_books

_SIDE_FILES: Final = ("-wal", "-shm")
_COPY_AT_ONCE: Final = 64
_COPIED_TABLES: Final = ("ledger", "ledger_rules", "returned", "history", "meta", "sent")
"""Beside those that are counted in the report. What ids were seen is not worth a salvage."""
_COPY_FRAME: Final = (
    "INSERT OR IGNORE INTO frames (id, received_ms, events, size, done, tally, payload) "
    "VALUES (?,?,?,?,?,?,?)"
)


@dataclass(slots=True)
class SetAside:
    """What was found damaged and what could be saved.

    Attributes:
        lost_frames: frames, or stretches of them, that could not be read.
        lost_events: events that the books know of and that are nowhere any more.
    """

    path: Path
    reason: str
    frames: int = 0
    events: int = 0
    lost_frames: int = 0
    lost_events: int = 0
    dead_letters: int = 0
    checkpoints: int = 0


@dataclass(slots=True)
class Opened:
    """The journal as it is at the start."""

    last_id: int = 0
    last_letter_id: int = 0
    events: int = 0
    size: int = 0
    frames: int = 0
    oldest_ms: int = 0
    dead_letters: int = 0
    checkpoints: dict[str, bytes] = field(default_factory=dict)
    report: SetAside | None = None


def open_or_set_aside(
    path: Path, durability: Durability, told: Callable[[int], object] = int
) -> Opened:
    """Make sure a usable journal is at `path` and say what it holds.

    Args:
        told: how many more events were saved, while a damaged file is gone through.

    Raises:
        StorageError: the file cannot be used and must not be touched.
    """
    _finish_salvage(path)
    reason = _noted_damage(path)
    if reason is None:
        try:
            return _look(path, durability)
        except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError) as error:
            reason = str(error)
        except (TypeError, ValueError) as error:
            # SQLite does not see it when the head of a row says another type than was written.
            reason = f"a row holds what was never written: {error}"
    report = _set_aside(path, reason, told)
    opened = _look(path, durability)
    opened.report = report
    return opened


def mark_damaged(path: Path, reason: str) -> None:
    """Note that the file broke while it was in use, for the next start to see."""
    try:
        _note(path).write_text(reason)
    except OSError:
        # The disk takes nothing any more. What is broken will be met again, and noted then.
        return


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".damage")


def _noted_damage(path: Path) -> str | None:
    try:
        return _note(path).read_text(errors="replace") or "it was damaged while in use"
    except FileNotFoundError:
        pass
    # SQLite deletes the log of a database that has no content. Ours always has some.
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size and not (path.exists() and path.stat().st_size):
        return "its log is there, but the file itself is empty or gone"
    return None


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
        # A number that was given to a letter is never given again, even when it was deleted.
        opened.last_letter_id = connection.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'dead_letters'"
        ).get
        for key, value in connection.execute("SELECT key, value FROM checkpoints"):
            opened.checkpoints[str(key)] = bytes(value)
        opened.events -= _already_done(connection)
    finally:
        connection.close()
    return opened


def _already_done(connection: apsw.Connection) -> int:
    rows = connection.execute("SELECT done FROM frames WHERE done IS NOT NULL")
    return sum(bytes(done).count(1) for (done,) in rows)


# ---- setting aside ------------------------------------------------------------------------------


def _set_aside(path: Path, reason: str, told: Callable[[int], object]) -> SetAside:
    """Save what can be read into a new journal, keep the damaged files beside it."""
    unfinished = path.with_name(path.name + ".salvaging")
    _remove(unfinished)
    report = SetAside(path, reason)
    target = open_connection(unfinished, "durable")
    try:
        _salvage(path, target, report, told)
    finally:
        # The only one that has it open: closing empties the log into it and removes the log.
        target.close()
    unfinished.rename(_finished(path))
    fsync_folder(path.parent)
    report.path = _finish_salvage(path) or path
    return report


def _finish_salvage(path: Path) -> Path | None:
    """Move the damaged files away and the finished new journal into their place.

    What is in a file that has its finished name is complete, so this may be cut off anywhere.

    Returns:
        Where the damaged file is now; None when there was nothing to finish.
    """
    finished = _finished(path)
    if not finished.exists():
        return None
    aside = _unused_name(path)
    for side in ("", *_SIDE_FILES):
        source = path.with_name(path.name + side)
        if source.exists():
            source.rename(aside.with_name(aside.name + side))
    fsync_folder(path.parent)
    finished.rename(path)
    fsync_folder(path.parent)
    _note(path).unlink(missing_ok=True)
    return aside


def _finished(path: Path) -> Path:
    return path.with_name(path.name + ".salvaged")


def _remove(path: Path) -> None:
    for side in ("", *_SIDE_FILES):
        path.with_name(path.name + side).unlink(missing_ok=True)


def _unused_name(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while any(aside.with_name(aside.name + side).exists() for side in ("", *_SIDE_FILES)):
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    return aside


def _salvage(
    path: Path, target: apsw.Connection, report: SetAside, told: Callable[[int], object]
) -> None:
    """Copy every row that can be read, and every frame whose checksum holds."""
    with suppress(apsw.Error), mended_head(path) as source:
        # Without this SQLite reads nothing at all of a file that is shorter than it says.
        source.execute("PRAGMA writable_schema = ON")
        for rows in _in_groups(_frames(source, report)):
            with target:
                target.executemany(_COPY_FRAME, rows)
            report.frames += len(rows)
            saved = sum(row[2] for row in rows)
            report.events += saved
            told(saved)
        for rows in _in_groups(_rows(source, "SELECT key, value FROM checkpoints")):
            with target:
                target.executemany("INSERT OR IGNORE INTO checkpoints VALUES (?,?)", rows)
            report.checkpoints += len(rows)
        report.dead_letters = _copy(source, target, "dead_letters")
        for table in _COPIED_TABLES:
            _copy(source, target, table)
        # Counted anew: not all that was kept need have been readable.
        target.execute("DELETE FROM meta WHERE key = 'sent_bytes'")
    if target.execute("SELECT count(*) FROM ledger").get:
        report.lost_events = settle_differences(target)
    else:
        begin_the_books(target)


def _copy(source: apsw.Connection, target: apsw.Connection, table: str) -> int:
    """Copy the rows of a table that can be read; an older file may not have it."""
    there = set(_columns(source, table))
    columns = [name for name in _columns(target, table) if name in there]
    if not columns:
        return 0
    names = ", ".join(columns)
    insert = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({','.join('?' * len(columns))})"  # noqa: S608
    copied = 0
    for rows in _in_groups(_rows(source, f"SELECT {names} FROM {table}")):  # noqa: S608
        with target:
            target.executemany(insert, rows)
        copied += len(rows)
    return copied


def _frames(source: apsw.Connection, report: SetAside) -> Iterator[tuple[Any, ...]]:
    after = 0
    tally = "tally" if "tally" in _columns(source, "frames") else "NULL"
    while True:
        try:
            row = source.execute(
                f"SELECT id, received_ms, events, size, done, {tally}, payload FROM frames "  # noqa: S608
                "WHERE id > ? ORDER BY id LIMIT 1",
                (after,),
            ).get
        except apsw.CorruptError:
            report.lost_frames += 1
            after = _past(source, after)
            if after >= FARTHEST:
                return
            continue
        except apsw.Error:
            # Not a database at all, or a disk that does not read.
            report.lost_frames += 1
            return
        if row is None:
            return
        after = int(row[0])
        try:
            batch = decode_frame(row[6])
        except StorageError:
            report.lost_frames += 1
            continue
        yield _mended(row, batch)


def _mended(row: Sequence[Any], batch: Batch) -> tuple[Any, ...]:
    """A row whose events are whole, with what is not what it should be beside them made anew."""
    number, received_ms, _, _, done, tally, payload = row
    if not isinstance(received_ms, int):
        received_ms = time.time_ns() // 1_000_000
    if not isinstance(done, bytes) or len(done) != len(batch):
        done = None
    if not isinstance(tally, bytes):
        tally = None
    size = sum(len(message.content) for message in batch)
    return number, received_ms, len(batch), size, done, tally, payload


def _columns(connection: apsw.Connection, table: str) -> list[str]:
    """A table's columns; none when there is no such table, or it cannot be told."""
    try:
        return [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]
    except apsw.Error:
        return []


def _past(source: apsw.Connection, after: int) -> int:
    """Past the row that cannot be read, or past the page that leads to it."""
    try:
        found = source.execute(
            "SELECT id FROM frames WHERE id > ? ORDER BY id LIMIT 1", (after,)
        ).get
    except apsw.CorruptError:
        return next_readable(source, after)
    return after + 1 if found is None else int(found)


def _rows(source: apsw.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from source.execute(query)
    except apsw.Error:
        # What stands behind a broken page here stays in the file that was set aside.
        return


def _in_groups(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    group: list[tuple[Any, ...]] = []
    for row in rows:
        group.append(row)
        if len(group) >= _COPY_AT_ONCE:
            yield group
            group = []
    if group:
        yield group

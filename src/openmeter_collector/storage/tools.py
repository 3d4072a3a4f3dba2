"""What the `buffer` commands do: look into a journal, check it, take events out and put them in."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from openmeter_collector.errors import StorageError
from openmeter_collector.message import Message
from openmeter_collector.storage import ledger
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.frame import decode_frame
from openmeter_collector.storage.letter_box import transaction
from openmeter_collector.storage.recovery import SetAside, mark_damaged, open_or_set_aside
from openmeter_collector.storage.returned import put_back
from openmeter_collector.storage.schema import FileLock, open_connection
from openmeter_collector.storage.visit import owner_of

_PAGE: Final = 16
_IMPORT_AT_ONCE: Final = 1_000
_MOST_PROBLEMS: Final = 100
_COUNTS: Final = {
    "frames": "SELECT count(*) FROM frames",
    "events": "SELECT coalesce(sum(events), 0) FROM frames",
    "bytes": "SELECT coalesce(sum(size), 0) FROM frames",
    "oldest_ms": "SELECT min(received_ms) FROM frames",
    "put_back": "SELECT coalesce(sum(events), 0) FROM returned",
    "dead_letters": "SELECT count(*) FROM dead_letters",
    "checkpoints": "SELECT count(*) FROM checkpoints",
    "sent_kept": "SELECT coalesce(sum(events), 0) FROM sent",
}
_READ: Final = {
    "frames": "SELECT id, received_ms, done, payload FROM frames WHERE id > ? ORDER BY id LIMIT ?",
    "returned": (
        "SELECT id, received_ms, NULL, payload FROM returned WHERE id > ? ORDER BY id LIMIT ?"
    ),
}


def statistics(connection: apsw.Connection, path: Path) -> dict[str, Any]:
    """What a journal holds, in numbers. Frames that are partly settled count whole."""
    found: dict[str, Any] = {"path": str(path), "used_by_process": owner_of(path)}
    found["format"] = connection.execute("PRAGMA user_version").get
    for name, query in _COUNTS.items():
        found[name] = connection.execute(query).get
    page_size = connection.execute("PRAGMA page_size").get
    free = connection.execute("PRAGMA freelist_count").get
    assert isinstance(page_size, int)
    assert isinstance(free, int)
    found["free_bytes_inside"] = page_size * free
    for side in ("", "-wal"):
        file = path.with_name(path.name + side)
        found[f"file_bytes{side.replace('-', '_')}"] = file.stat().st_size if file.exists() else 0
    found["set_aside"] = sorted(
        one.name
        for one in path.parent.glob(f"{path.name}.damaged-*")
        if not one.name.endswith(("-wal", "-shm"))
    )
    return found


@dataclass(frozen=True, slots=True)
class Held:
    """An event that waits in a journal."""

    frame: int
    received_ms: int
    message: Message
    put_back: bool


@dataclass(slots=True)
class Reader:
    """Reads what waits, a few frames at a time, so that a running collector is not held up.

    Attributes:
        damaged: what could not be read.
    """

    connection: apsw.Connection
    damaged: list[str] = field(default_factory=list)

    def events(self, containing: bytes = b"") -> Iterator[Held]:
        """All events that wait, in order.

        Args:
            containing: frames without these bytes are passed over.
        """
        for table in ("frames", "returned"):
            for row_id, received_ms, done, payload in self._rows(table):
                if containing not in payload:
                    continue
                try:
                    batch = decode_frame(payload)
                except StorageError as error:
                    self.damaged.append(f"{table} {row_id}: {error}")
                    continue
                for at, message in enumerate(batch):
                    if not (done and done[at]):
                        yield Held(row_id, received_ms, message, table == "returned")

    def _rows(self, table: str) -> Iterator[tuple[int, int, bytes | None, bytes]]:
        after = 0
        while True:
            page = list(self.connection.execute(_READ[table], (after, _PAGE)))
            for row_id, received_ms, done, payload in page:
                after = int(row_id)
                yield after, int(received_ms), done, payload
            if len(page) < _PAGE:
                return


def verify(connection: apsw.Connection, told: Callable[[int], object] = int) -> list[str]:
    """Everything that is wrong with a journal; empty when it is whole.

    Args:
        told: how many more events were looked at.
    """
    problems = []
    try:
        rows = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
        problems += [f"file: {text}" for text in rows if text != "ok"]
        reader = Reader(connection)
        for _ in reader.events():
            told(1)
        problems += reader.damaged
        problems += [
            f"books: {line.source or '-'} {line.type or '-'}, hour {line.hour}: off by {line.balance}"
            for line in audited(connection)
            if line.balance or line.letters != line.counts["dead"]
        ]
    except apsw.CorruptError as error:
        problems.append(f"file: {error}")
    return problems[:_MOST_PROBLEMS]


# ---- out and in -----------------------------------------------------------------------------------


class _Line(msgspec.Struct):
    event: str | None = None
    event_base64: str | None = None
    received_ms: int | None = None
    metadata: dict[str, Any] = {}


_decode_line = msgspec.json.Decoder(_Line).decode


def exported(held: Held) -> bytes:
    """An event as a line of JSON that `imported` reads."""
    content = held.message.content
    try:
        event: dict[str, Any] = {"event": content.decode()}
    except UnicodeDecodeError:
        event = {"event_base64": base64.b64encode(content).decode()}
    event["received_ms"] = held.received_ms
    if held.message.metadata:
        event["metadata"] = dict(held.message.metadata)
    return msgspec.json.encode(event, enc_hook=str)


def imported(line: bytes, number: int, now_ms: int) -> tuple[int, Message]:
    """The event of a line, with its time of receipt.

    Raises:
        StorageError: the line is not one of an export.
    """
    try:
        found = _decode_line(line)
        if found.event_base64 is not None:
            content = base64.b64decode(found.event_base64, validate=True)
        elif found.event is not None:
            content = found.event.encode()
        else:
            raise StorageError(f"line {number}: has neither `event` nor `event_base64`")
    except (msgspec.DecodeError, ValueError) as error:
        raise StorageError(f"line {number}: {error}; nothing behind it was imported") from None
    return found.received_ms or now_ms, Message(content, found.metadata)


def put_in(connection: apsw.Connection, events: Iterable[tuple[int, Message]]) -> int:
    """Leave events for the collector, some at a time, and enter them in the books as received."""
    done = 0
    group: list[tuple[int, Message]] = []
    for one in events:
        group.append(one)
        if len(group) >= _IMPORT_AT_ONCE:
            done += _put_group(connection, group)
            group = []
    return done + (_put_group(connection, group) if group else 0)


def _put_group(connection: apsw.Connection, group: list[tuple[int, Message]]) -> int:
    by_hour: dict[int, list[tuple[int, Message]]] = {}
    for received_ms, message in group:
        by_hour.setdefault(ledger.hour_of(received_ms), []).append((received_ms, message))
    with transaction(connection) as changes:
        for hour, events in by_hour.items():
            batch = [message for _, message in events]
            changes.add(hour, "received", ledger.tally_of(batch))
            put_back(connection, batch, min(at for at, _ in events))
    return len(group)


# ---- without a collector ----------------------------------------------------------------------


def repair(path: Path, told: Callable[[int], object] = int) -> SetAside:
    """Save what can be read of a journal into a new one; the old one is kept beside it.

    Args:
        told: how many more events were saved.

    Raises:
        StorageError: a collector has it open, or it may not be used.
    """
    lock = FileLock(path)
    try:
        mark_damaged(path, "repair was asked for")
        report = open_or_set_aside(path, "durable", told).report
    finally:
        lock.release()
    assert report is not None
    return report


def compact(path: Path) -> tuple[int, int]:
    """Write the file anew without its free space; returns its size before and after.

    Raises:
        StorageError: a collector has it open, or the disk has no room for a copy.
    """
    lock = FileLock(path)
    try:
        before = path.stat().st_size
        connection = open_connection(path, "durable")
        try:
            connection.execute("VACUUM")
        except apsw.FullError:
            raise StorageError(
                f"{path}: no room for a copy of what is in it; free some, nothing was changed"
            ) from None
        finally:
            connection.close()
        return before, path.stat().st_size
    finally:
        lock.release()

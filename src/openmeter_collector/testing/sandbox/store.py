"""What the sandbox received: every event once, every request, and the counts.

Two depths. The full store keeps the exact bytes of each event and a log of requests, so that a test
can ask for anything. The light one keeps identities and counts, and is fast enough to stand behind
a benchmark; it cannot tell whether a duplicate had other bytes. The full one can be bounded, and
can write a file that another process reads and that brings the identities back after a restart.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import msgspec

from openmeter_collector.testing.sandbox.rules import Event

_SCHEMA = """
create table if not exists events (
  number integer primary key, request integer, source text, id text, type text, subject text,
  received_at real, raw blob
);
create index if not exists events_by_identity on events (source, id);
"""


class StoredEvent(msgspec.Struct, gc=False):
    """One accepted event.

    Attributes:
        number: order of arrival, from 1.
        request: number of the request that brought it first.
        raw: exactly the bytes that came, from `{` to `}`.
        time: its `time`, or the moment of arrival when it had none.
        deliveries: how often it was accepted; more than 1 means duplicates were dropped.
        conflicts: how many of those had other bytes.
    """

    number: int
    request: int
    id: str
    source: str
    type: str
    subject: str
    time: str
    raw: bytes
    received_at: float
    deliveries: int = 1
    conflicts: int = 0


@dataclass(slots=True)
class Received:
    """One request, whatever became of it.

    Attributes:
        headers: names in lower case, in order; the value of Authorization is hidden.
        body: the bytes as sent, before decompression.
        events: how many events it held, 0 when it could not be read.
        accepted: how many of them were new.
        status: what was answered, 0 when nothing was.
        faults: kinds of the faults that were played.
    """

    number: int
    at: float
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    status: int = 0
    detail: str = ""
    faults: list[str] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)


class Store:
    """Keeps what was received."""

    def __init__(
        self,
        *,
        light: bool = False,
        keep: int | None = None,
        path: Path | None = None,
        dedupe: bool = True,
        window: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open it.

        Args:
            light: keep identities and counts only.
            keep: at most this many events and requests; the oldest go first. None keeps all.
            path: an SQLite file to write accepted events to.
            dedupe: count an identity seen before as a duplicate. A self-hosted OpenMeter does not
                do this unless it was configured to.
            window: seconds after which an identity counts as new again.
        """
        self.light = light
        self.dedupe = dedupe
        self.window = window
        self._clock = clock
        self._keep = keep
        self.events: deque[StoredEvent] = deque(maxlen=keep)
        self.requests: deque[Received] = deque(maxlen=keep)
        self.attempts: Counter[tuple[str, str]] = Counter()
        # No tracked object per event: a garbage collection over millions would stop the clock.
        self._last_seen: dict[str, float] = {}
        self._by_identity: dict[str, StoredEvent] = {}
        self._file = _File(path) if path is not None else None
        self._reset_counts()
        if self._file is not None:
            self._load(self._file)

    def _reset_counts(self) -> None:
        self.accepted = 0
        self.duplicates = 0
        self.conflicts = 0
        self.bytes = 0
        self.by_type: Counter[str] = Counter()
        self.by_subject: Counter[str] = Counter()
        self.by_status: Counter[int] = Counter()
        self.request_count = 0
        self.request_bytes = 0
        self.first_at: float | None = None
        self.last_at: float | None = None

    def _load(self, file: _File) -> None:
        for number, request, source, id_, type_, subject, received_at, raw in file.rows():
            event = StoredEvent(
                number, request, id_, source, type_, subject, "", bytes(raw), received_at
            )
            event.time = msgspec.json.decode(event.raw).get("time") or _stamp(received_at)
            self._note(f"{source}\0{id_}", event, received_at)
            self.accepted += 1
            self.bytes += len(event.raw)
            self.by_type[type_] += 1
            self.by_subject[subject] += 1

    def log(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Received:
        """Note that a request has come."""
        self.request_count += 1
        self.request_bytes += len(body)
        entry = Received(self.request_count, self._clock(), method, path, headers, body)
        if not self.light:
            self.requests.append(entry)
        return entry

    def attempted(self, identities: Iterable[tuple[str, str]]) -> None:
        """Count that events with this source and id were sent, whatever becomes of the request."""
        if not self.light:
            self.attempts.update(identities)

    def ingest(self, entry: Received, events: Sequence[Event], raws: Sequence[bytes]) -> None:
        """Take valid events; the counts of `entry` tell what became of them."""
        now = self._clock()
        self.first_at = self.first_at or now
        self.last_at = now
        new: list[StoredEvent] = []
        if self.light:
            entry.accepted = self._ingest_light(events, len(entry.body), now)
            entry.duplicates = len(events) - entry.accepted
        else:
            for event, raw in zip(events, raws, strict=True):
                self._ingest_one(entry, event, raw, now, new)
        if self._file is not None:
            self._file.append(new)

    def ingest_light(self, events: Sequence[Event], size: int) -> None:
        """Take the valid events of a request of `size` bytes that is not logged."""
        now = self._clock()
        self.first_at = self.first_at or now
        self.last_at = now
        self.request_count += 1
        self.request_bytes += size
        self.by_status[204] += 1
        self._ingest_light(events, size, now)

    def _ingest_light(self, events: Sequence[Event], size: int, now: float) -> int:
        last_seen, by_type, by_subject = self._last_seen, self.by_type, self.by_subject
        accepted = 0
        for event in events:
            key = f"{event.source}\0{event.id}"
            if key in last_seen and self._is_duplicate(key, now):
                continue
            last_seen[key] = now
            accepted += 1
            by_type[event.type] += 1
            by_subject[event.subject] += 1
        self.accepted += accepted
        self.bytes += size
        self.duplicates += len(events) - accepted
        return accepted

    def _ingest_one(
        self, entry: Received, event: Event, raw: bytes, now: float, new: list[StoredEvent]
    ) -> None:
        key = f"{event.source}\0{event.id}"
        if key in self._last_seen and self._is_duplicate(key, now):
            first = self._by_identity[key]
            first.deliveries += 1
            self.duplicates += 1
            entry.duplicates += 1
            if first.raw != raw:
                first.conflicts += 1
                self.conflicts += 1
            return
        self.accepted += 1
        entry.accepted += 1
        stored = StoredEvent(
            self.accepted,
            entry.number,
            event.id,
            event.source,
            event.type,
            event.subject,
            event.time or _stamp(now),
            raw,
            now,
        )
        self._note(key, stored, now)
        new.append(stored)
        self.bytes += len(raw)
        self.by_type[event.type] += 1
        self.by_subject[event.subject] += 1

    def _note(self, key: str, event: StoredEvent, now: float) -> None:
        self._last_seen[key] = now
        if self.light:
            return
        if self._keep is not None and len(self.events) == self._keep:
            gone = self.events[0]
            self._last_seen.pop(f"{gone.source}\0{gone.id}", None)
            self._by_identity.pop(f"{gone.source}\0{gone.id}", None)
        self._by_identity[key] = event
        self.events.append(event)

    def _is_duplicate(self, key: str, now: float) -> bool:
        return self.dedupe and (self.window is None or now - self._last_seen[key] <= self.window)

    def find(self, source: str, id_: str) -> StoredEvent | None:
        """The last accepted event with this identity; always None in a light store."""
        return self._by_identity.get(f"{source}\0{id_}")

    def clear(self) -> None:
        """Forget everything, also what is in the file."""
        self.events.clear()
        self.requests.clear()
        self.attempts.clear()
        self._last_seen.clear()
        self._by_identity.clear()
        self._reset_counts()
        if self._file is not None:
            self._file.clear()

    def stats(self) -> dict[str, Any]:
        """All counts, as plain values."""
        return {
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "bytes": self.bytes,
            "requests": self.request_count,
            "request_bytes": self.request_bytes,
            "by_status": {str(status): count for status, count in sorted(self.by_status.items())},
            "by_type": dict(self.by_type),
            "by_subject": dict(self.by_subject),
            "first_at": self.first_at,
            "last_at": self.last_at,
            "light": self.light,
        }

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class _File:
    """Accepted events in SQLite. Written before the answer goes out, without fsync: it survives
    the end of the process, not of the machine.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = apsw.Connection(str(path))
        self._connection.execute("pragma journal_mode=wal; pragma synchronous=off")
        self._connection.execute(_SCHEMA)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        return self._connection.execute(
            "select number, request, source, id, type, subject, received_at, raw"
            " from events order by number"
        )

    def append(self, events: Sequence[StoredEvent]) -> None:
        if not events:
            return
        with self._connection:
            self._connection.executemany(
                "insert into events values (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (e.number, e.request, e.source, e.id, e.type, e.subject, e.received_at, e.raw)
                    for e in events
                ),
            )

    def clear(self) -> None:
        self._connection.execute("delete from events")

    def close(self) -> None:
        self._connection.close()


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))

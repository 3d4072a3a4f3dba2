"""Group commit: one thread that makes many small writes share one fsync.

The event loop appends deliveries to a list and never waits. The thread takes everything that has
gathered, writes it as one transaction, and tells the loop once for the whole group. While one commit
is in its fsync the next group gathers, so the group grows with the load and the latency stays at
about two commits.

What is true when: the loop is told `committed` only after `COMMIT` has returned, and with
`synchronous = FULL` that means after an fsync of the write-ahead log. Nothing else in the collector
makes an event safe.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import apsw

from openmeter_collector.message import Batch, Checkpoint, Delivery
from openmeter_collector.storage.dead_letters import insert_letters
from openmeter_collector.storage.frame import encode_frame
from openmeter_collector.storage.group import Group, Settlement, StoredFrame
from openmeter_collector.storage.ledger import (
    OTHER,
    Bookkeeper,
    Names,
    hour_of,
    is_written,
    names_of,
    pack_tally,
    tally_of,
)
from openmeter_collector.storage.returned import take_returned
from openmeter_collector.storage.schema import (
    FORMAT,
    Durability,
    close_quietly,
    open_connection,
)
from openmeter_collector.storage.sent import SeenIds, SentArchive

MAX_FRAME_EVENTS: Final = 4_096
MAX_FRAME_BYTES: Final = 1 << 20
_MAX_GROUP_BYTES: Final = 16 << 20
_RETRY_AFTER_FAILURE: Final = 1.0
_IDLE: Final = 0.5
_LOOK_EVERY: Final = 0.5
_MOST_NOTES: Final = 1_000
_CROWD: Final = 8
"""Deliveries in a group from which on senders are many, and waiting for more pays."""
_GATHER_STEP: Final = 0.0003
_GATHER_STEPS: Final = 6
"""Seconds, times steps: what waiting may add to the time of an answer at the most."""

_INSERT: Final = (
    "INSERT INTO frames (id, received_ms, events, size, tally, payload) VALUES (?,?,?,?,?,?)"
)

T = TypeVar("T")

Committed = Callable[[Group], None]
Failed = Callable[[Group, str], None]
Recovered = Callable[[], None]
Damaged = Callable[[str], None]
Visited = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long what is kept, in milliseconds.

    Attributes:
        sent_ms: what was delivered; 0 for not at all.
        sent_bytes: of that at most so much; 0 for no bound.
        ids_ms: ids, to find those that come again; 0 for not at all.
    """

    books_ms: int
    sent_ms: int = 0
    ids_ms: int = 0
    sent_bytes: int = 0


class GroupWriter:
    """Owns the writing connection and its thread.

    The methods above the line are called from the event loop, those below run in the thread.
    Callbacks are called from the thread; the journal carries them over to the loop.
    """

    def __init__(
        self,
        path: Path,
        durability: Durability,
        first_id: int,
        first_letter_id: int,
        *,
        committed: Committed,
        failed: Failed,
        recovered: Recovered,
        damaged: Damaged,
        visited: Visited,
        keeping: Keeping,
    ) -> None:
        """`visited`: another process changed the file; told how many dead letters there are now."""
        self._path = path
        self._durability = durability
        self._next_id = first_id
        self._next_letter_id = first_letter_id
        self._on_committed = committed
        self._on_failed = failed
        self._on_recovered = recovered
        self._on_damaged = damaged
        self._on_visited = visited
        self._keep_books_ms = keeping.books_ms
        self._archive = SentArchive(keeping.sent_ms, keeping.sent_bytes)
        self._seen = SeenIds(keeping.ids_ms) if keeping.ids_ms else None
        self._sent: deque[Batch] = deque()
        self._books = Bookkeeper()
        self._number = secrets.randbits(62)
        # deque.append and popleft are atomic, which is all the locking the hot path has.
        self._deliveries: deque[Delivery] = deque()
        self._settlements: deque[Settlement] = deque()
        self._notes: dict[tuple[str, str, Names], int] = {}
        self._notes_lock = threading.Lock()
        self._look_at = 0.0
        self._data_version = -1
        self._wake = threading.Event()
        self._asleep = False
        self._stopping = threading.Event()
        self._suspect = False
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, delivery: Delivery) -> None:
        """Queue a delivery for the next group."""
        self._deliveries.append(delivery)
        if self._asleep:
            self._wake.set()

    def settle(self, settlement: Settlement) -> None:
        """Events are dealt with. Goes along with the next group; `nudge` makes one if none comes."""
        self._settlements.append(settlement)

    def note(self, column: str, rule: str, contents: Iterable[bytes]) -> None:
        """Count events that are not stored. Goes along with a later group."""
        with self._notes_lock:
            for content in contents:
                key = (column, rule, names_of(content))
                if key not in self._notes and len(self._notes) >= _MOST_NOTES:
                    key = (column, rule, OTHER)
                self._notes[key] = self._notes.get(key, 0) + 1

    def sent(self, batch: Batch) -> None:
        """Keep what was delivered; called before it is settled, so it is kept no later than that."""
        self._sent.append(batch)

    def nudge(self) -> None:
        """Write what has gathered, also when it is only acks."""
        self._wake.set()

    def stop(self) -> None:
        """Write what has gathered, close the file, end the thread. Blocks until it has."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    # ---- in the thread ---------------------------------------------------------------------

    def _run(self) -> None:
        connection: apsw.Connection | None = None
        while True:
            group: Group | None = None
            try:
                group = self._take()
                if group is None and self._stopping.is_set():
                    break
                if connection is None or time.monotonic() >= self._look_at:
                    connection = connection or self._open()
                    group = self._look_around(connection, group)
                if group is not None:
                    self._commit(connection, group)
                elif connection is not None:
                    _give_space_back(connection)
            except Exception as error:  # noqa: BLE001 - this thread must outlive every trouble
                connection = self._recover(connection, group or Group(), error)
                continue
            if group is not None:
                self._on_committed(group)
                if len(group.deliveries) >= _CROWD:
                    self._gather(len(group.deliveries) // 2)
            else:
                self._sleep()
        if connection is not None:
            close_quietly(connection)

    def _gather(self, wanted: int) -> None:
        """Let the next group grow for as long as more comes, if many senders are at work.

        Half of the last group is enough: while that half is in its commit, the other is answered.

        A commit costs the same for one event as for fifty, and takes the interpreter from the thread
        that receives. A sender on its own never waits here.
        """
        for _ in range(_GATHER_STEPS):
            waiting = len(self._deliveries)
            time.sleep(_GATHER_STEP)
            if not waiting < len(self._deliveries) < wanted:
                return

    def _sleep(self) -> None:
        # Announce first, look again, then wait: an `add` between the look and the wait sees the
        # announcement and sets the event, so nothing is left lying.
        self._asleep = True
        if not self._deliveries:
            self._wake.wait(_IDLE)
        self._asleep = False
        self._wake.clear()

    def _take(self) -> Group | None:
        group = Group()
        size = 0
        while self._deliveries and size < _MAX_GROUP_BYTES:
            delivery = self._deliveries.popleft()
            group.deliveries.append(delivery)
            size += sum(len(message.content) for message in delivery.batch)
        group.settlements = _drain(self._settlements)
        # After the settlements: whoever settles has said before what was sent.
        group.sent = _drain(self._sent)
        if self._notes:
            with self._notes_lock:
                group.notes, self._notes = self._notes, {}
        if not (group.deliveries or group.settlements or group.notes or group.sent):
            return None
        now_ms = time.time_ns() // 1_000_000
        self._make_frames(group, now_ms)
        for letter in group.letters:
            if not letter.id:
                letter.id, self._next_letter_id = self._next_letter_id, self._next_letter_id + 1
        changes = group.changes
        hour = hour_of(now_ms)
        for frame in group.frames:
            changes.add(hour, "received", frame.tally)
        for settlement in group.settlements:
            settlement.enter(changes, seen=self._seen is not None)
        for (column, rule, names), count in group.notes.items():
            if column == "dropped":
                changes.add(hour, "received", {names: count})
            changes.add(hour, column, {names: count}, rule)
        return group

    def _look_around(self, connection: apsw.Connection, group: Group | None) -> Group | None:
        """See whether another process (a person's command) changed the file, and take what it put
        back into the queue.
        """
        self._look_at = time.monotonic() + _LOOK_EVERY
        version = connection.execute("PRAGMA data_version").get
        if version == self._data_version:
            return group
        letters = connection.execute("SELECT count(*) FROM dead_letters").get
        assert isinstance(letters, int)
        assert isinstance(version, int)
        self._on_visited(letters)
        found = group or Group()
        self._next_id, more = take_returned(connection, found, self._next_id)
        if more:
            self._look_at = 0.0
        else:
            self._data_version = version
        return found if group is not None or found.returned else None

    def _make_frames(self, group: Group, now_ms: int) -> None:
        batch: Batch = []
        size = 0
        for delivery in group.deliveries:
            for message in delivery.batch:
                length = len(message.content)
                if batch and (len(batch) >= MAX_FRAME_EVENTS or size + length > MAX_FRAME_BYTES):
                    self._add_frame(group, now_ms, size, batch)
                    batch, size = [], 0
                batch.append(message)
                size += length
        if batch:
            self._add_frame(group, now_ms, size, batch)

    def _add_frame(self, group: Group, now_ms: int, size: int, batch: Batch) -> None:
        group.frames.append(StoredFrame(self._next_id, now_ms, size, batch, tally_of(batch)))
        self._next_id += 1

    def _commit(self, connection: apsw.Connection, group: Group) -> None:
        execute = connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for frame in group.all_frames:
                execute(
                    _INSERT,
                    (
                        frame.id,
                        frame.received_ms,
                        len(frame.batch),
                        frame.size,
                        pack_tally(frame.tally),
                        encode_frame(frame.batch),
                    ),
                )
            checkpoints = [one for d in group.deliveries for one in d.checkpoints]
            _store_checkpoints(connection, checkpoints)
            insert_letters(connection, group.letters)
            for settlement in group.settlements:
                if settlement.done is not None:
                    execute(
                        "UPDATE frames SET done = ? WHERE id = ?",
                        (settlement.done, settlement.frame_id),
                    )
            gone = [(one.frame_id,) for one in group.settlements if one.done is None]
            connection.executemany("DELETE FROM frames WHERE id = ?", gone)
            connection.executemany("DELETE FROM returned WHERE id = ?", group.returned_ids)
            now_ms = time.time_ns() // 1_000_000
            self._archive.write(connection, group.sent, now_ms)
            if self._seen is not None:
                group.duplicates, group.conflicts = self._seen.look(
                    connection, group.frames, group.changes, now_ms
                )
            self._number += 1
            group.number = self._number
            self._books.write(connection, group.changes, group.number)
            self._books.forget_before(connection, hour_of(now_ms - self._keep_books_ms))
        except BaseException:
            if connection.in_transaction:
                execute("ROLLBACK")
            raise
        began = time.perf_counter()
        # The fsync that makes every acknowledgement true happens inside this statement.
        execute("COMMIT")
        group.fsync_seconds = time.perf_counter() - began

    # ---- after a failure ---------------------------------------------------------------------

    def _open(self) -> apsw.Connection:
        """Open the file; after a failure, in a state in which a commit can be trusted again.

        After a failed write or fsync the kernel may have thrown the dirty pages away and marked
        them clean, so that a later fsync of the same log succeeds over a hole. Therefore the log
        is never written on: it is copied into the database file, with its own fsyncs, and begun
        anew, before anything else is accepted.
        """
        connection = open_connection(self._path, self._durability)
        if self._suspect:
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                # A write that changes nothing, to see that writing works.
                connection.execute(f"PRAGMA user_version = {FORMAT}")
            except BaseException:
                close_quietly(connection)
                raise
            self._suspect = False
        return connection

    def _recover(
        self, connection: apsw.Connection | None, group: Group, error: Exception
    ) -> apsw.Connection | None:
        """Tell the senders, then wait until the file can be written again."""
        self._suspect = True
        self._books.forget()
        if self._seen is not None:
            self._seen.forget()
        self._data_version = -1
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            self._on_damaged(str(error))
        # With `memory` the senders were told long ago: their events stay ours.
        ours = self._durability == "memory"
        group.refused = not ours
        self._on_failed(Group() if ours else group, f"{self._path}: {error}")
        if connection is not None:
            close_quietly(connection)
        while not self._stopping.wait(_RETRY_AFTER_FAILURE):
            try:
                fresh = self._open()
                on_disk = is_written(fresh, group.changes, group.number)
            except Exception as again:  # noqa: BLE001 - as in `_run`
                self._on_failed(Group(), f"{self._path}: {again}")
                continue
            if on_disk:
                # The commit that was reported as failed had reached the log. Its senders repeat
                # themselves; its events are there, with the same ids, and have to be read.
                self._on_committed(group)
            else:
                self._put_back(group, with_deliveries=ours)
            self._on_recovered()
            return fresh
        # Stopping with a broken disk: what was refused was refused, what is unacked is sent again.
        return None

    def _put_back(self, group: Group, *, with_deliveries: bool) -> None:
        """What became of events is not the senders' to repeat: it goes with the next group."""
        self._settlements.extendleft(reversed(group.settlements))
        self._sent.extendleft(reversed(group.sent))
        with self._notes_lock:
            for key, count in group.notes.items():
                self._notes[key] = self._notes.get(key, 0) + count
        if with_deliveries:
            self._deliveries.extendleft(reversed(group.deliveries))


def _give_space_back(connection: apsw.Connection) -> None:
    """When nothing waits: hand free pages back to the file system, a little at a time.

    A failure in here is one like any other: it leaves a log that must not be written on.
    """
    free = connection.execute("PRAGMA freelist_count").get
    pages = connection.execute("PRAGMA page_count").get
    if isinstance(free, int) and isinstance(pages, int) and free > 256 and free * 4 > pages:
        for _ in connection.execute("PRAGMA incremental_vacuum(4096)"):
            pass
        with suppress(apsw.BusyError):  # somebody reads: next time
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _store_checkpoints(connection: apsw.Connection, checkpoints: Sequence[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        connection.execute(
            "INSERT INTO checkpoints (key, value) VALUES (?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (checkpoint.key, checkpoint.value),
        )


def _drain(queue: deque[T]) -> list[T]:
    taken = []
    while queue:
        taken.append(queue.popleft())
    return taken

"""What was sent, and which ids were seen: kept for a while when the operator asks for it.

Both cost: `sent` writes every delivered event a second time (compressed), `seen` looks each event up by
its id before it is stored. Neither is on unless its field says so.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import apsw
import msgspec
from xxhash import xxh3_64_intdigest

from openmeter_collector.errors import StorageError
from openmeter_collector.message import Batch, Message
from openmeter_collector.storage.frame import decode_frame, encode_frame
from openmeter_collector.storage.group import Conflict, StoredFrame
from openmeter_collector.storage.ledger import Changes, hour_of

_PRUNE_EVERY_MS: Final = 60_000
_PAGE: Final = 64
_MOST_HISTORY: Final = 100_000
_OLDEST: Final = "SELECT id, length(payload) FROM sent ORDER BY id LIMIT 1000"
_FORGET_OLD: Final = "DELETE FROM sent WHERE sent_ms < ?"


class SentArchive:
    """Keeps what outputs confirmed, for `reconcile` and `trace`. Belongs to one connection."""

    def __init__(self, keep_ms: int, most_bytes: int = 0) -> None:
        """Know the bounds.

        Args:
            keep_ms: how long; 0 keeps nothing, and gives free what is there.
            most_bytes: compressed bytes that may be kept, the oldest go first; 0 for no bound.
        """
        self._keep_ms = keep_ms
        self._most_bytes = most_bytes
        self._pruned_ms = 0

    def write(self, connection: apsw.Connection, batches: Sequence[Batch], now_ms: int) -> None:
        """Add batches in the transaction that is open, and let old ones go now and then."""
        more = 0
        for batch in batches:
            payload = zlib.compress(encode_frame(batch), 1)
            more += len(payload)
            connection.execute(
                "INSERT INTO sent (sent_ms, events, payload) VALUES (?,?,?)",
                (now_ms, len(batch), payload),
            )
        if now_ms - self._pruned_ms >= _PRUNE_EVERY_MS:
            self._pruned_ms = now_ms
            old = (now_ms - self._keep_ms,)
            if self._most_bytes:
                gone = connection.execute(f"{_FORGET_OLD} RETURNING length(payload)", old)
                more -= sum(int(length) for (length,) in gone)
            else:
                connection.execute(_FORGET_OLD, old)
                connection.execute("DELETE FROM meta WHERE key = 'sent_bytes'")
        if more and self._most_bytes:
            self._bound(connection, more)

    def _bound(self, connection: apsw.Connection, more: int) -> None:
        """Forget the oldest until the rest fits; a thousand batches in a transaction at most."""
        known = connection.execute("SELECT value FROM meta WHERE key = 'sent_bytes'").get
        if known is None:  # there was no bound before: all of it is looked at, this once
            known = connection.execute("SELECT coalesce(sum(length(payload)), 0) FROM sent").get
            more = 0
        held = int(known) + more
        if held > self._most_bytes:
            oldest = connection.execute(_OLDEST)
            last = 0
            while held > self._most_bytes and (row := next(oldest, None)) is not None:
                last = int(row[0])
                held -= int(row[1])
            oldest.close()
            connection.execute("DELETE FROM sent WHERE id <= ?", (last,))
        connection.execute(
            "INSERT INTO meta (key, value) VALUES ('sent_bytes', ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (held,),
        )


@dataclass(frozen=True, slots=True)
class Sent:
    """One event that was delivered."""

    sent_ms: int
    message: Message


def read_sent(connection: apsw.Connection, since_ms: int, until_ms: int) -> Iterator[Sent]:
    """What was delivered in [since, until), event by event; an array that was sent is its parts."""
    after = 0
    query = (
        "SELECT id, sent_ms, payload FROM sent WHERE id > ? AND sent_ms >= ? AND sent_ms < ? "
        "ORDER BY id LIMIT ?"
    )
    while True:
        page = list(connection.execute(query, (after, since_ms, until_ms, _PAGE)))
        for row_id, sent_ms, payload in page:
            after = int(row_id)
            for message in _unpacked(bytes(payload)):
                for part in parts_of(message):
                    yield Sent(int(sent_ms), part)
        if len(page) < _PAGE:
            return


def _unpacked(payload: bytes) -> Batch:
    try:
        return decode_frame(zlib.decompress(payload))
    except (zlib.error, StorageError):
        return []  # a damaged page of the archive; `buffer verify` says so


def parts_of(message: Message) -> list[Message]:
    """The events of a message: itself, or those of the array it is."""
    if message.content.lstrip()[:1] != b"[":
        return [message]
    try:
        parts = msgspec.json.decode(message.content, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return [message]
    return [message.with_content(bytes(part)) for part in parts]


# ---- ids that were seen -----------------------------------------------------------------------


class Identity(msgspec.Struct, gc=False):
    """What makes an event the same billable fact, and where it is counted."""

    id: str
    source: str = ""
    type: str = ""


decode_identity = msgspec.json.Decoder(Identity).decode


class SeenIds:
    """Finds events whose source and id came before, within a time between one window and two.

    Two tables take turns: the one that is older than two windows is emptied at once and used anew, so
    nothing is ever deleted row by row. An entry is 64 bits of a hash of source and id, and 64 bits of
    one of the content: among a hundred million entries one false alarm is to be expected in a thousand
    such journals, and a false alarm is counted and written down, nothing else.
    """

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._period = -1

    def forget(self) -> None:
        """What was written may not be there: the transaction failed."""
        self._period = -1

    def look(
        self,
        connection: apsw.Connection,
        frames: Sequence[StoredFrame],
        changes: Changes,
        now_ms: int,
    ) -> tuple[int, list[Conflict]]:
        """Look frames up and enter them, in the transaction that is open.

        Returns:
            How many events came again unchanged, and those that came with another content.
        """
        current, other = self._tables(connection, now_ms)
        hour = hour_of(now_ms)
        duplicates = 0
        conflicts: list[Conflict] = []
        for frame in frames:
            for message in frame.batch:
                try:
                    event = decode_identity(message.content)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    continue
                key = _signed(xxh3_64_intdigest(f"{event.source}\0{event.id}".encode()))
                content = _signed(xxh3_64_intdigest(message.content))
                known = _known(connection, current, other, key, content)
                if known is None:
                    continue
                names = (event.source[:256], event.type[:256])
                if known == content:
                    duplicates += 1
                    changes.add(hour, "duplicates", {names: 1})
                else:
                    conflicts.append(Conflict(event.id, event.source))
                    changes.add(hour, "conflicts", {names: 1})
        _write_down(connection, conflicts, now_ms)
        return duplicates, conflicts

    def _tables(self, connection: apsw.Connection, now_ms: int) -> tuple[str, str]:
        period = now_ms // self._window_ms
        if period != self._period:
            stored = connection.execute("SELECT value FROM meta WHERE key = 'seen_period'").get
            if stored is None or int(stored) != period:
                recent = stored is not None and int(stored) == period - 1
                for parity in (0, 1):
                    if parity == period % 2 or not recent:
                        connection.execute(f"DELETE FROM {_TABLES[parity]}")  # noqa: S608
                connection.execute(
                    "INSERT INTO meta (key, value) VALUES ('seen_period', ?) "
                    "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    (period,),
                )
            self._period = period
        return _TABLES[period % 2], _TABLES[(period + 1) % 2]


_TABLES: Final = ("seen_even", "seen_odd")


def _known(
    connection: apsw.Connection, current: str, other: str, key: int, content: int
) -> int | None:
    """The content that came with this key before; None when none did, and then it is entered."""
    connection.execute(f"INSERT OR IGNORE INTO {current} VALUES (?,?)", (key, content))  # noqa: S608
    table = other if connection.changes() else current
    found = connection.execute(f"SELECT content FROM {table} WHERE key = ?", (key,)).get  # noqa: S608
    return None if found is None else int(found)


def _write_down(connection: apsw.Connection, conflicts: Sequence[Conflict], now_ms: int) -> None:
    if not conflicts:
        return
    connection.executemany(
        "INSERT INTO history (at_ms, event_id, event_source, what, note) VALUES (?,?,?,?,?)",
        [
            (
                now_ms,
                one.id[:1024],
                one.source[:1024],
                "conflict",
                "came again with another content",
            )
            for one in conflicts
        ],
    )
    connection.execute(
        "DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (_MOST_HISTORY,)
    )


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number

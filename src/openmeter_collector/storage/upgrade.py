"""From older formats of the journal's file to the newest, with the backlog that is in it.

| format | what is new                                                                     |
|--------|---------------------------------------------------------------------------------|
| 1      | frames, checkpoints, dead letters                                               |
| 2      | the books; what a person put back; the history of that; what was sent; seen ids |
"""

from __future__ import annotations

from typing import Final

import apsw

from openmeter_collector.errors import StorageError
from openmeter_collector.storage import ledger
from openmeter_collector.storage.frame import decode_frame

TABLES_2: Final = (
    ledger.TABLES
    + """
ALTER TABLE dead_letters ADD COLUMN stored BLOB;
ALTER TABLE dead_letters ADD COLUMN stored_metadata BLOB;
ALTER TABLE dead_letters ADD COLUMN original BLOB;
CREATE TABLE returned (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_ms INTEGER NOT NULL,
    events INTEGER NOT NULL,
    size INTEGER NOT NULL,
    tally BLOB NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    event_id TEXT,
    event_source TEXT,
    what TEXT NOT NULL,
    note TEXT NOT NULL
);
CREATE INDEX history_ids ON history (event_id);
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sent_ms INTEGER NOT NULL,
    events INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX sent_times ON sent (sent_ms);
CREATE TABLE seen_even (key INTEGER PRIMARY KEY, content INTEGER NOT NULL);
CREATE TABLE seen_odd (key INTEGER PRIMARY KEY, content INTEGER NOT NULL);
"""
)

_LETTERS: Final = "SELECT received_ms, content FROM dead_letters"


def upgrade(connection: apsw.Connection, version: int, newest: int) -> None:
    """Bring a file up to the newest format, in the transaction that is open.

    Nothing is copied, so it is as quick for a large file as reading it once.
    """
    if version < 2:
        connection.execute("ALTER TABLE frames ADD COLUMN tally BLOB")
        connection.execute(TABLES_2)
        begin_the_books(connection)
    connection.execute(f"PRAGMA user_version = {newest}")


def begin_the_books(connection: apsw.Connection) -> None:
    """Enter what is there as received. What was delivered before is in no books."""
    changes = ledger.Changes()
    for received_ms, done, payload in connection.execute(
        "SELECT received_ms, done, payload FROM frames"
    ):
        try:
            batch = decode_frame(bytes(payload))
        except StorageError:
            continue  # it stays in the file, and is reported when it is met
        if done:
            batch = [one for one, dealt_with in zip(batch, done, strict=True) if not dealt_with]
        changes.add(ledger.hour_of(received_ms), "received", ledger.tally_of(batch))
    for received_ms, content in connection.execute(_LETTERS):
        hour, names = ledger.hour_of(received_ms), ledger.names_of(bytes(content))
        changes.add(hour, "received", {names: 1})
        changes.add(hour, "dead", {names: 1})
    with connection:
        ledger.Bookkeeper().write(connection, changes, 0)

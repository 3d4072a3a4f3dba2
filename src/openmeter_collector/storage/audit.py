"""The books against the facts: what waits is counted in the frames, not taken from a counter."""

from __future__ import annotations

import apsw

from openmeter_collector.errors import StorageError
from openmeter_collector.storage import ledger
from openmeter_collector.storage.dead_letters import letter_lines
from openmeter_collector.storage.frame import decode_frame
from openmeter_collector.storage.ledger import NO_NAMES, Names, Tally

Waiting = dict[tuple[int, Names], int]


def audited(connection: apsw.Connection, since: int = 0) -> list[ledger.Line]:
    """The lines of the books from an hour on, with what waits, as of one moment.

    Args:
        connection: may be one for reading only, beside a collector that is running.
    """
    connection.execute("BEGIN")  # one snapshot
    try:
        facts = waiting_in(connection), letter_lines(connection)
        return ledger.read_lines(connection, *facts, since)
    finally:
        connection.execute("ROLLBACK")


def waiting_in(connection: apsw.Connection) -> Waiting:
    """Count what waits for delivery, by hour of receipt and names."""
    waiting: Waiting = {}
    query = "SELECT id, received_ms, events, done, tally FROM frames ORDER BY id"
    for frame_id, received_ms, events, done, packed in connection.execute(query):
        if done or packed is None:
            tally = _counted(connection, int(frame_id), int(events), done)
        else:
            tally = ledger.unpack_tally(bytes(packed))
        _add(waiting, int(received_ms), tally)
    for received_ms, packed in connection.execute("SELECT received_ms, tally FROM returned"):
        _add(waiting, int(received_ms), ledger.unpack_tally(bytes(packed)))
    return waiting


def settle_differences(connection: apsw.Connection) -> int:
    """After damage: enter as lost what is in the books and nowhere else, in a transaction of its own.

    Returns:
        How many events that are.
    """
    changes = ledger.Changes()
    lost = 0
    with connection:
        facts = waiting_in(connection), letter_lines(connection)
        for line in ledger.read_lines(connection, *facts):
            names = (line.source, line.type)
            if line.letters != line.counts["dead"]:
                changes.add(line.hour, "dead", {names: line.letters - line.counts["dead"]})
            if line.balance > 0:
                lost += line.balance
                changes.add(line.hour, "lost", {names: line.balance})
            elif line.balance < 0:  # a page of the books themselves is gone
                changes.add(line.hour, "received", {names: -line.balance})
        ledger.Bookkeeper().write(connection, changes, 0)
    return lost


def _counted(connection: apsw.Connection, frame_id: int, events: int, done: bytes | None) -> Tally:
    payload = connection.execute("SELECT payload FROM frames WHERE id = ?", (frame_id,)).get
    try:
        batch = decode_frame(payload)
    except StorageError:
        return {NO_NAMES: events - (bytes(done).count(1) if done else 0)}
    if done:
        batch = [one for one, closed in zip(batch, done, strict=True) if not closed]
    return ledger.tally_of(batch)


def _add(waiting: Waiting, received_ms: int, tally: Tally) -> None:
    hour = ledger.hour_of(received_ms)
    for names, count in tally.items():
        waiting[hour, names] = waiting.get((hour, names), 0) + count

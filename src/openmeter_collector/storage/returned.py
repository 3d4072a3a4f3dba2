"""Events that a person put back: dead letters that are replayed, events that are imported.

A command never writes into the queue itself: the numbers of its frames belong to the running collector.
It leaves what is to be delivered in a table of its own, in one transaction with what it took it from;
the collector, running or at its next start, moves it into the queue in one transaction of its own.
So it makes no difference whether one is running, and a crash on either side loses and doubles nothing.
"""

from __future__ import annotations

from typing import Final

import apsw

from openmeter_collector.errors import StorageError
from openmeter_collector.message import Batch
from openmeter_collector.storage.frame import decode_frame, encode_frame
from openmeter_collector.storage.group import Group, StoredFrame
from openmeter_collector.storage.ledger import pack_tally, tally_of, unpack_tally

_AT_ONCE: Final = 64
_READ: Final = (
    "SELECT id, received_ms, size, tally, payload FROM returned WHERE id > ? ORDER BY id LIMIT ?"
)


def put_back(connection: apsw.Connection, batch: Batch, received_ms: int) -> None:
    """Leave events for the collector, in the transaction that is open."""
    size = sum(len(message.content) for message in batch)
    connection.execute(
        "INSERT INTO returned (received_ms, events, size, tally, payload) VALUES (?,?,?,?,?)",
        (received_ms, len(batch), size, pack_tally(tally_of(batch)), encode_frame(batch)),
    )


def take_returned(connection: apsw.Connection, group: Group, next_id: int) -> tuple[int, bool]:
    """Add to a group what was put back, as frames from `next_id` on.

    What cannot be read stays where it is.

    Returns:
        The number of the next frame, and whether there may be more.
    """
    after = group.returned_ids[-1][0] if group.returned_ids else 0
    rows = list(connection.execute(_READ, (after, _AT_ONCE)))
    for row_id, received_ms, size, tally, payload in rows:
        try:
            batch = decode_frame(bytes(payload))
        except StorageError:
            continue
        frame = StoredFrame(next_id, int(received_ms), int(size), batch, unpack_tally(bytes(tally)))
        group.returned.append(frame)
        group.returned_ids.append((int(row_id),))
        next_id += 1
    return next_id, len(rows) == _AT_ONCE and bool(group.returned)

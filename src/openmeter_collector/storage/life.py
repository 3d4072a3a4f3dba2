"""What a journal knows of one event's life."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apsw
import msgspec

from openmeter_collector.storage.dead_letters import Wanted, find_letters
from openmeter_collector.storage.schema import FARTHEST_MS
from openmeter_collector.storage.sent import decode_identity, read_sent
from openmeter_collector.storage.tools import Reader


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """Something that happened to the event; `at_ms` is Unix time."""

    at_ms: int
    what: str
    source: str
    note: str = ""


def moments_of(connection: apsw.Connection, event_id: str) -> Iterator[Moment]:
    """What is known of an event: received, waiting, dead, delivered, and what a person did with it.

    Looks through all that waits, unless the id can be searched for in the stored bytes.
    """
    # As it stands in JSON; one that needs escapes is looked for in every frame.
    sought = msgspec.json.encode(event_id)[1:-1]
    containing = b"" if b"\\" in sought or not sought.isascii() else sought
    reader = Reader(connection)
    for held in reader.events(containing):
        found = _source_of(held.message.content, event_id)
        if found is not None:
            place = "put back, not taken up yet" if held.put_back else f"in frame {held.frame}"
            yield Moment(held.received_ms, "received", found)
            yield Moment(held.received_ms, "waiting", found, place)
    for letter in find_letters(connection, Wanted()):
        for content in {letter.content, letter.event.content, letter.original or b""}:
            found = _source_of(content, event_id)
            if found is not None:
                yield Moment(letter.received_ms, "received", found)
                attempts = f"letter {letter.id}, {letter.attempts} attempts: {letter.reason}"
                yield Moment(letter.last_attempt_ms, "dead", found, attempts)
    query = "SELECT at_ms, event_source, what, note FROM history WHERE event_id = ?"
    for at_ms, where, what, note in connection.execute(query, (event_id,)):
        yield Moment(int(at_ms), str(what), where or "", str(note))
    for sent in read_sent(connection, 0, FARTHEST_MS):
        found = _source_of(sent.message.content, event_id)
        if found is not None:
            yield Moment(sent.sent_ms, "delivered", found)


def _source_of(content: bytes, event_id: str) -> str | None:
    """The source of an event if it has this id."""
    try:
        event = decode_identity(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event.source if event.id == event_id else None

"""Dead letters: events that can never be delivered as they are, kept until a person decides.

A letter is one event that was received. `content` is what the output refused; where processors made
that of what is stored, `stored` is the event as it was received, which is what is put back when a
person replays the letter: it goes the whole way again. `original` is what `stored`, or `content`, was
before a person edited it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw
import msgspec
import orjson

from openmeter_collector.component.buffer import DeadLetter
from openmeter_collector.message import Message, Metadata
from openmeter_collector.storage.frame import pack_metadata
from openmeter_collector.storage.ledger import Names, hour_of, names_of

# "OR REPLACE" because a letter is written again when nobody could say whether its commit held.
_COLUMNS: Final = (
    "id, reason, response, attempts, first_attempt_ms, last_attempt_ms, received_ms, output, "
    "event_id, event_source, event_type, event_subject, metadata, content, stored, stored_metadata, "
    "original"
)
_INSERT: Final = (
    f"INSERT OR REPLACE INTO dead_letters ({_COLUMNS}) "  # noqa: S608
    "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,NULL)"
)
_MAX_TEXT: Final = 8_192
_PAGE: Final = 200
_unpack_metadata = msgspec.msgpack.Decoder().decode


@dataclass(slots=True)
class BuriedLetter:
    """A dead letter on its way into the journal; `id` is given by the writer.

    Attributes:
        stored: the event that is dead, as it was received.
        shared: the refused message stands for several events, and is kept with another one's letter.
        others: how many more parts of the event were refused.
    """

    letter: DeadLetter
    received_ms: int
    stored: Message
    shared: bool = False
    others: int = 0
    id: int = 0


def insert_letters(connection: apsw.Connection, letters: Sequence[BuriedLetter]) -> None:
    """File letters in the transaction that is open."""
    if letters:
        connection.executemany(_INSERT, [_row(buried) for buried in letters])


def _row(buried: BuriedLetter) -> tuple[Any, ...]:
    letter = buried.letter
    stored = buried.stored
    message = stored if buried.shared else letter.message
    more = f" (and {buried.others} more parts of this event)" if buried.others else ""
    same = message is stored or (
        message.content == stored.content and message.metadata == stored.metadata
    )
    return (
        buried.id,
        _text(letter.reason + more),
        _text(letter.response),
        letter.attempts,
        int(letter.first_attempt * 1000),
        int(letter.last_attempt * 1000),
        buried.received_ms,
        _text(letter.output),
        *event_names(message.content),
        pack_metadata(message.metadata),
        message.content,
        None if same else stored.content,
        None if same else pack_metadata(stored.metadata),
    )


def _text(text: str) -> str:
    """Bounded, and storable whatever a peer answered."""
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode()


def event_names(content: bytes) -> tuple[str | None, ...]:
    """What a person will search by: id, source, type, subject; None where it has none."""
    try:
        value = orjson.loads(content)
    except ValueError:
        return (None, None, None, None)
    if not isinstance(value, dict):
        return (None, None, None, None)
    names = (value.get(key) for key in ("id", "source", "type", "subject"))
    return tuple(name if isinstance(name, str) else None for name in names)


# ---- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it is kept. Times are Unix milliseconds."""

    id: int
    reason: str
    response: str
    attempts: int
    first_attempt_ms: int
    last_attempt_ms: int
    received_ms: int
    output: str
    event_id: str | None
    event_source: str | None
    event_type: str | None
    event_subject: str | None
    metadata: bytes
    content: bytes
    stored: bytes | None
    stored_metadata: bytes | None
    original: bytes | None

    @property
    def event(self) -> Message:
        """What is put back when it is replayed."""
        if self.stored is None:
            return Message(self.content, _metadata(self.metadata))
        return Message(self.stored, _metadata(self.stored_metadata or b"\x80"))

    @property
    def line(self) -> tuple[int, Names]:
        """Where the books count it: under the names it was received with."""
        received = self.original if self.original is not None else self.event.content
        return hour_of(self.received_ms), names_of(received)


def _metadata(packed: bytes) -> Metadata:
    found: Metadata = _unpack_metadata(packed)
    return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant; what is not given is not asked for.

    Attributes:
        reason: a part of the reason or of the response.
        since, until: of the last attempt, Unix seconds.
    """

    letters: tuple[int, ...] = ()
    event_id: str | None = None
    source: str | None = None
    type: str | None = None
    subject: str | None = None
    reason: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def everything(self) -> bool:
        """Nothing was asked for in particular."""
        return self == Wanted()

    def where(self) -> tuple[str, list[Any]]:
        """As a condition of SQL, with its values."""
        conditions: list[str] = ["1"]
        values: list[Any] = []
        if self.letters:
            conditions.append(f"id IN ({','.join('?' * len(self.letters))})")
            values += self.letters
        for column, value in (
            ("event_id", self.event_id),
            ("event_source", self.source),
            ("event_type", self.type),
            ("event_subject", self.subject),
        ):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        if self.reason is not None:
            conditions.append("(instr(reason, ?) OR instr(response, ?))")
            values += [self.reason, self.reason]
        if self.since is not None:
            conditions.append("last_attempt_ms >= ?")
            values.append(int(self.since * 1000))
        if self.until is not None:
            conditions.append("last_attempt_ms < ?")
            values.append(int(self.until * 1000))
        return " AND ".join(conditions), values


def find_letters(connection: apsw.Connection, wanted: Wanted) -> Iterator[Letter]:
    """The letters that are meant, oldest first; those of a page are read at a time."""
    where, values = wanted.where()
    query = (
        f"SELECT {_COLUMNS} FROM dead_letters WHERE id > ? AND {where} ORDER BY id LIMIT {_PAGE}"  # noqa: S608
    )
    after = 0
    while True:
        page = [Letter(*row) for row in connection.execute(query, (after, *values))]
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].id


def read_letter(connection: apsw.Connection, letter_id: int) -> Letter | None:
    """One letter; None when there is none of this number."""
    return next(find_letters(connection, Wanted(letters=(letter_id,))), None)


def letter_lines(connection: apsw.Connection) -> dict[tuple[int, Names], int]:
    """How many letters there are, by where the books count them."""
    counted: dict[tuple[int, Names], int] = {}
    query = "SELECT received_ms, coalesce(original, stored, content) FROM dead_letters ORDER BY id"
    for received_ms, content in connection.execute(query):
        line = hour_of(int(received_ms)), names_of(bytes(content))
        counted[line] = counted.get(line, 0) + 1
    return counted

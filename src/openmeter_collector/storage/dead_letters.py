"""Dead letters: events that can never be delivered as they are, kept until a person decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw
import msgspec
import orjson

from openmeter_collector.component.buffer import DeadLetter
from openmeter_collector.message import Message

_pack = msgspec.msgpack.Encoder(enc_hook=str).encode

_INSERT = """
INSERT INTO dead_letters (
    reason, response, attempts, first_attempt_ms, last_attempt_ms, received_ms, output,
    event_id, event_source, event_type, event_subject, metadata, content
) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)
"""
_MAX_TEXT = 8_192


@dataclass(frozen=True, slots=True)
class BuriedLetter:
    """A dead letter on its way into the journal."""

    letter: DeadLetter
    received_ms: int


def insert_letters(connection: apsw.Connection, letters: Sequence[BuriedLetter]) -> None:
    """File letters in the transaction that is open."""
    if letters:
        connection.executemany(_INSERT, [_row(buried) for buried in letters])


def _row(buried: BuriedLetter) -> tuple[Any, ...]:
    letter = buried.letter
    message = letter.message
    return (
        letter.reason[:_MAX_TEXT],
        letter.response[:_MAX_TEXT],
        letter.attempts,
        int(letter.first_attempt * 1000),
        int(letter.last_attempt * 1000),
        buried.received_ms,
        letter.output,
        *_event_names(message),
        _pack(message.metadata),
        message.content,
    )


def _event_names(message: Message) -> tuple[str | None, ...]:
    """What a person will search by; None where the content is not an event."""
    try:
        value = orjson.loads(message.content)
    except ValueError:
        return (None, None, None, None)
    if not isinstance(value, dict):
        return (None, None, None, None)
    names = (value.get(key) for key in ("id", "source", "type", "subject"))
    return tuple(name if isinstance(name, str) else None for name in names)

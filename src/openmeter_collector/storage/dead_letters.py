"""Dead letters: events that can never be delivered as they are, kept until a person decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw
import orjson

from openmeter_collector.component.buffer import DeadLetter
from openmeter_collector.message import Message
from openmeter_collector.storage.frame import pack_metadata

# "OR REPLACE" because a letter is written again when nobody could say whether its commit held.
_INSERT = """
INSERT OR REPLACE INTO dead_letters (
    id, reason, response, attempts, first_attempt_ms, last_attempt_ms, received_ms, output,
    event_id, event_source, event_type, event_subject, metadata, content
) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)
"""
_MAX_TEXT = 8_192


@dataclass(slots=True)
class BuriedLetter:
    """A dead letter on its way into the journal; `id` is given by the writer."""

    letter: DeadLetter
    received_ms: int
    id: int = 0


def insert_letters(connection: apsw.Connection, letters: Sequence[BuriedLetter]) -> None:
    """File letters in the transaction that is open."""
    if letters:
        connection.executemany(_INSERT, [_row(buried) for buried in letters])


def _row(buried: BuriedLetter) -> tuple[Any, ...]:
    letter = buried.letter
    message = letter.message
    return (
        buried.id,
        _text(letter.reason),
        _text(letter.response),
        letter.attempts,
        int(letter.first_attempt * 1000),
        int(letter.last_attempt * 1000),
        buried.received_ms,
        _text(letter.output),
        *_event_names(message),
        pack_metadata(message.metadata),
        message.content,
    )


def _text(text: str) -> str:
    """Bounded, and storable whatever a peer answered."""
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode()


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

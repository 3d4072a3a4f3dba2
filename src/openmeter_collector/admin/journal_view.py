"""What a journal holds, as plain values for pages. Runs in threads, beside the running collector."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import msgspec

from openmeter_collector.storage import letter_box
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.dead_letters import Letter, Wanted, find_letters, read_letter
from openmeter_collector.storage.ledger import Line, total
from openmeter_collector.storage.life import moments_of
from openmeter_collector.storage.visit import changing, reading

_MOST_TEXT: Final = 300
_MOST_MOMENTS: Final = 200


class _Facts(msgspec.Struct, gc=False):
    id: Any = None
    source: Any = None
    type: Any = None
    subject: Any = None
    time: Any = None


_decode = msgspec.json.Decoder(_Facts).decode


def event_facts(content: bytes) -> dict[str, Any]:
    """An event by its names, with its text."""
    try:
        facts = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        facts = _Facts()
    named = {name: getattr(facts, name) for name in ("id", "source", "type", "subject", "time")}
    return named | {"content": content.decode("utf-8", "replace")}


def books(path: str, hours: int) -> dict[str, Any]:
    """The ledger by hour, newest first, summed over sources and types.

    Raises:
        CollectorError: the journal cannot be read.
    """
    since = int(time.time()) // 3600 - hours + 1
    with reading(Path(path)) as connection:
        lines = audited(connection)
    by_hour: dict[int, list[Line]] = {}
    for line in lines:
        if line.hour >= since:
            by_hour.setdefault(line.hour, []).append(line)
    shown = [
        {"hour": hour * 3600, **_sums(total(group))}
        for hour, group in sorted(by_hour.items(), reverse=True)
    ]
    return {
        "balanced": not any(line.balance for line in lines),
        "hours": shown,
        "total": _sums(total(lines)),
    }


def _sums(line: Line) -> dict[str, int]:
    return {**line.counts, "waiting": line.waiting, "balance": line.balance}


def letters(path: str, text: str, most: int) -> dict[str, Any]:
    """The newest dead letters, without their events.

    Args:
        text: only those with it in their id, type, subject or reason.
    """
    text = text.strip().lower()
    found = []
    count = 0
    with reading(Path(path)) as connection:
        for one in find_letters(connection, Wanted()):
            names = (one.event_id, one.event_type, one.event_subject, one.event_source, one.reason)
            if text and not any(text in (name or "").lower() for name in names):
                continue
            count += 1
            found.append(_summary(one))
            if len(found) > most:
                found.pop(0)
    return {"count": count, "letters": found[::-1]}


def letter(path: str, number: int) -> dict[str, Any] | None:
    """All about one, with its event; None when it is gone."""
    with reading(Path(path)) as connection:
        one = read_letter(connection, number)
    if one is None:
        return None
    return _summary(one) | {
        "response": one.response,
        "output": one.output,
        "first_attempt": one.first_attempt_ms / 1000,
        "received": one.received_ms / 1000,
        "edited": one.original is not None,
        "content": one.event.content.decode("utf-8", "replace"),
    }


def life(path: str, event_id: str) -> list[dict[str, Any]]:
    """What is known of one event, in the order it happened."""
    with reading(Path(path)) as connection:
        moments = sorted(set(moments_of(connection, event_id)))
    return [
        {"at": one.at_ms / 1000, "what": one.what, "source": one.source, "note": one.note}
        for one in moments[:_MOST_MOMENTS]
    ]


def _summary(one: Letter) -> dict[str, Any]:
    return {
        "letter": one.id,
        "id": one.event_id,
        "source": one.event_source,
        "type": one.event_type,
        "subject": one.event_subject,
        "reason": one.reason[:_MOST_TEXT],
        "attempts": one.attempts,
        "last_attempt": one.last_attempt_ms / 1000,
    }


def change(path: str, number: int, action: str, content: object) -> bool:
    """Put a letter back, let it go, or change its event.

    Returns:
        Whether it was done.
    """
    with changing(Path(path)) as connection:
        if action == "replay":
            return letter_box.replay(connection, [number]) == 1
        if action == "drop":
            return letter_box.drop(connection, [number]) == 1
        if action == "edit" and isinstance(content, str):
            one = read_letter(connection, number)
            return one is not None and letter_box.edit(connection, one, content.encode())
    return False

"""What a person does with dead letters, each in one transaction with the books and the history.

Safe beside a running collector: it never touches a letter that it has filed, it counts them anew when
it sees that the file was changed, and what is put back goes through a table of its own (`returned`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import apsw

from openmeter_collector.message import Message
from openmeter_collector.storage.dead_letters import (
    Letter,
    Wanted,
    event_names,
    find_letters,
    read_letter,
)
from openmeter_collector.storage.ledger import Bookkeeper, Changes, hour_of, names_of
from openmeter_collector.storage.returned import put_back

AT_ONCE: Final = 100
_MOST_HISTORY: Final = 100_000
_DROPPED: Final = "dlq drop"
_EDITED: Final = "dlq edit: has become another event"
_CHANGED: Final = (
    "UPDATE dead_letters SET {column} = ?, original = coalesce(original, ?) WHERE id = ?"
)


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[Changes]:
    """A transaction that writes, and the changes of the books that go with it."""
    connection.execute("BEGIN IMMEDIATE")
    changes = Changes()
    try:
        yield changes
        Bookkeeper().write(connection, changes, 0)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def drop(connection: apsw.Connection, ids: Sequence[int]) -> int:
    """Let letters go for good; returns how many there were."""
    done = 0
    for letters, changes in _taken(connection, ids):
        for letter in letters:
            hour, names = letter.line
            changes.add(hour, "dead", {names: -1})
            changes.add(hour, "dropped", {names: 1}, _DROPPED)
            remember(connection, letter, "dropped", letter.reason)
        done += len(letters)
    return done


def replay(
    connection: apsw.Connection,
    ids: Sequence[int],
    renewed: Callable[[Message], Message] | None = None,
    told: Callable[[int], None] | None = None,
) -> int:
    """Put letters back to be delivered; returns how many there were.

    Args:
        renewed: makes an event of another id of one; None keeps the ids.
        told: of each part, how many letters it has.
    """
    done = 0
    for letters, changes in _taken(connection, ids):
        by_hour: dict[int, list[tuple[int, Message]]] = {}
        for letter in letters:
            event = letter.event if renewed is None else renewed(letter.event)
            _count_replayed(changes, letter, event)
            by_hour.setdefault(hour_of(letter.received_ms), []).append((letter.received_ms, event))
            note = "" if renewed is None else f"as {event_names(event.content)[0]}"
            remember(connection, letter, "replayed", note)
        for group in by_hour.values():
            put_back(connection, [event for _, event in group], min(at for at, _ in group))
        done += len(letters)
        if told is not None:
            told(len(letters))
    return done


def edit(connection: apsw.Connection, letter: Letter, content: bytes) -> bool:
    """Give a letter another content, kept beside the one it came with; False when it is gone.

    What is edited is what will be put back.
    """
    with transaction(connection):
        now = read_letter(connection, letter.id)
        if now is None or now.event.content != letter.event.content:
            return False
        column = "content" if now.stored is None else "stored"
        connection.execute(_CHANGED.format(column=column), (content, now.event.content, letter.id))
        names = event_names(content)
        connection.execute(
            "UPDATE dead_letters SET event_id = ?, event_source = ?, event_type = ?, "
            "event_subject = ? WHERE id = ?",
            (*names, letter.id),
        )
        remember(connection, now, "edited", "")
    return True


def remember(connection: apsw.Connection, letter: Letter, what: str, note: str) -> None:
    """Write into the history, in the transaction that is open; the oldest entries make room."""
    connection.execute(
        "INSERT INTO history (at_ms, event_id, event_source, what, note) VALUES (?,?,?,?,?)",
        (time.time_ns() // 1_000_000, letter.event_id, letter.event_source, what, note),
    )
    connection.execute(
        "DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (_MOST_HISTORY,)
    )


def _taken(
    connection: apsw.Connection, ids: Sequence[int]
) -> Iterator[tuple[list[Letter], Changes]]:
    """Take letters out of the box, some at a time, each in the transaction of what is done with them.

    Only those that are still there: somebody else may have been quicker.
    """
    for start in range(0, len(ids), AT_ONCE):
        part = tuple(ids[start : start + AT_ONCE])
        with transaction(connection) as changes:
            letters = list(find_letters(connection, Wanted(letters=part)))
            connection.executemany(
                "DELETE FROM dead_letters WHERE id = ?", [(one.id,) for one in letters]
            )
            yield letters, changes


def _count_replayed(changes: Changes, letter: Letter, event: Message) -> None:
    """It waits again. With other names than it was received with it is another event."""
    hour, names = letter.line
    now = names_of(event.content)
    changes.add(hour, "dead", {names: -1})
    changes.add(hour, "replayed", {now: 1})
    if now != names:
        changes.add(hour, "dropped", {names: 1}, _EDITED)
        changes.add(hour, "received", {now: 1})

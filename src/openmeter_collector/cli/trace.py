"""`trace`: what is known of one event's life."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import click
import msgspec

from openmeter_collector.cli.journal import journal_of, journal_options, printable, shown_time
from openmeter_collector.storage.dead_letters import Wanted, find_letters
from openmeter_collector.storage.schema import FARTHEST_MS
from openmeter_collector.storage.sent import decode_identity, read_sent
from openmeter_collector.storage.tools import Reader
from openmeter_collector.storage.visit import reading


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """Something that happened to the event; `at_ms` is Unix time."""

    at_ms: int
    what: str
    source: str
    note: str = ""


@click.command()
@click.argument("event_id")
@journal_options
@click.option("--source", help="Only of this source: ids are unique within one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def trace(
    event_id: str,
    journal: Path | None,
    config_file: Path | None,
    env_files: tuple[Path, ...],
    source: str | None,
    as_json: bool,
) -> int:
    """Print what is known of one event, in the order it happened; end with 1 if nothing is.

    An event that waits or is a dead letter is always found, and so is what a person did with it. That
    it was delivered is known for as long as the buffer's `keep_sent` says, and that its id came again
    with another content when `detect_conflicts` is on. A mapping that gives events other ids makes
    other events of them: ask for both.
    """
    with reading(journal_of(journal, config_file, env_files)) as connection:
        moments = sorted(set(_moments(connection, event_id)))
    shown = [one for one in moments if source is None or one.source == source]
    for one in shown:
        if as_json:
            facts: dict[str, Any] = {"at": shown_time(one.at_ms), "what": one.what}
            click.echo(json.dumps(facts | {"source": one.source, "note": one.note}))
        else:
            note = f"  ({one.note})" if one.note else ""
            line = f"{shown_time(one.at_ms)}  {one.what:<14} {one.source or '-'}{note}"
            click.echo(printable(line))
    if not shown:
        click.echo(f"nothing is known of {printable(event_id)!r}", err=True)
    return int(not shown)


def _moments(connection: apsw.Connection, event_id: str) -> Iterator[Moment]:
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

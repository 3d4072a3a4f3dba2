"""`trace`: what is known of one event's life."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from openmeter_collector.cli.journal import journal_of, journal_options, printable, shown_time
from openmeter_collector.storage.life import moments_of
from openmeter_collector.storage.visit import reading


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
        moments = sorted(set(moments_of(connection, event_id)))
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

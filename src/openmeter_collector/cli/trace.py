"""`trace`: what is known of one event's life."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from openmeter_collector.cli.journal import (
    journal_options,
    journals_of,
    printable,
    shown_time,
)
from openmeter_collector.cli.options import json_option
from openmeter_collector.storage.life import Moment, moments_of
from openmeter_collector.storage.visit import reading


@click.command()
@click.argument("event_id")
@journal_options
@click.option("--source", help="Only of this source: ids are unique within one.")
@json_option
def trace(
    event_id: str,
    journal: Path | None,
    config_file: Path | None,
    env_files: tuple[Path, ...],
    source: str | None,
    as_json: bool,
) -> int:
    r"""Print what is known of one event, in the order it happened; end with 1 if nothing is.

    An event that waits or is a dead letter is always found, and so is what a person did with it. That
    it was delivered is known for as long as the buffer's `keep_sent` says, and that its id came again
    with another content when `detect_conflicts` is on. A mapping that gives events other ids makes
    other events of them: ask for both.

    \b
    Exit codes:
      1  nothing is known of the event

    \b
    Examples:
      openmeter-collector trace -c config.yaml 01J8XK3M
      openmeter-collector trace -j /data/buffer.db 01J8XK3M --source shop --json
    """
    moments: set[Moment] = set()
    for one in journals_of(journal, config_file, env_files):
        with reading(one.path) as connection:
            moments |= set(moments_of(connection, event_id))
    shown = [one for one in sorted(moments) if source is None or one.source == source]
    for moment in shown:
        at = shown_time(moment.at_ms)
        if as_json:
            facts: dict[str, Any] = {"at": at, "what": moment.what}
            click.echo(json.dumps(facts | {"source": moment.source, "note": moment.note}))
        else:
            note = f"  ({moment.note})" if moment.note else ""
            click.echo(printable(f"{at}  {moment.what:<14} {moment.source or '-'}{note}"))
    if not shown and not as_json:
        click.echo(f"nothing is known of {printable(event_id)!r}", err=True)
    return int(not shown)

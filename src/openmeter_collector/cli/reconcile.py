"""`reconcile`: compare what was delivered with the destination's own list of events."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import click

from openmeter_collector.admin.reconcile import (
    Comparison,
    Destination,
    Key,
    compare,
    sent_between,
)
from openmeter_collector.cli.journal import (
    JournalFile,
    config_of,
    journal_options,
    journals_of,
    printable,
    time_of,
)
from openmeter_collector.cli.options import json_option
from openmeter_collector.cli.progress import progress
from openmeter_collector.components.outputs.openmeter import OpenMeter, ingest_url
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.errors import CollectorError, ConfigError
from openmeter_collector.storage.schema import FARTHEST_MS
from openmeter_collector.storage.sent import read_sent
from openmeter_collector.storage.visit import reading

_SETTLED: Final = 300.0
"""Seconds after which a destination should list what it took."""
_SHOWN: Final = 20
_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class _Asked:
    journals: Sequence[JournalFile]
    output: OpenMeter
    api: str
    since: float
    until: float
    resend: bool
    as_json: bool


@click.command()
@journal_options
@click.option("--from", "since", required=True, help="Events of this time or later.")
@click.option("--to", "until", help="Events before this time.  [default: five minutes ago]")
@click.option("--url", help="The destination's address, where the config does not say it.")
@click.option(
    "--token-env",
    default="OPENMETER_TOKEN",
    show_default=True,
    help="With --url: the environment variable that has the token.",
)
@click.option(
    "--api",
    type=click.Choice(["v1", "v2", "v3"]),
    help="Which list to ask.  [default: v3 for an address of v3, else v2]",
)
@click.option("--ignore-extra", is_flag=True, help="Others deliver there, too: not a difference.")
@click.option("--resend", is_flag=True, help="Send once more what is missing, with the same ids.")
@json_option
def reconcile(
    journal: Path | None,
    config_file: Path | None,
    env_files: tuple[Path, ...],
    since: str,
    until: str | None,
    url: str | None,
    token_env: str,
    api: str | None,
    ignore_extra: bool,
    resend: bool,
    as_json: bool,
) -> int:
    r"""Compare what was delivered with the destination's own list, and end with 1 on a difference.

    Needs the buffer's `keep_sent`: what was delivered is otherwise not known any more. Times are those
    of the events. Missing are events that were delivered, and confirmed, and are not listed; extra ones
    are listed and were not delivered from here in the time that is kept; different ones have another
    type, subject, time or data there. Events that wait or are dead letters are not delivered.

    \b
    Exit codes:
      1  there is a difference, or it could not be compared

    \b
    Environment:
      OPENMETER_TOKEN  with --url: the token, unless --token-env names another variable

    \b
    Examples:
      openmeter-collector reconcile -c config.yaml --from 2026-02-01 --to 2026-03-01
      openmeter-collector reconcile -c config.yaml --from 2026-02-01 --resend
    """
    output = _output_of(config_file, env_files, url, token_env)
    address = ingest_url(output.url)
    asked = _Asked(
        journals_of(journal, config_file, env_files),
        output,
        api or ("v2" if "/api/v1/" in address else "v3"),
        time_of(since, "--from") or 0.0,
        time_of(until, "--to") or time.time() - _SETTLED,
        resend,
        as_json,
    )
    made, resent = asyncio.run(_run(asked))
    if as_json:
        click.echo(json.dumps(_as_json(made, resent)))
    else:
        _print(made, resent, resend=resend)
    return int(not made.agrees(extra_counts=not ignore_extra))


async def _run(asked: _Asked) -> tuple[Comparison, int]:
    output = asked.output
    kept = _kept(asked.journals)
    first = next(kept, None)
    if first is None:
        raise CollectorError(
            f"{asked.journals[0].path}: has no record of what was delivered; set keep_sent of the "
            "sqlite buffer to as long as you want to look back"
        )
    ours = list(sent_between(chain([first], kept), asked.since, asked.until))
    async with open_http_client(
        tls=output.tls.context("reconcile"),
        max_response_bytes=64 << 20,
        proxy=output.proxy_url or None,
    ) as client:
        there = Destination(client, ingest_url(output.url), output.token)
        made = await compare(ours, there.listed(asked.since, asked.until, asked.api))
        resent = 0
        missing = list(made.missing.values()) if asked.resend else []
        with progress("events sent again", len(missing), silent=asked.as_json) as told:
            for start in range(0, len(missing), _AT_ONCE):
                part = missing[start : start + _AT_ONCE]
                await there.send(part)
                resent += len(part)
                told(len(part))
    return made, resent


def _kept(journals: Sequence[JournalFile]) -> Iterator[bytes]:
    for one in journals:
        with reading(one.path) as connection:
            for sent in read_sent(connection, 0, FARTHEST_MS):
                yield sent.message.content


def _output_of(
    config_file: Path | None, env_files: tuple[Path, ...], url: str | None, token_env: str
) -> OpenMeter:
    if url is not None:
        return OpenMeter(url=url, token=os.environ.get(token_env, ""))
    if config_file is None:
        raise ConfigError("which destination? give a config with -c, or --url")
    output = config_of(config_file, env_files).output
    if output is None or not isinstance(output.config, OpenMeter):
        raise ConfigError(
            f"{config_file}: its output is not `openmeter` itself; give the address with --url"
        )
    return output.config


def _print(made: Comparison, resent: int, *, resend: bool) -> None:
    click.echo(f"delivered   {made.delivered:>10}")
    click.echo(f"listed      {made.listed:>10}")
    _say("missing", [_named(key) for key in made.missing])
    _say("extra", [_named(key) for key in made.extra])
    _say("different", [f"{_named(key)}: {', '.join(f)}" for key, f in made.different.items()])
    if resend:
        click.echo(f"sent again  {resent:>10}")


def _say(what: str, lines: list[str]) -> None:
    click.echo(f"{what:<11} {len(lines):>10}")
    for line in lines[:_SHOWN]:
        click.echo(f"  {printable(line)}")
    if len(lines) > _SHOWN:
        click.echo(f"  and {len(lines) - _SHOWN} more; see --json")


def _named(key: Key) -> str:
    source, event_id = key
    return f"{event_id} of {source}"


def _as_json(made: Comparison, resent: int) -> dict[str, object]:
    def shown(key: Key) -> dict[str, str]:
        return {"source": key[0], "id": key[1]}

    return {
        "delivered": made.delivered,
        "listed": made.listed,
        "missing": [shown(key) for key in made.missing],
        "extra": [shown(key) for key in made.extra],
        "different": [shown(key) | {"fields": f} for key, f in made.different.items()],
        "resent": resent,
    }

"""`openmeter-collector seed`: realistic usage events for a collector or for OpenMeter."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import Final

import click
import uvloop

from openmeter_collector.cli.options import json_option
from openmeter_collector.testing.seeder import Ledger, Seed, Seeder

_COUNTED: Final = ("issued", "accepted", "refused", "unresolved")


@click.command()
@click.option(
    "--url",
    default="http://127.0.0.1:8080",
    show_default=True,
    envvar="SEEDER_URL",
    help="Where to send.",
)
@click.option("--token", default="", help="Bearer token to send.", envvar="SEEDER_TOKEN")
@click.option("--rate", default=50.0, show_default=True, help="Events a second; 0 is no limit.")
@click.option("--batch", default=1, show_default=True, help="Events a request, at most.")
@click.option("--count", default=0, show_default=True, help="Stop after so many; 0 does not.")
@click.option("--subjects", default=10, show_default=True, help="How many customers.")
@click.option("--connections", default=8, show_default=True, help="Requests under way at once.")
@click.option("--seed", type=int, help="Makes the events repeatable.")
@json_option
def seed(
    *,
    url: str,
    token: str,
    rate: float,
    batch: int,
    count: int,
    subjects: int,
    connections: int,
    seed: int | None,
    as_json: bool,
) -> None:
    r"""Send usage events: API requests, LLM tokens, storage and GPU seconds.

    What is not answered, or answered with a 5xx or 429, is sent again with the same id.

    \b
    Exit codes:
      1  events were refused or are unanswered

    \b
    Examples:
      openmeter-collector seed --count 1000 --batch 100
      openmeter-collector seed --url http://127.0.0.1:8080 --rate 0
    """
    made = Seeder(
        Seed(
            url=url,
            token=token,
            rate=rate,
            batch=batch,
            count=count,
            subjects=subjects,
            connections=connections,
            seed=seed,
        )
    )
    ledger = uvloop.run(_run(made, silent=as_json))
    if as_json:
        click.echo(json.dumps(_facts(ledger)))
        sys.exit(1 if ledger.refused or ledger.unresolved else 0)
    for reason in sorted(set(ledger.refused.values()))[:5]:
        click.echo(f"refused with {reason}", err=True)
    if ledger.refused or ledger.unresolved:
        sys.exit(1)


def _facts(ledger: Ledger) -> dict[str, object]:
    counts = {name: len(getattr(ledger, name)) for name in _COUNTED}
    return counts | {"answers": {str(status or "none"): n for status, n in ledger.answers.items()}}


async def _run(seeder: Seeder, *, silent: bool) -> Ledger:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, seeder.stop)
    live = sys.stdout.isatty()
    began = time.monotonic()
    running = loop.create_task(seeder.run())
    while not running.done():
        await asyncio.wait({running}, timeout=0.25 if live else 1.0)
        if silent:
            continue
        line = _line(seeder.ledger, time.monotonic() - began)
        click.echo(f"\r\x1b[K{line}" if live else line, nl=not live)
    if live and not silent:
        click.echo()
    return running.result()


def _line(ledger: Ledger, seconds: float) -> str:
    answers = ", ".join(
        f"{status or 'none'}: {count}" for status, count in sorted(ledger.answers.items())
    )
    return (
        f"{len(ledger.issued):,} sent, {len(ledger.accepted):,} accepted"
        f" ({len(ledger.accepted) / max(seconds, 0.001):,.0f}/s), {len(ledger.refused):,} refused,"
        f" {len(ledger.unresolved):,} unanswered; answers {{{answers}}}"
    )

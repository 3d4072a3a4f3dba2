"""`selftest`: the promises of the collector, tried on your own disk."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from openmeter_collector.storage.schema import volatile_filesystem
from openmeter_collector.testing.chaos import Chaos, Evidence


@click.command()
@click.option(
    "--chaos", is_flag=True, help="Break things: kill -9, a disk that refuses, a bad network."
)
@click.option("--minutes", type=float, default=1.0, show_default=True, help="How long.")
@click.option("--rounds", type=int, default=0, help="So many lives of the collector, instead.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    help="Where the journal is: a new folder on the disk you want to know about.  [default: temporary]",
)
@click.option(
    "--seed", type=int, help="Repeat the choices of another run; times differ all the same."
)
@click.option("--json", "as_json", is_flag=True, help="The evidence as one JSON object.")
def selftest(
    chaos: bool, minutes: float, rounds: int, folder: Path | None, seed: int | None, as_json: bool
) -> int:
    r"""Run a collector on your disk, break it, and see whether anything is lost.

    Sends events to a collector in front of a local OpenMeter, and compares in the end: every event that
    was acknowledged has arrived as it was sent, or is a dead letter; nothing arrived that nobody sent;
    the books balance; the file is whole. With --chaos the collector is killed, stopped, and its disk
    refuses to grow, and OpenMeter fails in every way it can. Ends with 1 if a promise was broken; the
    journal and the log then stay in the folder. Needs Linux.

    \b
    Exit codes:
      1  a promise was broken

    \b
    Examples:
      openmeter-collector selftest --chaos --minutes 10
      openmeter-collector selftest --dir /data/selftest --json
    """
    number = random.SystemRandom().randrange(10**6) if seed is None else seed
    end = time.monotonic() + minutes * 60

    def enough(evidence: Evidence) -> bool:
        return evidence.rounds >= rounds if rounds else time.monotonic() >= end

    def said(line: str) -> None:
        if sys.stderr.isatty() and not as_json:
            click.echo(f"\r{line}\x1b[K", nl=False, err=True)

    with ExitStack() as stack:
        if folder is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="selftest-"))
            folder = Path(made) / "data"
        evidence = asyncio.run(Chaos(folder, number, faults=chaos).run(enough, said))
        if as_json:
            click.echo(json.dumps(asdict(evidence)))
        else:
            if sys.stderr.isatty():
                click.echo("", err=True)
            kind = volatile_filesystem(folder / "buffer.db")
            click.echo(f"folder        {folder}{f' ({kind}: no real disk)' if kind else ''}")
            click.echo("\n".join(evidence.lines()))
    return int(bool(evidence.wrong))

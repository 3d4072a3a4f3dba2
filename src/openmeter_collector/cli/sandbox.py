"""`openmeter-collector sandbox`: a local OpenMeter to send to, look into and break."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import uvloop

from openmeter_collector.testing.sandbox import Running, Sandbox
from openmeter_collector.testing.sandbox.faults import AnyFault, parse_fault


@click.command()
@click.option(
    "--listen",
    default="127.0.0.1:8888",
    show_default=True,
    metavar="HOST:PORT",
    help="Where it listens; port 0 takes a free one.",
)
@click.option("--token", "tokens", multiple=True, help="Accept this bearer token; may be repeated.")
@click.option(
    "--store",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep accepted events in this SQLite file as well, over restarts.",
)
@click.option("--light", is_flag=True, help="Keep identities and counts only; for benchmarks.")
@click.option("--keep", type=click.IntRange(1), help="Keep at most so many events and requests.")
@click.option("--no-dedupe", is_flag=True, help="Count every event, as OpenMeter does by default.")
@click.option("--dedupe-window", type=float, metavar="SECONDS", help="Forget identities after.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME=VALUE[,FIELD=VALUE...]",
    help="Something that goes wrong; may be repeated. See the guide for all of them.",
)
@click.option("--seed", default=0, help="Makes faults with a probability repeatable.")
def sandbox(
    *,
    listen: str,
    tokens: Sequence[str],
    store: Path | None,
    light: bool,
    keep: int | None,
    no_dedupe: bool,
    dedupe_window: float | None,
    faults: Sequence[str],
    seed: int,
) -> None:
    r"""Run a local OpenMeter: it takes events as the real one does and shows what came.

    Nothing it keeps leaves this machine, and it has no limits: for trying and testing only.

    \b
    Examples:
      openmeter-collector sandbox
      openmeter-collector sandbox --token secret --fault status=503,times=5
    """
    try:
        wrong = [parse_fault(text) for text in faults]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--fault") from None
    made = Sandbox(
        tokens=tokens,
        light=light,
        keep=keep,
        store=store,
        dedupe=not no_dedupe,
        window=dedupe_window,
        faults=wrong,
        seed=seed,
    )
    try:
        uvloop.run(_run(made, listen, wrong, has_token=bool(tokens)))
    except OSError as error:
        raise click.ClickException(f"--listen {listen}: {error.strerror or error}") from None


async def _run(made: Sandbox, listen: str, faults: Sequence[AnyFault], *, has_token: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with made.serve(listen) as running:
        click.echo(_introduction(running, faults, has_token=has_token))
        if sys.stdout.isatty():
            await _show(running, stop)
            click.echo()
        else:
            await stop.wait()
        click.echo(f"stopped; {_line(running)}")


def _introduction(running: Running, faults: Sequence[AnyFault], *, has_token: bool) -> str:
    url = running.url
    auth = " -H 'Authorization: Bearer TOKEN'" if has_token else ""
    event = '{"specversion":"1.0","id":"1","source":"me","type":"request","subject":"customer-1"}'
    send = f"curl -i{auth} {url}/api/v1/events -H 'Content-Type: application/cloudevents+json'"
    fault = '{"faults":[{"fault":"status","status":503,"retry_after":2,"times":5}]}'
    lines = [
        f"Local OpenMeter on {url}",
        "",
        f"  send     {send} -d '{event}'",
        f"  list     curl{auth} {url}/api/v1/events",
        f"  raw      curl {url}/sandbox/events",
        f"  counts   curl {url}/sandbox/stats",
        f"  requests curl {url}/sandbox/requests",
        f"  break    curl -X PUT {url}/sandbox/faults -d '{fault}'",
        f"  mend     curl -X DELETE {url}/sandbox/faults",
        "",
    ]
    if faults:
        lines += [f"  fault set: {fault}" for fault in faults] + [""]
    return "\n".join(lines)


async def _show(running: Running, stop: asyncio.Event) -> None:
    while not stop.is_set():
        click.echo(f"\r\x1b[K{_line(running)}", nl=False)
        try:
            await asyncio.wait_for(stop.wait(), 0.25)
        except TimeoutError:
            continue


def _line(running: Running) -> str:
    stats = running.stats()
    state = "" if running.is_up else "DOWN  "
    return (
        f"{state}{stats['accepted']:,} events, {stats['duplicates']:,} duplicates,"
        f" {stats['conflicts']:,} conflicts, {stats['requests']:,} requests"
        f" {stats['by_status'] or ''}"
    ).rstrip()

"""`top`: a running collector, live in a terminal."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click
import orjson
import uvloop

from openmeter_collector.cli.admin_client import asked, client_options
from openmeter_collector.cli.journal import printable, table


@click.command()
@client_options
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    help="Seconds between two pictures.",
)
@click.option("--once", is_flag=True, help="Print one picture and end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a picture.")
def top(url: str, user: str | None, interval: float, once: bool, as_json: bool) -> int:
    r"""Show rates, backlog, delivery and dead letters of a running collector.

    \b
    Examples:
      openmeter-collector top
      openmeter-collector top --url https://collector.internal:4195 --user admin
      openmeter-collector top --once --json | jq '.pipelines[].backlog'
    """
    return uvloop.run(_show(url, user, interval, once=once, as_json=as_json))


async def _show(url: str, user: str | None, interval: float, *, once: bool, as_json: bool) -> int:
    live = sys.stdout.isatty() and not once and not as_json
    while True:
        state = await asked(url, user, "/ui/state")
        if as_json:
            click.echo(orjson.dumps(state))
        else:
            # Home, the picture, and away with what stood below: nothing flickers.
            text = picture(state)
            click.echo(f"\x1b[H\x1b[2J{text}" if live else text)
        if once:
            return 0
        await asyncio.sleep(interval)


def picture(state: dict[str, Any]) -> str:
    """A state as text."""
    ready = "ready" if state["ready"] else "NOT READY"
    parts = [f"OpenMeter Collector {state['version']}  {ready}  up {_length(state['uptime'])}"]
    for name, pipeline in state["pipelines"].items():
        parts += ["", *_pipeline(name, pipeline)]
    return "\n".join(parts)


def _pipeline(name: str, pipeline: dict[str, Any]) -> list[str]:
    lines = [f"[{printable(name)}]"] if name else []
    lines += [f"! {printable(problem)}" for problem in pipeline["problems"]]
    rows = [
        [
            "  " * stage["depth"] + stage["kind"],
            printable(f"{stage['name']} {stage['label']}".strip()),
            f"{max(stage['rate_in'], stage['rate_out']):,.1f}",
            f"{stage['total']:,.0f}",
            f"{stage['errors']:,.0f}",
            f"{stage['p50_ms']:.1f}",
            f"{stage['p99_ms']:.1f}",
        ]
        for stage in pipeline["stages"]
    ]
    lines.append(table(["stage", "name", "/s", "total", "errors", "p50 ms", "p99 ms"], rows))
    backlog, delivery = pipeline["backlog"], pipeline["delivery"]
    if backlog is not None:
        lines.append(
            f"backlog {backlog['events']:,} events, {backlog['bytes']:,} bytes, oldest "
            f"{_length(backlog['oldest_age'])}, drained in {_length(backlog['seconds_to_drained'])}, "
            f"full in {_length(backlog['seconds_to_full'])}, dead letters "
            f"{backlog['dead_letters']:,}"
        )
    lines.append(f"delivered {delivery['delivered']:,}, {delivery['in_flight']} under way")
    if delivery["last_failure"] > delivery["last_success"]:
        lines.append(f"! {printable(delivery['last_error'])}")
    return lines


def _length(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"

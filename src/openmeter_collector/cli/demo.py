"""`openmeter-collector demo`: the collector at work, to look at."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import click
import uvloop

from openmeter_collector.cli.options import json_option
from openmeter_collector.testing.demo import Addresses, DemoOptions, Outcome, Snapshot, run_demo
from openmeter_collector.testing.process import CollectorFailed

_BOLD, _DIM, _RED, _GREEN, _OFF = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[0m"


@click.command()
@click.option("--outage", is_flag=True, help="Take OpenMeter away for a while, and bring it back.")
@click.option(
    "--outage-after", default=5.0, show_default=True, metavar="SECONDS", help="When it begins."
)
@click.option(
    "--outage-for", default=15.0, show_default=True, metavar="SECONDS", help="How long it lasts."
)
@click.option("--duration", default=0.0, help="Stop after so many seconds; 0 goes on.")
@click.option("--rate", default=50.0, show_default=True, help="Events a second; 0 is no limit.")
@click.option("--batch", default=1, show_default=True, help="Events a request, at most.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-data"),
    show_default=True,
    help="Where the buffer and the collector's log are.",
)
@click.option("--any-port", is_flag=True, help="Take free ports instead of 8080, 4195 and 8888.")
@json_option
def demo(
    *,
    outage: bool,
    outage_after: float,
    outage_for: float,
    duration: float,
    rate: float,
    batch: int,
    folder: Path,
    any_port: bool,
    as_json: bool,
) -> int:
    r"""Show the collector at work: a sender, the buffer on disk, and a local OpenMeter.

    Ctrl-C stops in order and says what was sent, what was delivered and what is left in the buffer;
    the next demo in the same folder delivers that first. A second Ctrl-C does not wait.

    \b
    Exit codes:
      1  an acknowledged event is missing, or the collector ended by itself

    \b
    Examples:
      openmeter-collector demo
      openmeter-collector demo --outage --duration 30 --any-port
    """
    options = DemoOptions(
        folder=folder.resolve(),
        rate=rate,
        batch=batch,
        duration=duration,
        outage=(outage_after, outage_for) if outage else None,
    )
    if any_port:
        free = "127.0.0.1:0"
        options = replace(options, ingest=free, service=free, sandbox=free)
    try:
        return uvloop.run(_run(options, as_json=as_json))
    except CollectorFailed as failed:
        raise click.ClickException(f"the collector ended by itself:\n{failed}") from None
    except OSError as error:
        raise click.ClickException(str(error)) from None


async def _run(options: DemoOptions, *, as_json: bool) -> int:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    screen = _Screen(options) if sys.stdout.isatty() and not as_json else None
    show: Callable[[Addresses, Snapshot], None] = screen.show if screen else _Lines(options).show
    if as_json:
        show = _nothing
    try:
        outcome = await run_demo(options, stop, hurry, show)
    finally:
        if screen:
            screen.close()
    print(json.dumps(_facts(outcome)) if as_json else _summary(options, outcome))
    return 1 if outcome.missing or (outcome.exit_code and not hurry.is_set()) else 0


def _nothing(addresses: Addresses, now: Snapshot) -> None:
    del addresses, now


def _facts(outcome: Outcome) -> dict[str, int]:
    ledger = outcome.ledger
    return {
        "sent": len(ledger.issued),
        "acknowledged": len(ledger.accepted),
        "delivered": len(ledger.accepted & outcome.delivered),
        "duplicates": outcome.duplicates,
        "left": outcome.left,
        "dead_letters": outcome.dead_letters,
        "missing": outcome.missing,
    }


class _Lines:
    """One line a second, for a file or a pipe."""

    def __init__(self, options: DemoOptions) -> None:
        self._folder = options.folder
        self._next = 0.0

    def show(self, addresses: Addresses, now: Snapshot) -> None:
        if self._next == 0.0:
            print("\n".join(_commands(addresses, self._folder)), flush=True)
        if now.seconds < self._next:
            return
        self._next = now.seconds + 1.0
        print(
            f"{now.seconds:6.1f}s  sent {now.sent}  received {now.received}"
            f"  buffered {now.buffered_events} ({_bytes(now.buffered_bytes)})"
            f"  delivered {now.delivered} ({now.rates['delivered']:.0f}/s)"
            f"  dead {now.dead_letters}  OpenMeter {'up' if now.sandbox_up else 'DOWN'}",
            flush=True,
        )


class _Screen:
    """A picture that is drawn over itself, below commands to copy, which are printed once."""

    def __init__(self, options: DemoOptions) -> None:
        self._folder = options.folder
        self._height = 0
        sys.stdout.write("\x1b[?25l")

    def show(self, addresses: Addresses, now: Snapshot) -> None:
        if self._height == 0:
            print("\n".join([*_commands(addresses, self._folder), ""]))
        width, height = shutil.get_terminal_size()
        lines = [_cut(line, width - 1) for line in picture(now)][: height - 1]
        up = f"\x1b[{self._height}A" if self._height else ""
        body = "".join(f"\r{line}\x1b[K\n" for line in lines)
        sys.stdout.write(f"{up}{body}\x1b[J")
        sys.stdout.flush()
        self._height = len(lines)

    def close(self) -> None:
        sys.stdout.write("\x1b[?25h")
        sys.stdout.flush()


def picture(now: Snapshot) -> list[str]:
    """The live view, line by line."""
    state = f"{_GREEN}up{_OFF}" if now.sandbox_up else f"{_RED}{_BOLD}DOWN{_OFF}"
    backlog = _RED if now.buffered_events > 100 else ""
    buffer = f"{_bytes(now.buffered_bytes)}, oldest {now.oldest_seconds:.1f} s"
    rates = {name: f"{rate:>8.0f}" for name, rate in now.rates.items()}
    lines = [
        f"{_BOLD}OpenMeter Collector{_OFF}  {now.seconds:5.0f} s   local OpenMeter is {state}",
        "",
        f"{_DIM}                      events       /s{_OFF}",
        f"  sent          {now.sent:>12,} {rates['sent']}",
        f"  received      {now.received:>12,} {rates['received']}",
        f"  {backlog}buffered      {now.buffered_events:>12,}{_OFF}            {buffer}",
        f"  delivered     {now.delivered:>12,} {rates['delivered']}   {now.duplicates} duplicates",
        f"  dead letters  {now.dead_letters:>12,}",
        "",
        f"{_DIM}  type             sent  delivered    customer         sent  delivered{_OFF}",
    ]
    types, subjects = sorted(now.sent_by_type), sorted(now.sent_by_subject)
    for row in range(max(4, len(types), min(len(subjects), 8))):
        left = right = ""
        if row < len(types):
            name = types[row]
            left = f"  {name:<12}{now.sent_by_type[name]:>9,}{_get(now.delivered_by_type, name)}"
        if row < min(len(subjects), 8):
            name = subjects[row]
            right = (
                f"    {name:<12}{now.sent_by_subject[name]:>9,}"
                f"{_get(now.delivered_by_subject, name)}"
            )
        lines.append(f"{left:<34}{right}")
    lines += ["", f"{_DIM}{now.news}{_OFF}", "Ctrl-C stops."]
    return lines


def _get(counts: Mapping[str, int], name: str) -> str:
    return f"{counts.get(name, 0):>11,}"


def _commands(addresses: Addresses, folder: Path) -> list[str]:
    event = '{"specversion":"1.0","id":"1","source":"me","type":"request","subject":"customer-0"}'
    send = (
        f"curl -i {addresses.ingest}/api/v1/events -H 'Content-Type: application/cloudevents+json'"
    )
    return [
        f"  folder   {folder}",
        f"  send     {send} -d '{event}'",
        f"  metrics  curl {addresses.service}/metrics",
        f"  arrived  curl {addresses.sandbox}/sandbox/stats",
        f"  raw      curl {addresses.sandbox}/sandbox/events",
    ]


def _summary(options: DemoOptions, outcome: Outcome) -> str:
    ledger = outcome.ledger
    delivered = len(ledger.accepted & outcome.delivered)
    lines = [
        "",
        f"sent          {len(ledger.issued):>10,}",
        f"acknowledged  {len(ledger.accepted):>10,}",
        f"delivered     {delivered:>10,}   (dropped as duplicates: {outcome.duplicates:,})",
        f"left on disk  {outcome.left:>10,}   in {options.folder / 'buffer.db'}",
        f"dead letters  {outcome.dead_letters:>10,}",
    ]
    if outcome.found:
        lines.append(f"found at the start: {outcome.found:,} events of an earlier run")
    if outcome.left:
        lines.append(f"The next demo with --folder {options.folder} delivers them first.")
    if outcome.missing:
        lines.append(f"MISSING: {outcome.missing:,} acknowledged events are nowhere")
    else:
        lines.append("Every acknowledged event is delivered or on disk.")
    lines.append(f"The collector's log is {options.folder / 'collector.log'}.")
    return "\n".join(lines)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _cut(line: str, width: int) -> str:
    """The line, cut to so many visible characters; escape sequences take no room."""
    shown = 0
    out = []
    rest = iter(line)
    for character in rest:
        if character == "\x1b":
            out.append(character)
            for part in rest:
                out.append(part)
                if part.isalpha():
                    break
            continue
        if shown < width:
            out.append(character)
            shown += 1
    return "".join(out)

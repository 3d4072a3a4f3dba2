"""`run --dry-run`: prints the events that would be sent, and sends nothing."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

import click
import orjson

from openmeter_collector.cli.options import Given
from openmeter_collector.cli.process import log_of, stop_on_signals
from openmeter_collector.component.node import Node
from openmeter_collector.config import Config
from openmeter_collector.engine.dry import dry
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.run import Control, Pipeline, plain_errors
from openmeter_collector.message import Batch
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.telemetry.counters import MetricStore

_QUIET: Final = 5.0
"""Seconds without a further event after which the events so far are taken to be all."""
_COLUMNS: Final = ("output", "type", "subject", "time", "id", "data")
_WIDTHS: Final = (18, 18, 18, 24, 20, 60)


async def dry_run(config: Config, how: Given, *, count: int, form: str) -> int:
    """Run a config without sending; ends after `count` events, with the input, or on a signal."""
    log = log_of(config, how.log_level or "warn", to_stdout=False)
    metrics = MetricStore()
    service = Service(metrics)
    around = Surroundings(log, metrics, listen=listen, mount=service.mount)
    printer = _Printer(count, form)
    ended = asyncio.Event()
    pipeline = Pipeline(dry(config, how.registry(), printer.show, ended), around)
    control = Control()
    stop_on_signals(control.stop, log)
    async with plain_errors(), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(pipeline.run(control))
        stopping = tasks.create_task(control.stop.wait())
        watching = tasks.create_task(printer.until_done(ended))
        await asyncio.wait({running, stopping, watching}, return_when=asyncio.FIRST_COMPLETED)
        control.stop.set()
        watching.cancel()
    printer.finish()
    return 0


class _Printer:
    """Prints events as they come."""

    def __init__(self, most: int, form: str) -> None:
        self._most = most
        self._form = form
        self._seen = 0
        self._changed = asyncio.Event()

    def show(self, node: Node, batch: Batch) -> None:
        """Print what an output would write."""
        for message in batch:
            for event in _events(message.content):
                if self._seen < self._most:
                    self._print(node.display(), event, message.error)
                self._seen += 1
        self._changed.set()

    def _print(self, output: str, event: Any, error: Exception | None) -> None:
        if self._form == "json":
            line = {"output": output, "event": event}
            if error is not None:
                line["error"] = str(error)
            sys.stdout.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE).decode())
        else:
            if not self._seen:
                sys.stdout.write(_row(_COLUMNS))
            sys.stdout.write(_row(_cells(output, event, error)))
        sys.stdout.flush()

    async def until_done(self, ended: asyncio.Event) -> None:
        """Wait for enough events, or for the input's end, or for silence after some came."""
        while self._seen < self._most:
            self._changed.clear()
            wait = 0.5 if ended.is_set() else (_QUIET if self._seen else None)
            changed = asyncio.ensure_future(self._changed.wait())
            ending = asyncio.ensure_future(ended.wait())
            done, waiting = await asyncio.wait(
                {changed} if ended.is_set() else {changed, ending},
                timeout=wait,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in (*waiting, ending):
                task.cancel()
            if not done:
                return

    def finish(self) -> None:
        """Say how many there were."""
        shown = min(self._seen, self._most)
        click.echo(f"{shown} events would be sent; nothing was sent or acknowledged", err=True)


def _events(content: bytes) -> list[Any]:
    """What a message holds: an event, several of an archive, or a text."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return [content.decode("utf-8", "replace")]
    return value if isinstance(value, list) else [value]


def _cells(output: str, event: Any, error: Exception | None) -> tuple[str, ...]:
    if isinstance(event, dict) and "specversion" in event:
        parts = [str(event.get(name, "")) for name in ("type", "subject", "time", "id")]
        data = orjson.dumps(event.get("data")).decode()
    else:
        parts = ["", "", "", ""]
        data = event if isinstance(event, str) else orjson.dumps(event).decode()
    if error is not None:
        data = f"! {error}: {data}"
    return (output, *parts, data)


def _row(cells: tuple[str, ...]) -> str:
    shown = []
    for cell, width in zip(cells, _WIDTHS, strict=True):
        text = "".join(char if char.isprintable() else " " for char in cell)
        shown.append(text if len(text) <= width else text[: width - 1] + "…")
    padded = [text.ljust(width) for text, width in zip(shown, _WIDTHS, strict=True)]
    return "  ".join(padded).rstrip() + "\n"

"""How far long work has come: a bar in a terminal, now and then a line elsewhere, nothing if it is short.

Always on standard error, so that what a command prints stays what it is. Where standard error is no
terminal, or `rich` (extra `terminal`) is not installed, there are plain lines and no control codes.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

Told = Callable[[int], None]
"""To be called with what was done since the last time."""

_LIVE_EVERY: Final = 2.0
_FILE_EVERY: Final = 10.0
"""Seconds between two lines, for a person who waits and for a file; work that is done before has none."""


@contextmanager
def progress(
    what: str,
    total: int | None = None,
    *,
    silent: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Told]:
    """Show how far the block has come.

    Args:
        what: is done, such as `letters put back`.
        total: how much there is to do, if that is known.
        silent: show nothing; standard error is for a program.
    """
    if silent:
        yield lambda _: None
        return
    live = sys.stderr.isatty()
    bars = _bars() if live else None
    if bars is None:
        yield _Lines(what, total, _LIVE_EVERY if live else _FILE_EVERY, clock).add
        return
    with bars:
        task = bars.add_task(what, total=total)
        yield lambda count: bars.advance(task, count)


class _Lines:
    def __init__(
        self, what: str, total: int | None, every: float, clock: Callable[[], float]
    ) -> None:
        self._what, self._total, self._every, self._clock = what, total, every, clock
        self._done = 0
        self._began = clock()
        self._next = self._began + every

    def add(self, count: int) -> None:
        """Count on; say it if it is time to."""
        self._done += count
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._every
        rate = self._done / (now - self._began)
        click.echo(f"{self._done:,}{self._of()} {self._what}, {rate:,.0f}/s", err=True)

    def _of(self) -> str:
        if not self._total:
            return ""
        return f" of {self._total:,} ({100 * self._done // self._total} %)"


def _bars() -> Any:
    """The bar of `rich`, gone when it is done; None when that is not installed."""
    try:
        console = importlib.import_module("rich.console")
        parts = importlib.import_module("rich.progress")
    except ImportError:
        return None
    return parts.Progress(
        parts.TextColumn("{task.description}"),
        parts.BarColumn(),
        parts.TextColumn("{task.completed:,.0f}"),
        parts.TaskProgressColumn(show_speed=True),
        parts.TimeRemainingColumn(),
        console=console.Console(stderr=True),
        transient=True,
    )

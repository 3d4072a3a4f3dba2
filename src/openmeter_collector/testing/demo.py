"""The collector at work: a seeder sends to it, it keeps events on disk, a sandbox takes them.

The collector is a child process, because it is what is being shown: the very command that a user
runs, judged by its own `/metrics`, stopped by a real signal, with its log in a file. Sandbox and
seeder are tasks in this process: their counts are read directly, an outage is a method call, and
when this process ends, however it ends, nothing of them is left.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from openmeter_collector.testing.process import (
    CollectorFailed,
    CollectorProcess,
    collector_process,
    read_metrics,
)
from openmeter_collector.testing.sandbox import Running, Sandbox
from openmeter_collector.testing.seeder import Ledger, Seed, Seeder

_TOKEN: Final = "demo-token"  # noqa: S105 - of a sandbox that lives for a minute
_PERIOD: Final = 0.25
_WINDOW: Final = 2.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to show.

    Attributes:
        folder: where the buffer and the collector's log are; kept afterwards.
        rate, batch, subjects: see `Seed`.
        duration: seconds; 0 goes on until stopped.
        outage: begin and length of an outage of the sandbox, in seconds; None has none.
        ingest, service, sandbox: addresses; a port that is taken is replaced by a free one.
    """

    folder: Path
    rate: float = 50.0
    batch: int = 1
    subjects: int = 6
    duration: float = 0.0
    outage: tuple[float, float] | None = None
    ingest: str = "127.0.0.1:8080"
    service: str = "127.0.0.1:4195"
    sandbox: str = "127.0.0.1:8888"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is."""

    ingest: str
    service: str
    sandbox: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How things stand at one moment; rates are per second over the last two."""

    seconds: float
    sandbox_up: bool
    sent: int
    received: int
    buffered_events: int
    buffered_bytes: int
    oldest_seconds: float
    delivered: int
    dead_letters: int
    duplicates: int
    rates: Mapping[str, float]
    sent_by_type: Mapping[str, int]
    delivered_by_type: Mapping[str, int]
    sent_by_subject: Mapping[str, int]
    delivered_by_subject: Mapping[str, int]
    news: str
    """The collector's last warning, or its first words."""


@dataclass(slots=True)
class Outcome:
    """How it ended.

    Attributes:
        left: events still in the buffer.
        found: events that an earlier run had left there.
        exit_code: of the collector.
    """

    ledger: Ledger
    delivered: set[str]
    duplicates: int
    left: int
    found: int
    dead_letters: int
    exit_code: int

    @property
    def missing(self) -> int:
        """Acknowledged events that are neither delivered nor accounted for as kept."""
        gone = len(self.ledger.accepted - self.delivered)
        return max(0, gone - self.left - self.dead_letters)


async def run_demo(
    options: DemoOptions,
    stop: asyncio.Event,
    hurry: asyncio.Event,
    show: Callable[[Addresses, Snapshot], None],
) -> Outcome:
    """Run until `stop`, the end of `duration`, or the end of the collector.

    Args:
        stop: end in order: the collector may take its time to deliver what it holds.
        hurry: end the collector at once, as a second signal does.
        show: called a few times a second.

    Raises:
        CollectorFailed: it ended by itself.
        OSError: an address cannot be bound.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    sandbox = Sandbox(tokens=[_TOKEN])
    async with (
        sandbox.serve(_free(options.sandbox)) as running,
        _collector(options, running) as child,
    ):
        addresses = Addresses(child.ingest, child.service, running.url)
        demo = _Demo(options, addresses, running, child)
        return await demo.run(stop, hurry, show)


def _collector(
    options: DemoOptions, running: Running
) -> AbstractAsyncContextManager[CollectorProcess]:
    return collector_process(
        "run",
        "--preset",
        "http-server",
        log_file=options.folder / "collector.log",
        environment={
            "OPENMETER_URL": running.url,
            "OPENMETER_TOKEN": _TOKEN,
            "BUFFER_PATH": str(options.folder / "buffer.db"),
            "HTTP_ADDRESS": _free(options.ingest),
            "METRICS_ADDRESS": _free(options.service),
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "INFO",
        },
    )


class _Demo:
    def __init__(
        self, options: DemoOptions, addresses: Addresses, running: Running, child: CollectorProcess
    ) -> None:
        self._options = options
        self._addresses = addresses
        self._running = running
        self._child = child
        self._seeder = Seeder(
            Seed(
                url=addresses.ingest,
                rate=options.rate,
                batch=options.batch,
                subjects=options.subjects,
            )
        )
        self._began = time.monotonic()
        self._history: deque[tuple[float, dict[str, int]]] = deque()
        self._metrics: Mapping[str, float] = {}
        self._found = 0

    async def run(
        self,
        stop: asyncio.Event,
        hurry: asyncio.Event,
        show: Callable[[Addresses, Snapshot], None],
    ) -> Outcome:
        options = self._options
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            await self._scrape(session)
            self._found = int(self._metrics.get("journal_events", 0))
            seeding = asyncio.create_task(self._seeder.run())
            outage = asyncio.create_task(self._play_outage())
            try:
                while not stop.is_set():
                    if self._child.ended:
                        await self._child.wait()
                        raise CollectorFailed(self._child.last_words())
                    await self._scrape(session)
                    show(self._addresses, self._snapshot())
                    if options.duration and self._seconds >= options.duration:
                        break
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), _PERIOD)
            finally:
                self._seeder.stop()
                await seeding
            try:
                return await self._finish(session, hurry, show)
            finally:
                outage.cancel()

    async def _finish(
        self,
        session: aiohttp.ClientSession,
        hurry: asyncio.Event,
        show: Callable[[Addresses, Snapshot], None],
    ) -> Outcome:
        """Let the collector drain, and take stock."""
        ending = asyncio.create_task(self._child.stop())
        hurried = False
        while not ending.done():
            await self._scrape(session)
            show(self._addresses, self._snapshot())
            await asyncio.wait({ending}, timeout=_PERIOD)
            # Not earlier: two signals at the same moment arrive as one.
            if hurry.is_set() and not hurried:
                hurried = True
                self._child.terminate()
        store = self._running.sandbox.store
        return Outcome(
            ledger=self._seeder.ledger,
            delivered={event.id for event in store.events},
            duplicates=store.duplicates,
            left=self._left(),
            found=self._found,
            dead_letters=int(self._metrics.get("journal_dead_letters", 0)),
            exit_code=ending.result(),
        )

    def _left(self) -> int:
        for entry in reversed(self._child.log):
            if str(entry.get("msg", "")).startswith("stopped") and "delivered" in entry:
                return int(entry.get("events", 0))
        return int(self._metrics.get("journal_events", 0))

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    async def _play_outage(self) -> None:
        if self._options.outage is None:
            return
        after, length = self._options.outage
        await asyncio.sleep(after)
        async with self._running.outage():
            await asyncio.sleep(length)

    async def _scrape(self, session: aiohttp.ClientSession) -> None:
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with session.get(f"{self._addresses.service}/metrics") as answer:
                self._metrics = read_metrics(await answer.text())

    def _snapshot(self) -> Snapshot:
        store, ledger, metrics = self._running.sandbox.store, self._seeder.ledger, self._metrics
        counts = {
            "sent": len(ledger.issued),
            "received": int(metrics.get("cloudevents_accepted", 0)),
            "delivered": store.accepted,
        }
        now = self._seconds
        self._history.append((now, counts))
        while len(self._history) > 2 and self._history[1][0] <= now - _WINDOW:
            self._history.popleft()
        earlier, then = self._history[0]
        rates = {
            name: (count - then[name]) / (now - earlier) if now > earlier else 0.0
            for name, count in counts.items()
        }
        return Snapshot(
            seconds=now,
            sandbox_up=self._running.is_up,
            sent=counts["sent"],
            received=counts["received"],
            buffered_events=int(metrics.get("journal_events", 0)),
            buffered_bytes=int(metrics.get("journal_bytes", 0)),
            oldest_seconds=metrics.get("journal_oldest_age_seconds", 0.0),
            delivered=counts["delivered"],
            dead_letters=int(metrics.get("journal_dead_letters", 0)),
            duplicates=store.duplicates,
            rates=rates,
            sent_by_type=ledger.by_type,
            delivered_by_type=store.by_type,
            sent_by_subject=ledger.by_subject,
            delivered_by_subject=store.by_subject,
            news=self._child.news,
        )


def _free(address: str) -> str:
    """The address, with port 0 in place of a port that is taken."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return f"{host}:0"
    return address

"""The conservation oracle: a real collector on a real disk, broken on purpose, and nothing may be lost.

    senders ──> collector (killed, its disk refusing to grow, paused) ──> OpenMeter (down, failing, refusing)
        │                         journal                                     │
        └───── what was acknowledged ⊆ delivered or dead ⊆ what was sent, byte for byte ────┘

A round starts the collector on the journal that the last one left, sends to it, lets things go wrong,
and ends it, mostly with SIGKILL. At the end everything is repaired, what is left is delivered, and the
oracle compares. The disk is made to fail by the kernel's own limit on the size of files, set on the
running process and lifted again: writes then fail as on a full disk, wherever the journal is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.errors import CollectorError
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.ledger import total
from openmeter_collector.storage.tools import verify
from openmeter_collector.storage.visit import reading
from openmeter_collector.testing.process import CollectorFailed, CollectorProcess, collector_process
from openmeter_collector.testing.sandbox import Running, Sandbox
from openmeter_collector.testing.sandbox import faults as sandbox_faults

_CONFIG: Final = """
logger: {{level: WARN, format: json}}
http: {{address: "127.0.0.1:0"}}
shutdown_timeout: 5s
input:
  cloudevents:
    address: 127.0.0.1:0
buffer:
  sqlite:
    path: {path}
    min_free_bytes: 1MiB
output:
  openmeter:
    url: {url}
    timeout: 2s
    batching: {{count: 50, period: 5ms}}
"""
_POISON: Final = "poison"
_SENDERS: Final = 3
_LAST_WAIT: Final = 120.0
_FAULTS: Final[tuple[Callable[[], sandbox_faults.AnyFault], ...]] = (
    lambda: sandbox_faults.Status(status=503, probability=0.5),
    lambda: sandbox_faults.Status(status=429, retry_after=0.2, probability=0.5),
    lambda: sandbox_faults.Status(status=401, times=1),
    lambda: sandbox_faults.Reset(probability=0.3),
    lambda: sandbox_faults.Hang(seconds=0.5, probability=0.2),
    lambda: sandbox_faults.Partial(keep=3, probability=0.4),
    lambda: sandbox_faults.Slow(seconds=0.1, probability=0.5),
    lambda: sandbox_faults.Late(seconds=3.0, times=2),
    lambda: sandbox_faults.WrongLength(probability=0.3),
    lambda: sandbox_faults.Junk(times=1),
    lambda: sandbox_faults.Down(seconds=0.3),
)


@dataclass(slots=True)
class Evidence:
    """What happened, and what the oracle found wrong; empty when every promise was kept."""

    seed: int
    seconds: float = 0.0
    rounds: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    disk_faults: int = 0
    pauses: int = 0
    destination_faults: Counter[str] = field(default_factory=Counter)
    issued: int = 0
    acknowledged: int = 0
    put_off: int = 0
    delivered: int = 0
    repeated: int = 0
    dead: int = 0
    books: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """In words."""
        faults = ", ".join(f"{name} {n}" for name, n in sorted(self.destination_faults.items()))
        ends = ", ".join(f"{name} {n}" for name, n in sorted(self.ended.items()))
        books = ", ".join(f"{name} {n}" for name, n in self.books.items() if n)
        balanced = not any("books" in one for one in self.wrong)
        told = {
            "rounds": f"{self.rounds} in {self.seconds:.0f} s, seed {self.seed}; ended by {ends}",
            "disk": f"refused to grow {self.disk_faults} times; process paused {self.pauses} times",
            "destination": faults or "nothing went wrong there",
            "sent": f"{self.issued} events, {self.acknowledged} acknowledged, "
            f"{self.put_off} requests put off",
            "arrived": f"{self.delivered}, {self.repeated} of them more than once; "
            f"{self.dead} dead letters",
            "books": f"{books}{'; they balance' if balanced else ''}",
        }
        if self.wrong:
            ending = [f"{'WRONG':<13} {text}" for text in self.wrong]
            ending.append(f"{'FAILED':<13} {len(self.wrong)} promises were broken")
        else:
            kept = "every acknowledged event arrived as it was sent, or is a dead letter"
            ending = [f"{'losses':<13} 0: {kept}"]
        return [f"{name:<13} {text}" for name, text in told.items()] + ending


class Chaos:
    """One run. Makes its files in a folder, and leaves them there."""

    def __init__(self, folder: Path, seed: int, *, faults: bool = True) -> None:
        """`faults`: without, the same is done and nothing is broken."""
        self.evidence = Evidence(seed)
        self._folder = folder
        self._path = folder / "buffer.db"
        self._chance = random.Random(seed)
        self._faults = faults
        self._issued: dict[str, bytes] = {}
        self._acknowledged: set[str] = set()
        self._number = 0

    async def run(self, until: Callable[[Evidence], bool], said: Callable[[str], None]) -> Evidence:
        """Play rounds until told to stop, then repair everything and judge.

        Args:
            said: told a line after each round.
        """
        evidence = self.evidence
        began = time.monotonic()
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            raise CollectorError(f"{self._path}: is there already; give a folder of its own")
        async with Sandbox().serve() as sandbox:
            config = self._folder / "config.yaml"
            config.write_text(_CONFIG.format(path=json.dumps(str(self._path)), url=sandbox.url))
            while not until(evidence):
                await self._round(sandbox, config)
                evidence.seconds = time.monotonic() - began
                said(
                    f"round {evidence.rounds}: {len(self._acknowledged)} acknowledged, "
                    f"{len(sandbox.events)} arrived"
                )
            await self._finish(sandbox, config)
            self._judge(sandbox)
        evidence.seconds = time.monotonic() - began
        return evidence

    # ---- a round -----------------------------------------------------------------------------

    async def _round(self, sandbox: Running, config: Path) -> None:
        evidence, chance = self.evidence, self._chance
        evidence.rounds += 1
        await self._trouble(sandbox)
        try:
            async with self._collector(config) as child:
                sending = [asyncio.create_task(self._send(child.ingest)) for _ in range(_SENDERS)]
                breaking = asyncio.create_task(self._break(child))
                await asyncio.sleep(chance.choice((0.2, 0.6, 1.5)) * (0.5 + chance.random()))
                breaking.cancel()
                await asyncio.gather(breaking, return_exceptions=True)
                how = "SIGTERM" if chance.random() < 0.2 or not self._faults else "SIGKILL"
                if how == "SIGKILL":
                    child.kill()
                for task in sending:
                    task.cancel()
                await asyncio.gather(*sending, return_exceptions=True)
                code = await (child.wait() if how == "SIGKILL" else child.stop())
                evidence.ended[how] += 1
                if code not in (0, -signal.SIGKILL):
                    evidence.wrong.append(f"ended with {code}: {child.last_words()[-300:]}")
        except CollectorFailed as error:
            evidence.wrong.append(f"did not start: {str(error)[-300:]}")

    @contextlib.asynccontextmanager
    async def _collector(self, config: Path) -> AsyncIterator[CollectorProcess]:
        arguments = ("run", "-c", str(config), "--log.level", "INFO")
        log = self._folder / "collector.log"
        async with collector_process(*arguments, log_file=log) as child:
            yield child

    async def _trouble(self, sandbox: Running) -> None:
        """What goes wrong at the destination in this round. Poison is refused in all of them."""
        poison = sandbox_faults.Refuse(type=_POISON)
        await sandbox.up()
        if not self._faults or self._chance.random() < 0.3:
            sandbox.set_faults(poison)
            return
        chosen = [make() for make in self._chance.sample(_FAULTS, self._chance.choice((1, 1, 2)))]
        for fault in chosen:
            self.evidence.destination_faults[str(fault.__struct_config__.tag)] += 1
        down = [one for one in chosen if isinstance(one, sandbox_faults.Down)]
        sandbox.set_faults(poison, *(one for one in chosen if one not in down))
        for one in down:
            sandbox.down_for(one.seconds)

    async def _break(self, child: CollectorProcess) -> None:
        """What goes wrong with the process while it runs."""
        chance = self._chance
        while self._faults:
            await asyncio.sleep(chance.random() * 0.6)
            if chance.random() < 0.5:
                await self._refuse_to_grow(child)
            elif chance.random() < 0.3:
                self.evidence.pauses += 1
                child.process.send_signal(signal.SIGSTOP)
                try:
                    await asyncio.sleep(chance.random() * 0.2)
                finally:
                    child.process.send_signal(signal.SIGCONT)

    async def _refuse_to_grow(self, child: CollectorProcess) -> None:
        pid = child.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        self.evidence.disk_faults += 1
        log = self._path.with_name(self._path.name + "-wal")
        size = log.stat().st_size if log.exists() else 0
        # Somewhere in the log that is being written, so that a write is torn now and then.
        limit = self._chance.randrange(max(1, size)) + self._chance.choice((0, 1, 4096))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, hard))
        try:
            await asyncio.sleep(self._chance.random() * 0.4)
        finally:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    async def _send(self, url: str) -> None:
        """Send until cancelled or the collector is gone."""
        async with open_http_client(max_connections=1) as client:
            while True:
                batch = self._mint()
                body = b"[" + b",".join(batch.values()) + b"]"
                try:
                    answer = await client.request(
                        "POST",
                        f"{url}/api/v1/events",
                        headers={"Content-Type": "application/cloudevents-batch+json"},
                        body=body,
                        timeout=10.0,
                    )
                except CollectorError:
                    return
                if 200 <= answer.status < 300:
                    self._acknowledged |= batch.keys()
                elif answer.status == 503:
                    self.evidence.put_off += 1
                    await asyncio.sleep(0.05)
                else:
                    self.evidence.wrong.append(f"a sender was answered {answer.status}")
                    return

    def _mint(self) -> dict[str, bytes]:
        chance = self._chance
        batch = {}
        for _ in range(chance.choice((1, 1, 5, 40))):
            self._number += 1
            name = f"{self.evidence.seed}-{self._number}"
            event = {
                "specversion": "1.0",
                "id": name,
                "source": f"oracle-{self._number % 3}",
                "type": _POISON if chance.random() < 0.005 else "round",
                "subject": "é",
                "time": "2026-01-01T00:00:00Z",
                "data": {"n": name, "pad": "x" * chance.randrange(300)},
            }
            # Spaces and escapes vary, so that an encoder on the way would show.
            separators = chance.choice(((",", ":"), (", ", ": ")))
            text = json.dumps(event, separators=separators, ensure_ascii=chance.random() < 0.5)
            batch[name] = text.encode()
        self._issued |= batch
        return batch

    # ---- the end -------------------------------------------------------------------------------

    async def _finish(self, sandbox: Running, config: Path) -> None:
        """Nothing goes wrong any more: fresh events are taken, and what is left is delivered."""
        await sandbox.up()
        sandbox.set_faults(sandbox_faults.Refuse(type=_POISON))
        async with self._collector(config) as child:
            before = len(self._acknowledged)
            sending = asyncio.create_task(self._send(child.ingest))
            await _until(lambda: len(self._acknowledged) > before)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            if len(self._acknowledged) == before:
                self.evidence.wrong.append("in the end, with nothing wrong, it takes no events")
            await _until(lambda: not self._waiting())
            code = await child.stop()
            if code:
                self.evidence.wrong.append(f"did not stop in order: {child.last_words()[-300:]}")

    def _waiting(self) -> int:
        with reading(self._path) as connection:
            return total(audited(connection)).waiting

    def _judge(self, sandbox: Running) -> None:
        evidence = self.evidence
        arrived = {event.id: event for event in sandbox.events}
        with reading(self._path) as connection:
            dead = {
                str(event_id): bytes(content)
                for event_id, content in connection.execute(
                    "SELECT event_id, content FROM dead_letters"
                )
            }
            books = total(audited(connection))
            evidence.wrong += [f"the journal: {text}" for text in verify(connection)]
        evidence.issued, evidence.acknowledged = len(self._issued), len(self._acknowledged)
        evidence.delivered, evidence.dead = len(arrived), len(dead)
        evidence.repeated = sum(event.deliveries > 1 for event in arrived.values())
        evidence.books = books.counts
        lost = self._acknowledged - arrived.keys() - dead.keys()
        if lost:
            evidence.wrong.append(
                f"{len(lost)} acknowledged events are nowhere: {sorted(lost)[:3]}"
            )
        invented = (arrived.keys() | dead.keys()) - self._issued.keys()
        if invented:
            evidence.wrong.append(f"{len(invented)} events arrived that nobody sent")
        altered = [
            name
            for name, event in arrived.items()
            if event.conflicts or event.raw != self._issued.get(name)
        ] + [name for name, content in dead.items() if content != self._issued.get(name)]
        if altered:
            evidence.wrong.append(f"{len(altered)} events are not as they were sent: {altered[:3]}")
        healthy = [
            name for name in dead if f'{_POISON}"'.encode() not in self._issued.get(name, b"")
        ]
        if healthy:
            evidence.wrong.append(f"{len(healthy)} good events are dead: {healthy[:3]}")
        if books.balance or books.waiting:
            evidence.wrong.append(
                f"the books: off by {books.balance}, {books.waiting} still waiting"
            )


async def _until(done: Callable[[], bool]) -> None:
    """Wait until it is so, or too long; whoever asks looks which."""
    end = time.monotonic() + _LAST_WAIT
    while not done() and time.monotonic() < end:  # noqa: ASYNC110 - another process does it
        await asyncio.sleep(0.1)

"""Rounds of kill -9 on the real process, with an oracle.

A round starts `openmeter-collector run`, sends to it from several connections, and kills it at a
random moment between its first breath and a second later. All rounds of a series share one journal,
so each start has the leftovers of the one before. At the end a last process delivers what is left,
and the oracle compares: acknowledged ⊆ delivered ⊆ issued, payloads equal byte for byte.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from sink import Senders, Sink, free_port, listening, verdict, wait_for

from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.ledger import total
from openmeter_collector.storage.visit import reading

CONFIG = """
logger: {{level: warn}}
http: {{enabled: false}}
shutdown_timeout: 10s
input:
  cloudevents:
    address: 127.0.0.1:{port}
buffer:
  sqlite:
    path: {folder}/buffer.db
    min_free_bytes: 1MiB
    durability: {durability}
output:
  openmeter:
    url: {url}
    batching: {{count: 20, period: {period}}}
"""


@dataclass
class Series:
    """A number of rounds on one journal, and what they came to."""

    folder: Path
    seed: int
    durability: str = "durable"
    rounds: int = 0
    before_ready: int = 0
    delivered_in_lives: int = 0
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.chance = random.Random(self.seed)
        self.sink = Sink()
        self._numbers = itertools.count()
        self.senders = Senders(self._mint)
        self._last = None

    def _mint(self):
        events = {}
        for _ in range(self.chance.choice((1, 1, 1, 5, 40))):
            one = f"{self.seed}-{next(self._numbers)}"
            data = {"n": one, "pad": "é" * self.chance.randrange(0, 300)}
            event = {
                "specversion": "1.0",
                "id": one,
                "source": "oracle",
                "type": "round",
                "subject": "s",
                "time": "2026-01-01T00:00:00Z",
                "data": data,
            }
            # Spaces and escapes vary, so that an encoder on the way would show.
            spaced = self.chance.random() < 0.5
            text = json.dumps(
                event,
                separators=(", ", ": ") if spaced else (",", ":"),
                ensure_ascii=self.chance.random() < 0.5,
            )
            events[one] = text.encode()
        return events

    def start(self):
        """Start the process; returns it and its port."""
        port = free_port()
        config = self.folder / "config.yaml"
        period = self.chance.choice(("0s", "5ms", "50ms"))
        config.write_text(
            CONFIG.format(
                port=port,
                folder=self.folder,
                url=self.sink.url,
                durability=self.durability,
                period=period,
            )
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "openmeter_collector.cli.main", "run", "-c", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        )
        return process, port

    def round(self):
        """One life, ended by force."""
        self.rounds += 1
        # The destination fails in some lives, so that a backlog is carried from one to the next.
        self.sink.status = self.chance.choice((204, 204, 503))
        process, port = self.start()
        ended = threading.Event()
        early = self.chance.random() < 0.1
        try:
            if early:
                time.sleep(self.chance.random() * 0.4)
                self.before_ready += 1
                workers = []
            else:
                wait_for(
                    lambda: listening(port) or process.poll() is not None, what="a listening port"
                )
                workers = self.senders.run(port, ended)
                # Half of the lives are too short to deliver, the other half are killed while
                # they do: that is where an event may be delivered and not yet forgotten.
                time.sleep(self.chance.random() * self.chance.choice((0.1, 0.9)))
            self.delivered_in_lives = len(self.sink.got)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            ended.set()
            output, _ = process.communicate()
        if process.returncode != -signal.SIGKILL:
            self.wrong.append(f"ended by itself: {output.decode()[-500:]}")
        for worker in workers:
            worker.join()

    def finish(self):
        """Let the last life deliver what is left; returns what the oracle finds wrong."""
        self.sink.status = 204
        process, port = self.start()
        wait_for(lambda: listening(port) or process.poll() is not None, what="a listening port")
        wait_for(
            lambda: self.senders.acked <= set(self.sink.got) or process.poll() is not None,
            60,
            "delivery of what was acknowledged",
        ) if not self._gave_up() else None
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
        if process.returncode != 0:
            self.wrong.append(f"did not stop in order: {output.decode()[-500:]}")
        self.sink.close()
        return self.wrong + verdict(self.senders, self.sink) + self.books()

    def books(self):
        """What is wrong with the journal's own account of all these lives."""
        with reading(self.folder / "buffer.db") as connection:
            lines = audited(connection)
        whole = total(lines).counts
        wrong = [f"the books do not balance: {line}" for line in lines if line.balance]
        if not len(self.senders.acked) <= whole["received"] <= len(self.senders.issued):
            wrong.append(f"{whole['received']} events are in the books as received")
        if whole["delivered"] != whole["received"]:
            wrong.append(f"not all of it is in the books as delivered: {whole}")
        return wrong

    def _gave_up(self):
        return bool(self.wrong)


def play(rounds, seed, durability="durable", folder=None):
    """Play a series; returns it and what is wrong."""
    with tempfile.TemporaryDirectory(prefix="rounds-", dir=folder) as name:
        series = Series(Path(name), seed, durability)
        for _ in range(rounds):
            series.round()
        return series, series.finish()

"""Starting processes, loading them, and reading what it cost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Running:
    """A child process."""

    process: subprocess.Popen[bytes]

    @property
    def cpu(self) -> float:
        """Seconds of processor time it has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def rss_mb(self) -> float:
        """Resident memory, in megabytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


def free_port() -> int:
    """A port nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(command: list[str], port: int, **env: str) -> Iterator[Running]:
    """A child that listens on `port`; ended, and waited for, with the block."""
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(port, process)
        yield Running(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until something accepts on `port`."""
    while True:
        if process.poll() is not None:
            error = process.stderr.read().decode() if process.stderr else ""
            raise SystemExit(f"a benchmark's process ended: {error}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.005)


def load(
    url: str, *, seconds: float, batch: int = 1, connections: int = 64, put_off: bool = False
) -> dict[str, Any]:
    """Send as fast as the server answers; the figures of `openmeter_collector.testing.load`."""
    done = subprocess.run(
        [
            sys.executable, "-m", "openmeter_collector.testing.load", url,
            "--seconds", str(seconds), "--warmup", "0.5",
            "--batch", str(batch), "--connections", str(connections),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    figures: dict[str, Any] = json.loads(done.stdout)
    # A sender that is faster than the disk is put off; only what was taken counts then.
    fine = ("2", "503") if put_off else ("2",)
    bad = {code: n for code, n in figures["statuses"].items() if not code.startswith(fine)}
    if bad:
        raise SystemExit(f"{url} answered {bad}")
    return figures


def metric(port: int, name: str) -> float:
    """The sum over all labels of a metric of a running collector."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith((name + "{", name + " "))
    )


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder on the project's own disk: a memory file system would make fsync free."""
    base = Path(".cache/bench")
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base) as made:
        yield Path(made).absolute()


COLLECTOR = ["-m", "openmeter_collector.cli.main", "run", "-c"]


def config(where: Path, ingest: int, admin: int, output: str, buffer: str = "") -> Path:
    """A config file for one benchmark."""
    path = where / "config.yaml"
    path.write_text(
        f"""
http: {{address: 127.0.0.1:{admin}}}
logger: {{level: WARN}}
input:
  cloudevents: {{address: 127.0.0.1:{ingest}}}
buffer:
  sqlite: {{path: {where}/buffer.db{buffer}}}
output:
  {output}
shutdown_timeout: 1s
"""
    )
    return path

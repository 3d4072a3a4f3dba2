"""Real Redis servers on the loopback interface, each with a folder of its own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from kit.needs import require
from openmeter_collector.testing.running import free_port


class Server:
    """A running server.

    Attributes:
        client: for looking at it from outside, and for setting it up.
    """

    def __init__(self, port: int, process: subprocess.Popen[bytes], **client) -> None:
        self.port = port
        self.process = process
        self.client = redis.Redis(port=port, **client)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server(*lines: str, port: int = 0, **client) -> Iterator[Server]:
    """Start one with these lines of configuration; FOLDER in them stands for its folder."""
    program = require("redis-server")
    port = port or free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "redis.conf"
        own = ["bind 127.0.0.1", f"dir {folder}", "save ''", f"logfile {folder}/log"]
        if not any(line.startswith(("port", "sentinel")) for line in lines):
            own.append(f"port {port}")
        text = "\n".join([*own, *lines]).replace("FOLDER", folder).replace("PORT", str(port))
        config.write_text(text.replace("save ''", 'save ""') + "\n")
        extra = ["--sentinel"] if any(line.startswith("sentinel") for line in lines) else []
        process = subprocess.Popen([program, str(config), *extra], stdout=subprocess.DEVNULL)
        server = Server(port, process, **client)
        try:
            _until_ready(server)
            yield server
        finally:
            server.client.close()
            server.stop()


def _until_ready(server: Server) -> None:
    while True:
        assert server.process.poll() is None, "the server ended by itself"
        try:
            server.client.ping()
        except redis.ConnectionError:
            continue
        return

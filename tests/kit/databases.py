"""Real database servers for tests, each in a folder of its own on a free port of the loopback."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from kit.needs import require


@dataclass
class Server:
    """A database that runs.

    Attributes:
        driver: the driver it is for.
        dsn: how a config reaches it.
        process: the server, None for a database in a file.
    """

    driver: str
    dsn: str
    process: subprocess.Popen | None = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def postgres(
    prepare: Callable[[Path], list[str]] | None = None, sslmode: str = "disable"
) -> Iterator[Server]:
    """A server; `prepare` may change its folder, and says settings (`name=value`)."""
    programs = require("PostgreSQL")
    with _folder("postgres") as (folder, as_user):
        data = folder / "data"
        subprocess.run(
            [*as_user, programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8",
             "--locale=C.UTF-8"],
            check=True, capture_output=True,
        )  # fmt: skip
        port = free_port()
        command = [
            *as_user, programs / "postgres", "-D", data, "-p", str(port), "-k", folder,
            "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "wal_level=logical",
            "-c", "max_connections=50", "-c", "TimeZone=Asia/Kathmandu",
        ]  # fmt: skip
        for setting in prepare(data) if prepare else ():
            command += ["-c", setting]
        with _running(command, folder, port) as process:
            # It listens before it is ready.
            dsn = f"postgres://postgres@127.0.0.1:{port}/postgres?sslmode={sslmode}"
            _until(lambda: _answers(dsn))
            yield Server("postgres", dsn, process)


@contextlib.contextmanager
def mysql() -> Iterator[Server]:
    program = require("MariaDB")
    with _folder("mysql") as (folder, as_user):
        subprocess.run(
            [*as_user, shutil.which("mariadb-install-db") or "mariadb-install-db", "--no-defaults",
             f"--datadir={folder}/data", "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True, capture_output=True,
        )  # fmt: skip
        port = free_port()
        command = [
            *as_user, program, "--no-defaults", f"--datadir={folder}/data", f"--port={port}",
            "--bind-address=127.0.0.1", f"--socket={folder}/socket", "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=0",
        ]  # fmt: skip
        with _running(command, folder, port) as process:
            for statement in (
                "CREATE DATABASE shop",
                "CREATE USER meter@'127.0.0.1' IDENTIFIED BY 'p@ss:/?'",
                "GRANT ALL ON *.* TO meter@'127.0.0.1'",
            ):
                subprocess.run(
                    ["mariadb", "--no-defaults", f"--socket={folder}/socket", "-u", "root", "-e", statement],
                    check=True, capture_output=True,
                )  # fmt: skip
            yield Server(
                "mysql", f"meter:p@ss:/?@tcp(127.0.0.1:{port})/shop?parseTime=true", process
            )


@contextlib.contextmanager
def clickhouse() -> Iterator[Server]:
    packages = require("ClickHouse")
    with tempfile.TemporaryDirectory(prefix="clickhouse-") as made:
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("chdb_server.py"), f"{made}/data"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(packages)},
        )
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline() or 0)
            assert port, "the ClickHouse of the tests did not start"
            yield Server("clickhouse", f"http://default@127.0.0.1:{port}/default", process)
        finally:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def sqlite() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as made:
        yield Server("sqlite", f"file:{made}/test.db?_pragma=journal_mode(WAL)")


@contextlib.contextmanager
def duckdb() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as made:
        yield Server("duckdb", f"{made}/test.duckdb")


SERVERS = {
    "postgres": postgres,
    "mysql": mysql,
    "clickhouse": clickhouse,
    "sqlite": sqlite,
    "duckdb": duckdb,
}


@contextlib.contextmanager
def _folder(owner: str) -> Iterator[tuple[Path, list[str]]]:
    """A folder, and how to start a program as a user that may be the server's: not root."""
    with tempfile.TemporaryDirectory(prefix=f"{owner}-") as made:
        folder = Path(made)
        if os.geteuid() != 0:
            yield folder, []
            return
        shutil.chown(folder, owner, owner)
        yield folder, ["setpriv", f"--reuid={owner}", f"--regid={owner}", "--clear-groups"]


@contextlib.contextmanager
def _running(command: list, folder: Path, port: int) -> Iterator[subprocess.Popen]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            _until_listening(process, port, folder / "log")
            yield process
        finally:
            process.send_signal(signal.SIGINT if "postgres" in str(command) else signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_listening(process: subprocess.Popen, port: int, log: Path) -> None:
    def listening() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    _until(listening)


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "a server did not become ready in a minute"
        time.sleep(0.02)


def _answers(dsn: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn, connect_timeout=5):
        return True
    return False

"""A real collector as a child process: the command that users run, with its log read as it goes.

It asks the kernel for SIGTERM when its parent dies, so that none is left over whatever happens to a
test or a demo, and it has a process group of its own, so that a Ctrl-C at the terminal reaches it
only through its parent.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import orjson

_COMMAND: Final = ("-m", "openmeter_collector.cli.main")
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_ADDRESSES: Final = {"service": "serving probes and metrics", "ingest": "taking events"}


class CollectorFailed(Exception):
    """The collector ended by itself; the text is the end of its log."""


@dataclass(slots=True)
class CollectorProcess:
    """A collector that runs.

    Attributes:
        log: the last lines it logged, as parsed JSON where they are JSON.
        news: its last warning or error, in short.
    """

    process: asyncio.subprocess.Process
    file: IO[bytes]
    log: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=1000))
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=15))
    news: str = ""
    _places: dict[str, str] = field(default_factory=dict)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _following: asyncio.Task[None] | None = None

    @property
    def ingest(self) -> str:
        """Base URL of the first input that serves HTTP."""
        return f"http://{self._places['ingest']}"

    @property
    def service(self) -> str:
        """Base URL of probes and metrics."""
        return f"http://{self._places['service']}"

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.returncode is not None

    def terminate(self) -> None:
        """Send SIGTERM, when it still runs."""
        if not self.ended:
            self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL, when it still runs."""
        if not self.ended:
            self.process.kill()

    async def wait(self) -> int:
        """Wait for the end of the process and of its log.

        Returns:
            The exit code; negative is the signal that killed it.
        """
        code = await self.process.wait()
        if self._following is not None:
            await self._following
        return code

    async def stop(self) -> int:
        """End it in order, as SIGTERM does, and wait."""
        self.terminate()
        return await self.wait()

    def last_words(self) -> str:
        """The end of the log."""
        return "\n".join(self.tail) or "it said nothing"

    async def _follow(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        while line := await stream.readline():
            self.file.write(line)
            self.file.flush()
            text = line.decode(errors="replace").rstrip()
            self.tail.append(text)
            with suppress(orjson.JSONDecodeError):
                self._note(orjson.loads(text))

    def _note(self, entry: object) -> None:
        if not isinstance(entry, dict):
            return
        self.log.append(entry)
        message = str(entry.get("msg", ""))
        for place, words in _ADDRESSES.items():
            if message == words and place not in self._places:
                self._places[place] = str(entry["address"]).replace("0.0.0.0:", "127.0.0.1:")
        if len(self._places) == len(_ADDRESSES):
            self._ready.set()
        if entry.get("level") in {"warn", "error"}:
            detail = f": {entry['error']}" if "error" in entry else ""
            at = str(entry.get("time", ""))[11:19]
            self.news = f"{at} {entry['level']}: {message}{detail}"

    async def _become_ready(self, timeout: float) -> None:
        self._following = asyncio.create_task(self._follow())
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait(
                {self._following, ready}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
        if not self._ready.is_set():
            self.kill()
            await self.wait()
            raise CollectorFailed(self.last_words())


@asynccontextmanager
async def collector_process(
    *arguments: str,
    log_file: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    python: Sequence[str] = (),
) -> AsyncIterator[CollectorProcess]:
    """Start `openmeter-collector ARGUMENTS` and wait until it serves; kill it at the end.

    The config must log as JSON, and have an input that serves HTTP.

    Args:
        environment: variables on top of this process's own.
        python: options for the interpreter, such as `-X dev`.

    Raises:
        CollectorFailed: it ended, or did not come to serve in time.
    """
    with log_file.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *python,
            *_COMMAND,
            *arguments,
            env={**os.environ, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        child = CollectorProcess(process, file)
        try:
            await child._become_ready(timeout)  # noqa: SLF001 - the one who makes it
            yield child
        finally:
            child.kill()
            await child.wait()


def read_metrics(text: str) -> dict[str, float]:
    """The samples of a Prometheus page, summed over their labels; quantiles left out."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match and "quantile=" not in (match[2] or ""):
            sums[match[1]] = sums.get(match[1], 0.0) + float(match[3])
    return sums


def _die_with_parent() -> None:
    with suppress(OSError, AttributeError):  # only Linux has it
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)

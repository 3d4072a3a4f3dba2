"""`run --workers N`: the process that starts the workers, passes signals on, and starts again what dies.

It moves no events. Journals belong to workers by number, and how many there ever were is written in a
file beside the first one (`buffer.db.workers`) before any is started. So a start with fewer workers,
or with none, knows which journals nobody would open, and starts a worker for each that only delivers.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from openmeter_collector.cli.roll import Roll
from openmeter_collector.cli.worker import CANNOT_START, SOMETHING_LEFT
from openmeter_collector.engine.retry import BackOff
from openmeter_collector.telemetry.logs import Log

_AGAIN: Final = BackOff(initial=0.5, longest=30.0)
_LIVED: Final = 30.0
"""Seconds after which a worker that dies is started again as if it were the first time."""


@dataclass(slots=True)
class Workers:
    """The children of one `run --workers`.

    Attributes:
        count: workers that take events.
        before: journals there were at the start; those from `count` on are only delivered.
    """

    count: int
    before: int
    log: Log
    roll: Roll | None
    _running: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    _told: signal.Signals | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _failed: bool = False
    _left: set[int] = field(default_factory=set)
    _life: int = -1

    async def run(self) -> int:
        """Until all have ended; gives the exit code.

        Raises:
            StorageError: what must be known at the next start cannot be written down.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._pass_on, number)
        highest = max(self.count, self.before)
        if self.roll is not None and highest > self.before:
            self.roll.write(highest)
        self.log.info("starting workers", workers=self.count, only_draining=highest - self.count)
        # Nobody writes into it. It ends when this process does, even if it is killed.
        self._life, ours = os.pipe()
        try:
            async with asyncio.TaskGroup() as tasks:
                for index in range(highest):
                    tasks.create_task(self._keep(index), name=f"worker-{index}")
        finally:
            os.close(ours)
            os.close(self._life)
        remaining = max([self.count, *(index + 1 for index in self._left)])
        if self.roll is not None and remaining < highest:
            self.roll.write(remaining)
        return 1 if self._failed else 0

    def _pass_on(self, number: signal.Signals) -> None:
        self.log.info("passing a signal on to the workers", signal=number.name)
        self._end(number)

    def _end(self, number: signal.Signals) -> None:
        self._told = number
        self._stop.set()
        for process in self._running.values():
            _send(process, number)

    async def _keep(self, index: int) -> None:
        """One worker, life after life, until it ends by itself or is told to."""
        loop = asyncio.get_running_loop()
        drains, attempt, lives = index >= self.count, 0, 0
        if drains:
            self._left.add(index)  # until it has said that nothing is
        while not self._stop.is_set():
            began = loop.time()
            code = await self._live(index)
            if drains and code in (0, SOMETHING_LEFT):
                if code == 0:
                    self._left.discard(index)
                    self.log.info("the journal of a worker that is no more is empty", worker=index)
                return
            if code == 0 or self._ended_as_told(code):
                return
            if self._stop.is_set():
                self.log.warning("a worker did not stop in order", worker=index, code=code)
                self._failed = True
                return
            lived = loop.time() - began > _LIVED
            if code == CANNOT_START and not (lives or lived or drains):
                self.log.error("a worker cannot be started, ending all", worker=index)
                self._failed = True
                self._end(signal.SIGTERM)
                return
            lives += 1
            attempt = 1 if lived else attempt + 1
            pause = _AGAIN.delay(attempt, random.random())
            self.log.error(
                "a worker died and is started again",
                worker=index,
                died_of=_cause(code),
                in_seconds=round(pause, 1),
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)

    def _ended_as_told(self, code: int) -> bool:
        """A signal that came before the worker could hear it ended it; nothing was taken yet."""
        return self._told is not None and code == -self._told

    async def _live(self, index: int) -> int:
        process = await asyncio.create_subprocess_exec(
            *_same_again(f"--worker={index}:{self._life}"),
            stdin=None if index == 0 else asyncio.subprocess.DEVNULL,
            pass_fds=[self._life],
            # A Ctrl-C at the terminal comes through here, once.
            start_new_session=True,
        )
        self._running[index] = process
        try:
            if self._told is not None:
                _send(process, self._told)
            return await process.wait()
        finally:
            del self._running[index]
            if process.returncode is None:
                process.kill()


def _same_again(option: str) -> list[str]:
    """This very command with one more option."""
    given = len(sys.argv) - 1
    before = sys.orig_argv[1 : len(sys.orig_argv) - given]
    return [sys.executable, *before, option, *sys.argv[1:]]


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"

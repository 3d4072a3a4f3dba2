"""Tries mappings in processes of their own, some at a time, each for a bounded time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any, Final

import orjson

from openmeter_collector.admin.attempt import Reach, wrong
from openmeter_collector.admin.trial_process import MOST_RESULT, MOST_SECONDS, too_large
from openmeter_collector.components.processors.child_process import (
    Child,
    ProgramFailed,
    read_to_end,
)

_PROGRAM: Final = "openmeter_collector.admin.trial_process"
_AT_A_TIME: Final = 2
_MOST_WAITING: Final = 8
_STARTS_WITHIN: Final = 20.0
_KEPT: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
"""Of our environment, for mappings that may not see it."""


class Busy(Exception):
    """Too many are being tried."""


class Trials:
    """Starts a process for each attempt."""

    def __init__(self, reach: Reach, patience: float = MOST_SECONDS) -> None:
        """`patience`: seconds that a mapping may take."""
        self._reach = reach
        self._patience = patience
        self._places = asyncio.Semaphore(_AT_A_TIME)
        self._waiting = 0

    async def attempt(self, asked: Any) -> dict[str, Any]:
        """Run a mapping; see `attempt.attempted`.

        Raises:
            Busy: too many wait already.
        """
        return await self._run({"do": "attempt", "asked": asked})

    async def case(self, asked: Any, wanted: dict[str, str]) -> dict[str, Any]:
        """Make a unit test of one: its `text`, or an `error`.

        Raises:
            Busy: too many wait already.
        """
        return await self._run({"do": "case", "asked": asked, "wanted": wanted})

    async def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._waiting >= _MOST_WAITING:
            raise Busy(f"{_MOST_WAITING} others are trying mappings; try again")
        self._waiting += 1
        try:
            async with self._places:
                return await self._in_a_process(request)
        finally:
            self._waiting -= 1

    async def _in_a_process(self, request: dict[str, Any]) -> dict[str, Any]:
        reach = self._reach
        request |= {"outside": reach.outside, "plugins": reach.plugins}
        env = None if reach.outside else {k: os.environ[k] for k in _KEPT if k in os.environ}
        try:
            child = await Child.start([sys.executable, "-P", "-m", _PROGRAM], env=env, quiet=True)
        except ProgramFailed as error:
            return wrong("server", str(error))
        try:
            return await self._answer(child, orjson.dumps(request))
        finally:
            await child.end()

    async def _answer(self, child: Child, request: bytes) -> dict[str, Any]:
        child.send(request)
        child.stdin.close()
        try:
            async with asyncio.timeout(_STARTS_WITHIN):
                began = await child.stdout.readline()
        except TimeoutError:
            return wrong("server", f"no process could be started within {_STARTS_WITHIN:g} s")
        try:
            async with asyncio.timeout(self._patience):
                said = await read_to_end(child.stdout, MOST_RESULT)
        except TimeoutError:
            return self._too_long()
        except ProgramFailed as error:
            return wrong("run", f"the outcome is too large: {error}")
        if not began:
            return wrong("server", "the process ended as it began")
        if not said:  # ended by the kernel, or by a library that had no memory left
            return self._too_long() if await child.wait() == -signal.SIGXCPU else too_large()
        made: dict[str, Any] = orjson.loads(said)
        return made

    def _too_long(self) -> dict[str, Any]:
        return wrong("run", f"no result within {self._patience:g} s; the mapping was stopped")

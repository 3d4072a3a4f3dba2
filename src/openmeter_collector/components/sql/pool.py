"""Connections that are kept for the next use, within the bounds of a config."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections there may be, and for how long.

    Attributes:
        most_open: more wait for their turn; 0 is no limit.
        most_idle: more than this are closed when they are given back.
        idle_time: seconds that one may wait to be used again; 0 is no limit.
        life_time: seconds after which one is not used again; 0 is no limit.
    """

    most_open: int = 0
    most_idle: int = 2
    idle_time: float = 0.0
    life_time: float = 0.0


@dataclass(slots=True)
class _Held(Generic[C]):
    connection: C
    opened: float
    returned: float = 0.0


class Pool(Generic[C]):
    """Connections of one database."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[C]],
        close: Callable[[C], Awaitable[None]],
        bounds: Bounds,
        monotonic: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._close = close
        self._bounds = bounds
        self._monotonic = monotonic
        self._idle: list[_Held[C]] = []
        self._turns = asyncio.Semaphore(bounds.most_open) if bounds.most_open else None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[C]:
        """Lend one. What goes wrong inside closes it: nobody knows what state it is in."""
        if self._turns is not None:
            await self._turns.acquire()
        try:
            held = await self._take()
            try:
                yield held.connection
            except BaseException:
                await self._drop(held)
                raise
            await self._give_back(held)
        finally:
            if self._turns is not None:
                self._turns.release()

    async def close(self) -> None:
        """Close what waits to be used again."""
        while self._idle:
            await self._drop(self._idle.pop())

    async def _take(self) -> _Held[C]:
        while self._idle:
            held = self._idle.pop()
            if self._fresh(held):
                return held
            await self._drop(held)
        return _Held(await self._connect(), self._monotonic())

    def _fresh(self, held: _Held[C]) -> bool:
        now, bounds = self._monotonic(), self._bounds
        if bounds.life_time and now - held.opened >= bounds.life_time:
            return False
        return not (bounds.idle_time and now - held.returned >= bounds.idle_time)

    async def _give_back(self, held: _Held[C]) -> None:
        held.returned = self._monotonic()
        if len(self._idle) < self._bounds.most_idle and self._fresh(held):
            self._idle.append(held)
        else:
            await self._drop(held)

    async def _drop(self, held: _Held[C]) -> None:
        # It is thrown away because it is of no use any more; how it ends is of no interest.
        with suppress(Exception):
            await self._close(held.connection)

"""Deliveries with a position, one under way at a time."""

from __future__ import annotations

import asyncio

from openmeter_collector.api import Batch, Delivery, Env


class Marked:
    """Makes deliveries whose position becomes true together with their rows."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._safe = asyncio.Event()
        self._safe.set()

    async def delivery(self, batch: Batch, name: str, position: bytes) -> Delivery:
        """The next one; waits until the one before it is safe."""
        await self._safe.wait()
        self._safe.clear()

        def settle(failure: Exception | None) -> None:
            del failure  # repeated by the engine until it is None, or not to be repeated at all
            self._safe.set()

        return Delivery(batch, settle, (self._env.state.checkpoint(name, position),))

    async def all_safe(self) -> None:
        """Wait until the last one is safe."""
        await self._safe.wait()

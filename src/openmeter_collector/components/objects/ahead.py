"""How far the reading of an object may be ahead of what of it is safe."""

from __future__ import annotations

import asyncio
from typing import Final

_MOST: Final = 16
"""Deliveries of one object that are not settled yet: what a crash may repeat of it."""
_PATIENCE: Final = 1.0
"""Seconds to wait for one of them to be settled; whoever settles may wait for more to come."""


class Ahead:
    """Bounds what is not settled of an object, so that a crash repeats little of it."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(_MOST)
        self._bounded = True

    async def wait(self) -> None:
        """Until there is room. Without a buffer on disk a batch may have to fill before anything is
        settled; the bound then ends.
        """
        if not self._bounded:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._room.acquire()
        except TimeoutError:
            self._bounded = False

    def settled(self) -> None:
        """One of them is."""
        self._room.release()

"""Calls of libraries that wait, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(
    interrupt: Callable[[], Any], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a call in a thread. When it is cancelled, it is interrupted and waited for: the connection
    it works with must not be closed under it.
    """
    task = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        interrupt()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # looked at, so that nobody reports it as forgotten
        raise

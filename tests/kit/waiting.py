"""Waiting for what tells nobody when it happens."""

import asyncio
import inspect
import time


async def eventually(holds, timeout=30.0):
    """Ask again and again, until the answer is true.

    Raises:
        TimeoutError: it did not come to be true in time.
    """
    async with asyncio.timeout(timeout):
        while True:
            answer = holds()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer
            await asyncio.sleep(0.02)


def until_true(holds, timeout=30.0):
    """The same, where there is no event loop."""
    end = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)

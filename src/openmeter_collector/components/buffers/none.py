"""No buffer: an acknowledgement means that the output delivered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from openmeter_collector.api import (
    Buffer,
    BufferStatus,
    Delivery,
    Dropped,
    EndOfInput,
    Env,
    Overloaded,
    as_failure,
    buffer,
    by_index,
)

_MOST_WAITING = 4096


@buffer("none", since="0.1.0", categories=("Utility",))
class NoBuffer:
    """Passes messages straight on. A sender is told "done" when the output has delivered.

    While the output is slow or away, senders wait or are put off; nothing is stored here.
    """

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Buffer]:  # noqa: ARG002 - the contract's
        """A short queue between input and output."""
        yield _Queue()


class _Queue:
    def __init__(self) -> None:
        self._waiting: deque[Delivery] = deque()
        self._messages = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._draining = False

    def write(self, delivery: Delivery) -> None:
        if not delivery.batch:
            delivery.settle(None)
            return
        if self._messages and self._messages + len(delivery.batch) > _MOST_WAITING:
            # Whoever was refused waits for something to change, and does not go round meanwhile.
            self._room.clear()
            raise Overloaded("the output is slower than what comes in, and there is no buffer", 1.0)
        self._waiting.append(Delivery(delivery.batch, partial(_settle, delivery)))
        self._messages += len(delivery.batch)
        self._changed.set()

    async def wait_for_room(self) -> None:
        while self._messages >= _MOST_WAITING or not self._room.is_set():
            self._room.clear()
            await self._room.wait()

    async def read(self) -> Delivery:
        while not self._waiting:
            if self._draining:
                raise EndOfInput("drained")
            self._changed.clear()
            await self._changed.wait()
        delivery = self._waiting.popleft()
        self._messages -= len(delivery.batch)
        self._room.set()
        return delivery

    def drain(self) -> None:
        self._draining = True
        self._changed.set()

    def status(self) -> BufferStatus:
        return BufferStatus(
            events=self._messages,
            size_bytes=0,
            frames=len(self._waiting),
            oldest_age=0.0,
            dead_letters=0,
            free_bytes=None,
            failure=None,
            durable=False,
        )


def _settle(delivery: Delivery, failure: Exception | None) -> None:
    """To a sender that is told the outcome, what a rule dropped is done, as it is behind a buffer."""
    if failure is not None:
        verdicts = by_index(failure, len(delivery.batch))
        kept = {at: one for at, one in verdicts.items() if not isinstance(one, Dropped)}
        failure = as_failure(kept, len(delivery.batch))
    delivery.settle(failure)

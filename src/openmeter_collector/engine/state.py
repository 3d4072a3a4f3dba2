"""Positions of a pipeline's sources: where they are kept, and when they become true."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from openmeter_collector.component.buffer import Buffer
from openmeter_collector.component.state import StateStore
from openmeter_collector.engine.retry import BackOff
from openmeter_collector.errors import Final, Retryable
from openmeter_collector.message import Checkpoint, Delivery
from openmeter_collector.telemetry.logs import Log

_SAVE_AGAIN = BackOff(initial=0.1, longest=10.0)


@runtime_checkable
class KeepsCheckpoints(Protocol):
    """A buffer that makes checkpoints true in the same transaction as their events."""

    def checkpoint(self, key: str) -> bytes | None:
        """The value last committed for `key`."""


class MemoryStore:
    """Positions for as long as the process lives."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    async def load(self, key: str) -> bytes | None:
        return self._values.get(key)

    async def save(self, checkpoints: list[Checkpoint]) -> None:
        self._values.update((one.key, one.value) for one in checkpoints)


class PipelineState:
    """The positions of one pipeline.

    With a store, a checkpoint is saved there after the buffer has made its events safe: a crash
    between the two repeats events, with the same ids, and never leaves one out.
    """

    def __init__(
        self,
        store: StateStore | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        """`store`: a shared one that was configured; without it the buffer's own is used."""
        self._sleep = sleep
        self._random = random
        self._buffer: KeepsCheckpoints | None = None
        self._shared = store
        self._store = store or MemoryStore()
        self._saving: set[asyncio.Task[None]] = set()

    def bind(self, buffer: Buffer) -> None:
        """From now on the buffer keeps the positions, if it can and no store was configured."""
        if self._shared is None and isinstance(buffer, KeepsCheckpoints):
            self._buffer = buffer

    @property
    def lasting(self) -> bool:
        """What is kept here is still known after a restart."""
        return self._shared is not None or self._buffer is not None

    async def load(self, key: str) -> bytes | None:
        """The value that last became true."""
        if self._buffer is not None:
            return self._buffer.checkpoint(key)
        return await self._store.load(key)

    def attach(self, delivery: Delivery) -> Delivery | None:
        """The delivery as the buffer gets it; None when there is nothing for the buffer in it."""
        if not delivery.checkpoints or self._buffer is not None:
            return delivery

        def settle(failure: Exception | None) -> None:
            if failure is not None:
                delivery.settle(failure)
                return
            task = asyncio.get_running_loop().create_task(self._save(delivery))
            self._saving.add(task)
            task.add_done_callback(self._saving.discard)

        if delivery.batch:
            return Delivery(delivery.batch, settle)
        settle(None)
        return None

    async def _save(self, delivery: Delivery) -> None:
        attempt = 0
        while True:
            try:
                await self._store.save(list(delivery.checkpoints))
            except Retryable:
                attempt += 1
                await self._sleep(_SAVE_AGAIN.delay(attempt, self._random()))
            except Final as error:
                delivery.settle(error)
                return
            else:
                delivery.settle(None)
                return

    async def close(self) -> None:
        """Wait for what is being saved; with a store that does not answer, not for long."""
        if self._saving:
            _, late = await asyncio.wait(self._saving, timeout=5.0)
            for task in late:
                task.cancel()


class ComponentState:
    """See `component.state.State`."""

    def __init__(
        self, pipeline: PipelineState, scope: str, log: Log, term: Callable[[], int] = lambda: 0
    ) -> None:
        """`term`: that of the present leadership; 0 without leader election."""
        self._term = term
        self._pipeline = pipeline
        self._scope = scope
        self._log = log

    async def load(self, name: str) -> bytes | None:
        if not self._pipeline.lasting:
            self._log.warning(
                "positions in the source are forgotten at a restart, because the buffer keeps none; "
                "use the buffer `sqlite`",
                position=name,
            )
        return await self._pipeline.load(f"{self._scope}/{name}")

    def checkpoint(self, name: str, value: bytes) -> Checkpoint:
        return Checkpoint(f"{self._scope}/{name}", value, self._term())

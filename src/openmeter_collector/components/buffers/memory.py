"""Keeps events in memory between input and output. Fast, bounded, and lost when the process ends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from openmeter_collector.api import (
    Batch,
    BatchPolicy,
    Buffer,
    BufferStatus,
    ByteSize,
    Chain,
    CollectorError,
    Delivery,
    EndOfInput,
    Env,
    Example,
    Final,
    Overloaded,
    Stage,
    Undeliverable,
    buffer,
    by_index,
    field,
    section,
)
from openmeter_collector.components.buffers.sizes import size_of_all

SMALL = Example(
    "Hold at most 64 MiB",
    """
    buffer:
      memory:
        limit: 67108864
    """,
)
_AGAIN_AFTER = 1.0


@section
class MemoryBatchPolicy(BatchPolicy):
    """How messages are put together when they leave the buffer."""

    enabled: bool = field(default=False, doc="Put messages together when they leave the buffer.")


@buffer("memory", categories=("Utility",), examples=[SMALL])
class Memory:
    """Holds messages in memory, so that whoever sends them does not wait for the output.

    A sender is told "done" as soon as a message is in memory: **what is held when the process ends
    is lost.** On an orderly stop it is delivered for as long as `shutdown_timeout`. Where that is
    not enough, use `sqlite`.

    When `limit` is reached nothing more is taken, and senders are put off, until there is room.
    What the destination refuses for good is dropped: it is logged, and counted in
    `buffer_dead_letters`.
    """

    limit: ByteSize = field(
        default=ByteSize(524288000), doc="Bytes held at most, content and metadata together."
    )
    batch_policy: MemoryBatchPolicy = field(
        default_factory=MemoryBatchPolicy,
        doc="How messages are put together when they leave the buffer.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Buffer]:
        """Starts empty."""
        policy = self.batch_policy
        async with (
            env.processors(policy.processors if policy.enabled else []) as chain,
            asyncio.TaskGroup() as tasks,
        ):
            held = _Held(self, env, chain, tasks)
            yield held
            held.close()


@dataclass(frozen=True, slots=True)
class _Frame:
    """Messages that were written together, or that failed together."""

    batch: Batch
    size: int
    since: float


class _Held:
    def __init__(self, config: Memory, env: Env, chain: Chain, tasks: asyncio.TaskGroup) -> None:
        self._limit = int(config.limit)
        self._policy = config.batch_policy if config.batch_policy.enabled else None
        self._env = env
        self._chain = chain
        self._tasks = tasks
        self._resting: set[asyncio.Task[None]] = set()
        self._waiting: deque[_Frame] = deque()
        self._ready: deque[Delivery] = deque()
        self._events = 0
        self._bytes = 0
        self._out = 0
        self._dead = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._draining = False
        metrics = env.metrics
        self._received = metrics.counter("buffer_received", "Messages written to the buffer.")
        self._batch_received = metrics.counter("buffer_batch_received", "Batches written to it.")
        self._sent = metrics.counter("buffer_sent", "Messages read from the buffer.")
        self._batch_sent = metrics.counter("buffer_batch_sent", "Batches read from it.")
        self._refused = metrics.counter("buffer_dead_letters", "Messages refused for good.")

    def write(self, delivery: Delivery) -> None:
        size = size_of_all(delivery.batch)
        # A delivery larger than the whole buffer goes through alone, or its sender would wait for ever.
        if self._bytes and self._bytes + size > self._limit:
            # Whoever was refused waits for something to change, and does not go round meanwhile.
            self._room.clear()
            raise Overloaded("the buffer is full", 1.0)
        if delivery.batch:
            self._events += len(delivery.batch)
            self._bytes += size
            self._waiting.append(_Frame(delivery.batch, size, self._env.monotonic()))
            self._changed.set()
            self._received.add(len(delivery.batch))
            self._batch_received.add()
        delivery.settle(None)

    async def wait_for_room(self) -> None:
        while self._bytes >= self._limit or not self._room.is_set():
            self._room.clear()
            await self._room.wait()

    async def read(self) -> Delivery:
        while not self._ready:
            frame = await self._next()
            self._out += 1
            delivery = Delivery(frame.batch, partial(self._settled, frame))
            if self._chain.empty:
                self._ready.append(delivery)
            else:
                with Stage(delivery) as stage:
                    results = await self._chain.run(stage.batch)
                self._ready += stage.deliveries(results)
        delivery = self._ready.popleft()
        self._sent.add(len(delivery.batch))
        self._batch_sent.add()
        return delivery

    def drain(self) -> None:
        self._draining = True
        self._changed.set()

    def close(self) -> None:
        """Forget what is still held."""
        for task in self._resting:
            task.cancel()
        if self._events:
            self._env.log.error(
                "events in memory are lost with the end of the process", events=self._events
            )

    def status(self) -> BufferStatus:
        oldest = self._waiting[0].since if self._waiting else None
        return BufferStatus(
            events=self._events,
            size_bytes=self._bytes,
            frames=len(self._waiting) + self._out,
            oldest_age=0.0 if oldest is None else self._env.monotonic() - oldest,
            dead_letters=self._dead,
            free_bytes=max(0, self._limit - self._bytes),
            failure=None,
            durable=False,
        )

    # ---- giving out --------------------------------------------------------------------------

    async def _next(self) -> _Frame:
        while True:
            wait = self._incomplete() if self._waiting else None
            if wait is not None and wait <= 0:
                return self._cut()
            if wait is None and self._draining and not self._resting:
                raise EndOfInput("drained")
            self._changed.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _incomplete(self) -> float:
        """Seconds until what is there has to leave; 0 when it may leave now."""
        policy = self._policy
        if policy is None or policy.period is None or self._draining:
            return 0.0
        count = sum(len(frame.batch) for frame in self._waiting)
        if policy.count and count >= policy.count:
            return 0.0
        if policy.byte_size and sum(frame.size for frame in self._waiting) >= policy.byte_size:
            return 0.0
        if policy.check is not None and any(self._ends(frame.batch) for frame in self._waiting):
            return 0.0
        waited = self._env.monotonic() - self._waiting[0].since
        return max(0.0, float(policy.period) - waited)

    def _cut(self) -> _Frame:
        policy = self._policy
        if policy is None or policy.is_noop:
            return self._waiting.popleft()
        batch: Batch = []
        size = 0
        since = self._waiting[0].since
        while self._waiting:
            frame = self._waiting.popleft()
            room = policy.count - len(batch) if policy.count else len(frame.batch)
            taken = frame.batch[:room]
            used = frame.size if len(taken) == len(frame.batch) else size_of_all(taken)
            batch += taken
            size += used
            if len(taken) < len(frame.batch):
                rest = _Frame(frame.batch[room:], frame.size - used, frame.since)
                self._waiting.appendleft(rest)
            full = policy.count and len(batch) >= policy.count
            if full or (policy.byte_size and size >= policy.byte_size) or self._ends(taken):
                break
        return _Frame(batch, size, since)

    def _ends(self, batch: Batch) -> bool:
        check = self._policy.check if self._policy is not None else None
        if check is None:
            return False
        try:
            return any(check.program.check(batch, index) for index in range(len(batch)))
        except CollectorError:
            return False

    # ---- settling ----------------------------------------------------------------------------

    def _settled(self, frame: _Frame, failure: Exception | None) -> None:
        self._out -= 1
        verdicts = by_index(failure, len(frame.batch))
        again = [
            message
            for index, message in enumerate(frame.batch)
            if index in verdicts and not isinstance(verdicts[index], Final)
        ]
        dead = sum(isinstance(one, Undeliverable) for one in verdicts.values())
        if dead:
            self._dead += dead
            self._refused.add(dead)
            reason = next(str(e) for e in verdicts.values() if isinstance(e, Undeliverable))
            self._env.log.error(
                "refused for good; the memory buffer keeps no dead letters, use `sqlite` for that",
                messages=dead,
                error=reason,
            )
        left = size_of_all(again)
        self._events -= len(frame.batch) - len(again)
        self._bytes -= frame.size - left
        if again:
            task = self._tasks.create_task(self._rest(_Frame(again, left, frame.since)))
            self._resting.add(task)
            task.add_done_callback(self._resting.discard)
        self._room.set()
        self._changed.set()

    async def _rest(self, frame: _Frame) -> None:
        await self._env.sleep(_AGAIN_AFTER)
        # Before anybody is woken: `read` ends when nothing waits and nothing rests.
        self._resting.discard(asyncio.current_task())
        self._waiting.appendleft(frame)
        self._changed.set()

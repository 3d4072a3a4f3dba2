"""Drops what was delivered before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    Cache,
    CacheRef,
    DuplicateRule,
    Env,
    Example,
    Interpolated,
    Message,
    field,
    left_out_as,
    processor,
    when_settled,
)
from openmeter_collector.bloblang import MappingFailed
from openmeter_collector.components.processors.common import Flag, joined_origin

BY_CONTENT = Example(
    "Drop events that were sent twice",
    """
    cache_resources:
      - label: seen
        memory:
          default_ttl: 1h
    processor_resources:
      - label: once
        dedupe:
          cache: seen
          key: ${! json("source") }/${! json("id") }
    """,
)


@processor("dedupe", categories=("Utility",), examples=[BY_CONTENT])
class Dedupe:
    """Drops messages whose key is in a cache already.

    A key is put into the cache when its message is safe (in the buffer, if this stands before one)
    or delivered, never before: what failed is not taken for a duplicate when it comes again. While
    a message is under way, another one with its key waits for what becomes of it. Two in one batch
    become one, and succeed or fail together. The books count what is dropped as duplicates, too.

    When the cache fails, or the key cannot be made, the message is flagged and passes: better twice
    than never, and OpenMeter knows events by their ids. With `drop_on_err: true` it is dropped.

    Several replicas that share a cache may let the same message pass when they get it at the same
    moment.
    """

    cache: CacheRef = field(doc="The cache, a label of `cache_resources`.")
    key: Interpolated = field(
        doc="What makes messages the same.", examples=['${! json("id") }', "${! content() }"]
    )
    drop_on_err: bool = field(
        default=False,
        doc="Drop messages when the cache fails or the key cannot be made. They are lost then.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        async with asyncio.TaskGroup() as tasks:
            running = _Deduper(self, env, tasks.create_task)
            try:
                yield running
            finally:
                running.closed = True


class _Deduper:
    def __init__(self, config: Dedupe, env: Env, start: Callable[..., object]) -> None:
        self._config = config
        self._log = env.log
        self._cache: Cache = env.cache(config.cache)
        self._flag = Flag(env)
        self._rule = DuplicateRule(f"{env.node.display()} ({env.node.name})")
        self._start = start
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._ailing = False
        self.closed = False

    async def process(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        same = self._by_key(batch, made)
        while busy := [self._under_way[key] for key in same if key in self._under_way]:
            await asyncio.wait(busy)
        # All at once, with nothing to wait for in between: two batches with the same keys in
        # different order cannot wait for each other.
        loop = asyncio.get_running_loop()
        for key in same:
            self._under_way[key] = loop.create_future()
        held = set(same)
        try:
            for key, messages in same.items():
                passed = await self._check(key, messages)
                if passed is None:
                    self._release(key)
                else:
                    made.append(passed)
                    if not when_settled(passed, self._told(key)):
                        await self._mark(key)
                held.discard(key)
        finally:
            for key in held:
                self._release(key)
        return [sorted(made, key=_first_origin)] if made else []

    def _by_key(self, batch: Batch, keyless: Batch) -> dict[str, Batch]:
        same: dict[str, Batch] = {}
        for index, message in enumerate(batch):
            try:
                key = self._config.key.resolve(batch, index)
            except MappingFailed as error:
                if self._config.drop_on_err:
                    self._lost(message)
                else:
                    keyless.append(self._flag(message, f"key interpolation error: {error}"))
            else:
                same.setdefault(key, []).append(message)
        return same

    async def _check(self, key: str, messages: Batch) -> Message | None:
        """The one message to pass on for a key, or None if it was delivered before."""
        one = messages[0]
        if len(messages) > 1:
            one = one.at(joined_origin(messages))
        try:
            known = await self._cache.get(key)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the cache
            self._complain(error)
            if not self._config.drop_on_err:
                return self._flag(one, f"cache: {error}")
            self._lost(one)
            return None
        self._ailing = False
        if known is None:
            return one
        left_out_as(one, self._rule)
        return None

    def _lost(self, message: Message) -> None:
        left_out_as(message, f"{self._rule}: drop_on_err")

    def _told(self, key: str) -> Callable[[Exception | None], None]:
        def told(failure: Exception | None) -> None:
            if failure is None and not self.closed:
                self._start(self._mark(key))
            else:
                self._release(key)

        return told

    async def _mark(self, key: str) -> None:
        try:
            await self._cache.set(key, b"t")
        except Exception as error:  # noqa: BLE001 - as above
            self._complain(error)
        finally:
            self._release(key)

    def _release(self, key: str) -> None:
        waiting = self._under_way.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _complain(self, error: Exception) -> None:
        if not self._ailing:
            self._ailing = True
            outcome = "dropped" if self._config.drop_on_err else "passed"
            self._log.error(f"the cache fails; messages are {outcome}", error=str(error))


def _first_origin(message: Message) -> int:
    origin = message.origin
    return min(origin) if isinstance(origin, tuple) else origin

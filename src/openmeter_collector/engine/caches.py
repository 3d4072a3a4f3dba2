"""What is counted about caches."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TypeVar

from openmeter_collector.component.cache import Cache
from openmeter_collector.telemetry.counters import Counter, Metrics

T = TypeVar("T")


class CountedCache:
    """A cache with its counters, by operation."""

    def __init__(self, cache: Cache, metrics: Metrics) -> None:
        self._cache = cache
        self._metrics = metrics
        operations = ("get", "set", "add", "delete")
        self._success = {one: self._counter("success", one) for one in operations}
        self._error = {one: self._counter("error", one) for one in operations}
        self._latency = {
            one: metrics.timer("cache_latency_ns", "Time for one operation.", operation=one)
            for one in operations
        }
        self._not_found = self._counter("not_found", "get")
        self._duplicate = self._counter("duplicate", "add")

    async def get(self, key: str) -> bytes | None:
        found = await self._counted("get", self._cache.get(key))
        if found is None:
            self._not_found.add()
        return found

    async def set(self, key: str, value: bytes, ttl: float | None = None) -> None:
        await self._counted("set", self._cache.set(key, value, ttl))

    async def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        added = await self._counted("add", self._cache.add(key, value, ttl))
        if not added:
            self._duplicate.add()
        return added

    async def delete(self, key: str) -> None:
        await self._counted("delete", self._cache.delete(key))

    async def _counted(self, operation: str, call: Awaitable[T]) -> T:
        began = time.perf_counter_ns()
        try:
            result = await call
        except Exception:
            self._error[operation].add()
            raise
        self._latency[operation].observe(time.perf_counter_ns() - began)
        self._success[operation].add()
        return result

    def _counter(self, what: str, operation: str) -> Counter:
        return self._metrics.counter(
            f"cache_{what}", "Operations on the cache, by outcome.", operation=operation
        )

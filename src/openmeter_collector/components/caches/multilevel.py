"""Caches before caches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from openmeter_collector.api import Cache, CacheRef, Env, Example, cache, field

HOT = Example(
    "Memory before files",
    """
    cache_resources:
      - label: names
        multilevel: [hot, cold]
      - label: hot
        memory:
          default_ttl: 60s
      - label: cold
        file:
          directory: ./names
    """,
)


@cache("multilevel", categories=("Utility",), examples=[HOT], value="caches")
class Multilevel:
    """Asks caches in turn and puts what a later one has into those before it.

    The last one decides whether a value can be added; setting and deleting is done in all.
    """

    caches: list[CacheRef] = field(
        default_factory=list, minimum=2, doc="Labels of caches, the fastest first."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Cache]:
        yield _Levels([_lookup(env, label) for label in self.caches])


def _lookup(env: Env, label: str) -> Callable[[], Cache]:
    # Looked up when used: resources are opened in their order, and may refer to later ones.
    return lambda: env.cache(label)


class _Levels:
    def __init__(self, levels: list[Callable[[], Cache]]) -> None:
        self._levels = levels

    async def get(self, key: str) -> bytes | None:
        for depth, level in enumerate(self._levels):
            value = await level().get(key)
            if value is not None:
                for upper in self._levels[:depth]:
                    await upper().set(key, value)
                return value
        return None

    async def set(self, key: str, value: bytes, ttl: float | None = None) -> None:
        for level in reversed(self._levels):
            await level().set(key, value, ttl)

    async def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        *uppers, last = self._levels
        if not await last().add(key, value, ttl):
            return False
        for level in reversed(uppers):
            await level().set(key, value, ttl)
        return True

    async def delete(self, key: str) -> None:
        for level in reversed(self._levels):
            await level().delete(key)

"""A cache that keeps nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Cache, Env, Example, cache

NOTHING = Example(
    "Switch a cache off",
    """
    cache_resources:
      - label: seen
        noop: {}
    """,
)


@cache("noop", categories=("Utility",), examples=[NOTHING])
class Noop:
    """Forgets everything at once: nothing is found, and everything can be added."""

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Cache]:
        del env
        yield _Nothing()


class _Nothing:
    async def get(self, key: str) -> bytes | None:
        del key
        return None

    async def set(self, key: str, value: bytes, ttl: float | None = None) -> None:
        del key, value, ttl

    async def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        del key, value, ttl
        return True

    async def delete(self, key: str) -> None:
        del key

"""A cache in Redis, shared by everybody who uses the same server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from openmeter_collector.api import (
    Cache,
    Duration,
    Env,
    Example,
    RedisClient,
    RedisRetries,
    RedisServer,
    Retryable,
    cache,
    field,
    redis_client,
)

T = TypeVar("T")
SHARED = Example(
    "What was seen, for all replicas",
    """
    cache_resources:
      - label: seen
        redis:
          url: redis://redis:6379
          prefix: "openmeter:"
          default_ttl: 24h
    """,
)


@cache("redis", categories=("Services",), examples=[SHARED])
class Redis(RedisServer):
    """Keeps values in a Redis server (or Valkey), for all replicas that use it.

    How long a value survives is up to that server. When the answer to an addition is lost, and the
    repetition finds the same value there, it counts as added: an event that comes twice is known by its
    id later on, one that is left out is gone.

    Needs the extra `redis`.
    """

    prefix: str | None = field(
        default=None,
        doc="What each key begins with, so that others can use the server too.",
        examples=["openmeter:"],
    )
    default_ttl: Duration | None = field(
        default=None,
        advanced=True,
        doc="How long a value is kept when it is not said with it; empty keeps it for ever.",
    )
    retries: RedisRetries = field(
        default_factory=RedisRetries, advanced=True, doc="What is done when the server is away."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Cache]:
        """Does not connect.

        Raises:
            ConfigError: the library is not installed, or the fields contradict each other.
        """
        async with redis_client(self, env) as client:
            yield _Redis(self, env, client)


class _Redis:
    def __init__(self, config: Redis, env: Env, client: RedisClient) -> None:
        self._client = client
        self._redis = client.commands
        self._env = env
        self._prefix = config.prefix or ""
        self._ttl = None if config.default_ttl is None else float(config.default_ttl)
        self._first = float(config.retries.initial_interval)
        self._longest = float(config.retries.max_interval)
        self._give_up = float(config.retries.max_elapsed_time)

    async def get(self, key: str) -> bytes | None:
        return await self._repeated(lambda: self._redis.get(self._prefix + key))

    async def set(self, key: str, value: bytes, ttl: float | None = None) -> None:
        await self._repeated(
            lambda: self._redis.set(self._prefix + key, value, px=self._milliseconds(ttl))
        )

    async def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        name = self._prefix + key
        attempts = 0

        def attempt() -> Awaitable[bool | None]:
            nonlocal attempts
            attempts += 1
            made: Awaitable[bool | None] = self._redis.set(
                name, value, px=self._milliseconds(ttl), nx=True
            )
            return made

        if await self._repeated(attempt):
            return True
        return attempts > 1 and await self.get(key) == value

    async def delete(self, key: str) -> None:
        await self._repeated(lambda: self._redis.delete(self._prefix + key))

    def _milliseconds(self, ttl: float | None) -> int | None:
        seconds = self._ttl if ttl is None else ttl
        return None if seconds is None else max(1, round(seconds * 1000))

    async def _repeated(self, call: Callable[[], Awaitable[T]]) -> T:
        began = self._env.monotonic()
        pause = self._first
        while True:
            try:
                return await self._client.run(call())
            except Retryable:
                wait = min(pause, self._longest) * (0.5 + self._env.random() / 2)
                spent = self._env.monotonic() - began + wait
                if self._give_up and spent > self._give_up:
                    raise
            await self._env.sleep(wait)
            pause *= 1.5

"""A rate limit that all who use the same Redis server share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from openmeter_collector.api import (
    Duration,
    Env,
    Example,
    RateLimit,
    RedisClient,
    RedisServer,
    field,
    rate_limit,
    redis_client,
)

SHARED = Example(
    "A thousand a minute, for all replicas together",
    """
    rate_limit_resources:
      - label: billing_api
        redis:
          url: redis://redis:6379
          count: 1000
          interval: 1m
          key: openmeter-billing-api
    """,
)
# A count that ends with its interval. Whoever is too many learns when that will be. A counter without
# an end, as an interrupted copy of the server may have it, gets one.
_ACCESS: Final = """
local passed = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  left = tonumber(ARGV[2])
end
if passed > tonumber(ARGV[1]) then return math.max(left, 1) end
return 0
"""


@rate_limit("redis", categories=("Services",), examples=[SHARED])
class Redis(RedisServer):
    """Lets so many pass in each interval, counted in a Redis server (or Valkey), for all who use the key.

    While the server does not answer, nothing passes: whoever asks gets the error.

    Needs the extra `redis`.
    """

    count: int = field(default=1000, minimum=1, doc="How many pass in an interval.")
    interval: Duration = field(
        default=Duration("1s"), minimum=0.001, doc="How long an interval is."
    )
    key: str = field(doc="The name under which is counted.", minimum=1)

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[RateLimit]:
        """Does not connect.

        Raises:
            ConfigError: the library is not installed, or the fields contradict each other.
        """
        async with redis_client(self, env) as client:
            yield _Shared(client, self.key, self.count, float(self.interval))


class _Shared:
    def __init__(self, client: RedisClient, key: str, count: int, interval: float) -> None:
        self._client = client
        self._key = key
        self._count = count
        self._interval = max(1, round(interval * 1000))
        self._script = client.commands.register_script(_ACCESS)

    async def access(self) -> float:
        left: int = await self._client.run(
            self._script(keys=[self._key], args=[self._count, self._interval])
        )
        return left / 1000

"""Slows messages down to a rate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    Env,
    Example,
    RateLimitRef,
    field,
    processor,
)

SLOWLY = Example(
    "A hundred a second for a service that allows no more",
    """
    rate_limit_resources:
      - label: slow_api
        local:
          count: 100
          interval: 1s
    processor_resources:
      - label: slowly
        rate_limit:
          resource: slow_api
    """,
)


@processor("rate_limit", categories=("Utility",), examples=[SLOWLY])
class RateLimitProcessor:
    """Waits before each message until a rate limit lets it pass.

    When the limit itself fails, it is asked again every second.
    """

    resource: RateLimitRef = field(doc="The limit, a label of `rate_limit_resources`.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        yield _Waiter(self.resource, env)


class _Waiter:
    def __init__(self, resource: str, env: Env) -> None:
        self._limit = env.rate_limit(resource)
        self._env = env

    async def process(self, batch: Batch) -> list[Batch]:
        for _ in batch:
            while (wait := await self._wait()) > 0:
                await self._env.sleep(wait)
        return [batch]

    async def _wait(self) -> float:
        try:
            return await self._limit.access()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the limit
            self._env.log.warning("the rate limit cannot be asked", error=str(error))
            return 1.0

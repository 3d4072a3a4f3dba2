"""Stores messages in a cache."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    CacheRef,
    CollectorError,
    Env,
    Interpolated,
    Output,
    Rejected,
    Retryable,
    as_failure,
    field,
    output,
)
from openmeter_collector.values.units import parse_duration


@output("cache", categories=("Services",))
class CacheOutput:
    """Puts each message into a cache, under a key of its own."""

    target: CacheRef = field(doc="Label of the cache resource.")
    key: Interpolated = field(
        default_factory=lambda: Interpolated('${!count("items")}-${!timestamp_unix_nano()}'),
        doc="Key of a message. May hold expressions.",
        examples=["${! this.id }"],
    )
    ttl: Interpolated | None = field(
        default=None,
        doc="How long it is kept, such as `60s`; empty for the cache's own default. May hold "
        "expressions.",
    )
    max_in_flight: int = field(default=64, minimum=1, doc="Writes under way at the same time.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        yield _Keeper(self, env)


class _Keeper:
    def __init__(self, config: CacheOutput, env: Env) -> None:
        self._config = config
        self._env = env

    async def write(self, batch: Batch) -> None:
        verdicts: dict[int, Exception] = {}
        cache = self._env.cache(self._config.target)
        for index, message in enumerate(batch):
            try:
                key = self._config.key.resolve(batch, index)
                ttl = self._ttl(batch, index)
            except (CollectorError, ValueError) as error:
                verdicts[index] = Rejected(f"cache {self._config.target}: {error}")
                continue
            try:
                await cache.set(key, message.content, ttl)
            except CollectorError as error:
                verdicts[index] = error
            except Exception as error:  # noqa: BLE001 - a cache in trouble, whatever it is
                verdicts[index] = Retryable(f"cache {self._config.target}: {error}")
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure

    def _ttl(self, batch: Batch, index: int) -> float | None:
        text = "" if self._config.ttl is None else self._config.ttl.resolve(batch, index)
        return parse_duration(text) / 1e9 if text else None

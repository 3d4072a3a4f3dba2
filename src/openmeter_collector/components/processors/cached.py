"""Remembers what processors made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    CacheRef,
    Chain,
    Duration,
    Env,
    Example,
    Interpolated,
    MappingText,
    Message,
    ProcessorNode,
    field,
    processor,
)
from openmeter_collector.components.processors.common import Flag, flat

NAMES = Example(
    "Ask for each customer's plan once an hour",
    """
    cache_resources:
      - label: plans
        memory:
          default_ttl: 1h
    processor_resources:
      - label: plan
        cached:
          cache: plans
          key: ${! json("subject") }
          processors:
            - sleep:
                duration: 10ms
    """,
)


@processor("cached", categories=("Utility",), examples=[NAMES])
class Cached:
    """Runs processors over a message, unless what they made for its key is in a cache.

    Kept is the content of the one message that they make; nothing is kept when they fail, drop it or
    make several. A cache that fails is gone without.
    """

    cache: CacheRef = field(doc="The cache, a label of `cache_resources`.")
    key: Interpolated = field(doc="Messages with the same key get the same result.")
    ttl: Interpolated = field(
        default_factory=lambda: Interpolated(""),
        doc="How long a result is kept, such as `5m`; empty leaves it to the cache.",
    )
    skip_on: MappingText | None = field(
        default=None, doc="A query about the result; true keeps it out of the cache."
    )
    processors: list[ProcessorNode] = field(doc="What is run when nothing is known yet.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        async with env.processors(self.processors) as chain:
            yield _Remembering(self, chain, env)


class _Remembering:
    def __init__(self, config: Cached, chain: Chain, env: Env) -> None:
        self._config = config
        self._chain = chain
        self._cache = env.cache(config.cache)
        self._flag = Flag(env)
        self._log = env.log

    async def process(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for index, message in enumerate(batch):
            try:
                key = self._config.key.resolve(batch, index)
                text = self._config.ttl.resolve(batch, index)
                ttl = float(Duration(text)) if text else None
            except Exception as error:  # noqa: BLE001 - the mapping's, or no duration
                made.append(self._flag(message, error))
                continue
            made += await self._one(key, ttl, message)
        return [made] if made else []

    async def _one(self, key: str, ttl: float | None, message: Message) -> Batch:
        try:
            known = await self._cache.get(key)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the cache
            self._log.warning("the cache cannot be read", error=str(error))
            known = None
        if known is not None:
            return [message.with_content(known)]
        results = flat(await self._chain.run([message]))
        if len(results) == 1 and results[0].error is None and not self._skipped(results):
            try:
                await self._cache.set(key, results[0].content, ttl)
            except Exception as error:  # noqa: BLE001 - as above
                self._log.warning("the cache cannot be written", error=str(error))
        return results

    def _skipped(self, results: Batch) -> bool:
        skip = self._config.skip_on
        try:
            return skip is not None and skip.program.check(results, 0)
        except Exception:  # noqa: BLE001 - what cannot be judged is not kept
            return True

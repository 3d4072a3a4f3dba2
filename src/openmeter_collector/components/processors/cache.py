"""Puts values into a cache and gets them out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    CacheRef,
    Duration,
    Env,
    Example,
    Interpolated,
    Message,
    field,
    processor,
)
from openmeter_collector.components.processors.common import Flag

REMEMBER = Example(
    "Remember what was seen last of a customer",
    """
    cache_resources:
      - label: last
        memory: {}
    processor_resources:
      - label: remember
        cache:
          resource: last
          operator: set
          key: ${! json("subject") }
          value: ${! content() }
    """,
)


@processor("cache", categories=("Integration",), examples=[REMEMBER])
class CacheProcessor:
    """Does an operation on a cache for each message, in their order.

    A message whose operation fails is flagged and keeps its content.
    """

    resource: CacheRef = field(doc="The cache, a label of `cache_resources`.")
    operator: Literal["set", "add", "get", "delete", "exists"] = field(
        doc="What is done.",
        choices={
            "set": "Put `value` at `key`.",
            "add": "Put `value` at `key`; the message is flagged if there is one.",
            "get": "Make the value the content; the message is flagged if there is none.",
            "delete": "Remove the value.",
            "exists": "Make `true` or `false` the content.",
        },
    )
    key: Interpolated = field(doc="The key.")
    value: Interpolated = field(
        default_factory=lambda: Interpolated(""), doc="The value, for `set` and `add`."
    )
    ttl: Interpolated = field(
        default_factory=lambda: Interpolated(""),
        advanced=True,
        doc="How long the value is kept, such as `5m`; empty leaves it to the cache.",
        examples=["60s", '${! meta("ttl") }'],
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        yield _Operator(self, env)


class _Operator:
    def __init__(self, config: CacheProcessor, env: Env) -> None:
        self._config = config
        self._cache = env.cache(config.resource)
        self._flag = Flag(env)

    async def process(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for index, message in enumerate(batch):
            try:
                made.append(await self._operate(batch, index, message))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the cache
                made.append(self._flag(message, error))
        return [made]

    async def _operate(self, batch: Batch, index: int, message: Message) -> Message:
        config, cache = self._config, self._cache
        key = config.key.resolve(batch, index)
        if config.operator == "get":
            value = await cache.get(key)
            if value is None:
                return self._flag(message, "key does not exist")
            return message.with_content(value)
        if config.operator == "exists":
            return message.with_content(b"false" if await cache.get(key) is None else b"true")
        if config.operator == "delete":
            await cache.delete(key)
            return message
        value = config.value.resolve(batch, index).encode("utf-8", "surrogateescape")
        text = config.ttl.resolve(batch, index)
        ttl = float(Duration(text)) if text else None
        if config.operator == "set":
            await cache.set(key, value, ttl)
        elif not await cache.add(key, value, ttl):
            return self._flag(message, "key already exists")
        return message

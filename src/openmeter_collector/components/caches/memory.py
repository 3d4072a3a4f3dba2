"""A cache in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Cache, Duration, Env, Example, cache, field
from openmeter_collector.components.caches.store import Store

SEEN = Example(
    "Remember events for an hour",
    """
    cache_resources:
      - label: seen
        memory:
          default_ttl: 1h
    """,
)


@cache("memory", categories=("Local",), examples=[SEEN])
class Memory:
    """Keeps values in this process. They are gone when it ends, and other replicas have their own.

    When there are more than `max_items`, those that were put first go first.
    """

    default_ttl: Duration = field(
        default=Duration("5m"), doc="How long a value is kept when it is not said with it."
    )
    compaction_interval: Duration | None = field(
        default=Duration("60s"),
        doc="How often values that are over are removed from memory; empty keeps all for ever.",
    )
    init_values: dict[str, str] = field(
        default_factory=dict, doc="Values to begin with; they do not end."
    )
    shards: int = field(default=1, minimum=1, advanced=True, doc="Accepted; it has no effect.")
    max_items: int = field(
        default=1_000_000, minimum=0, ours=True, doc="Values kept at most; 0 is no limit."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Cache]:
        forever = self.compaction_interval is None
        store = Store(
            env.monotonic,
            most=self.max_items,
            ttl=None if forever else float(self.default_ttl),
            sweep_every=float(self.compaction_interval or 60.0),
        )
        store.fill(self.init_values)
        yield store

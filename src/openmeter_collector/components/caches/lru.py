"""A cache of what was used last."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from openmeter_collector.api import Cache, Env, Example, cache, field
from openmeter_collector.components.caches.store import Store

LAST = Example(
    "The ten thousand customers seen last",
    """
    cache_resources:
      - label: customers
        lru:
          cap: 10000
    """,
)


@cache("lru", categories=("Local",), examples=[LAST])
class Lru:
    """Keeps a number of values in this process; what was not used for longest goes first.

    Values do not end with time.
    """

    cap: int = field(default=1000, minimum=1, doc="Values kept at most.")
    init_values: dict[str, str] = field(default_factory=dict, doc="Values to begin with.")
    algorithm: Literal["standard", "arc", "two_queues"] = field(
        default="standard",
        advanced=True,
        doc="Accepted; what was not used for longest always goes first.",
    )
    two_queues_recent_ratio: float = field(
        default=0.25, advanced=True, doc="Accepted; it has no effect."
    )
    two_queues_ghost_ratio: float = field(
        default=0.5, advanced=True, doc="Accepted; it has no effect."
    )
    optimistic: bool = field(default=False, advanced=True, doc="Accepted; it has no effect.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Cache]:
        store = Store(env.monotonic, most=self.cap, ttl=None, by_use=True)
        store.fill(self.init_values)
        yield store

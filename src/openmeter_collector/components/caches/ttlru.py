"""A cache of what was used last, for a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Cache, Duration, Env, Example, cache, field
from openmeter_collector.components.caches.store import Store

HOUR = Example(
    "Names for an hour",
    """
    cache_resources:
      - label: names
        ttlru:
          cap: 10000
          default_ttl: 1h
    """,
)


@cache("ttlru", categories=("Local",), examples=[HOUR])
class TtlLru:
    """Keeps a number of values in this process for a time; what was not used for longest goes first.

    Reading a value begins its time anew, unless `without_reset` is set.
    """

    cap: int = field(default=1024, minimum=1, doc="Values kept at most.")
    default_ttl: Duration = field(
        default=Duration("5m"), doc="How long a value is kept when it is not said with it."
    )
    ttl: Duration | None = field(
        default=None, deprecated=True, doc="The same as `default_ttl`, and wins over it."
    )
    init_values: dict[str, str] = field(
        default_factory=dict, doc="Values to begin with; they do not end."
    )
    optimistic: bool = field(default=False, advanced=True, doc="Accepted; it has no effect.")
    without_reset: bool = field(
        default=False, advanced=True, doc="Reading a value does not begin its time anew."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Cache]:
        store = Store(
            env.monotonic,
            most=self.cap,
            ttl=float(self.ttl or self.default_ttl),
            by_use=True,
            renew=not self.without_reset,
        )
        store.fill(self.init_values)
        yield store

"""The contract of processors.

A processor never loses a message by failing: it flags it (`message.with_error`) and passes it on, so
that `catch`, `switch` and `reject_errored` can decide. To drop a message is to leave it out of the
result; that is a rule somebody wrote, and the engine counts it.
"""

from __future__ import annotations

from typing import Protocol

from openmeter_collector.message import Batch


class Processor(Protocol):
    """A plain function over a batch: no await, no per-message bookkeeping by the engine.

    Messages are immutable; results are made with `with_` methods or carry the `origin` of the
    message they came from (a tuple of them when several were joined), so that a failure further
    down can be traced back to what must be sent again.
    """

    def process(self, batch: Batch) -> list[Batch]:
        """Turn one batch into any number of batches. Must not raise for bad data."""


class AsyncProcessor(Protocol):
    """As `Processor`, for those that wait for something (an HTTP call, a cache, a sleep)."""

    async def process(self, batch: Batch) -> list[Batch]:
        """Turn one batch into any number of batches. Must not raise for bad data."""

"""Drops what is too large or too small."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Batch, Env, Example, Processor, field, processor

SMALL = Example(
    "Nothing above a megabyte",
    """
    pipeline:
      processors:
        - bounds_check:
            max_part_size: 1000000
    """,
)


@processor("bounds_check", categories=("Utility",), examples=[SMALL])
class BoundsCheck:
    """Drops messages whose size, and batches whose length is out of bounds.

    What is dropped is counted in `bounds_check_dropped`. A message that is dropped costs the others
    of its batch nothing.
    """

    max_part_size: int = field(default=1 << 30, minimum=0, doc="Most bytes of a message.")
    min_part_size: int = field(default=1, minimum=0, doc="Least bytes of a message.")
    max_parts: int = field(default=100, minimum=0, doc="Most messages of a batch.", advanced=True)
    min_parts: int = field(default=1, minimum=0, doc="Least messages of a batch.", advanced=True)

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield _Checker(self, env)


class _Checker:
    def __init__(self, config: BoundsCheck, env: Env) -> None:
        self._config = config
        self._dropped = env.metrics.counter("bounds_check_dropped", "Messages out of bounds.")

    def process(self, batch: Batch) -> list[Batch]:
        config = self._config
        kept: Batch = []
        if config.min_parts <= len(batch) <= config.max_parts:
            least, most = config.min_part_size, config.max_part_size
            kept = [message for message in batch if least <= len(message.content) <= most]
        self._dropped.add(len(batch) - len(kept))
        return [kept] if kept else []

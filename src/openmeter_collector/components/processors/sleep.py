"""Waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    Duration,
    Env,
    Example,
    Interpolated,
    field,
    processor,
)
from openmeter_collector.bloblang import MappingFailed
from openmeter_collector.components.processors.common import Flag

SLOWLY = Example(
    "Ten messages a second at most",
    """
    pipeline:
      processors:
        - sleep:
            duration: 100ms
    """,
)


@processor("sleep", categories=("Utility",), examples=[SLOWLY])
class Sleep:
    """Waits for each message of a batch, one after the other, and then passes the batch on."""

    duration: Interpolated = field(
        doc="How long, for each message.", examples=["100ms", "${! this.wait }s"]
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        yield _Sleeper(self.duration, env)


class _Sleeper:
    def __init__(self, duration: Interpolated, env: Env) -> None:
        self._duration = duration
        self._env = env
        self._flag = Flag(env)

    async def process(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for index, message in enumerate(batch):
            try:
                seconds = float(Duration(self._duration.resolve(batch, index)))
            except (MappingFailed, ValueError) as error:
                made.append(self._flag(message, error))
                continue
            if seconds > 0:
                await self._env.sleep(seconds)
            made.append(message)
        return [made]

"""Runs processors again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    Chain,
    Env,
    Example,
    MappingText,
    ProcessorNode,
    field,
    processor,
)
from openmeter_collector.bloblang import MappingFailed
from openmeter_collector.components.processors.common import Flag, flat

UNTIL = Example(
    "Follow a chain of wrappers to its end",
    """
    pipeline:
      processors:
        - while:
            max_loops: 10
            check: this.exists("inner")
            processors:
              - mapping: root = this.inner
    """,
)


@processor("while", categories=("Composition",), examples=[UNTIL])
class While:
    """Runs processors over a batch as long as a query about its first message gives true.

    A query that fails ends it, and flags the first message.
    """

    at_least_once: bool = field(default=False, doc="Run them once before the query is asked.")
    max_loops: int = field(
        default=0, minimum=0, doc="Stop after this many times; 0 is no limit.", advanced=True
    )
    check: MappingText | None = field(
        default=None, doc="A query about the first message.", examples=["this.left > 0"]
    )
    processors: list[ProcessorNode] = field(default_factory=list, doc="What to run.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        async with env.processors(self.processors) as chain:
            yield _Loop(self, chain, env)


class _Loop:
    def __init__(self, config: While, chain: Chain, env: Env) -> None:
        self._config = config
        self._chain = chain
        self._env = env
        self._flag = Flag(env)

    async def process(self, batch: Batch) -> list[Batch]:
        loops = 0
        most = self._config.max_loops
        while batch and not (most and loops >= most):
            if loops or not self._config.at_least_once:
                check = self._config.check
                try:
                    if check is None or not check.program.check(batch, 0):
                        break
                except MappingFailed as error:
                    batch = [self._flag(batch[0], f"failed to test check: {error}"), *batch[1:]]
                    break
            batch = flat(await self._chain.run(batch))
            loops += 1
            await self._env.sleep(0)  # an endless loop must not stop everything else
        return [batch] if batch else []

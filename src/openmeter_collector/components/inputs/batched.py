"""Puts messages of an input together into batches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from openmeter_collector.api import (
    BatchPolicy,
    Env,
    Example,
    Input,
    InputNode,
    Intake,
    field,
    input,  # noqa: A004
)

LINES = Example(
    "A hundred lines at a time",
    """
    input:
      batched:
        child:
          file:
            paths: [ ./events.jsonl ]
        policy:
          count: 100
          period: 1s
    """,
)


@input("batched", categories=("Utility",), examples=[LINES])
class Batched:
    """Reads from a child input and hands over batches instead of single messages."""

    every_worker: ClassVar[bool] = True
    only_holds_others: ClassVar[bool] = True

    child: InputNode = field(doc="The input to read from.")
    policy: BatchPolicy = field(default_factory=BatchPolicy, doc="When a batch is complete.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Opens the child."""
        async with env.input(self.child) as child:
            yield _Collected(env, child, self.policy)


class _Collected:
    def __init__(self, env: Env, child: Input, policy: BatchPolicy) -> None:
        self._env = env
        self._child = child
        self._policy = policy

    async def run(self, intake: Intake) -> None:
        async with self._env.batched(self._policy, intake) as into:
            await self._child.run(into)

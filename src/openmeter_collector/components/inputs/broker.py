"""Reads from several inputs at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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

TWO = Example(
    "Two sources",
    """
    input:
      broker:
        inputs:
          - http_server:
              address: 0.0.0.0:8080
              path: /api/v1/events
          - generate:
              interval: 1m
              mapping: root.heartbeat = now()
    """,
)


@input("broker", categories=("Utility",), examples=[TWO])
class BrokerInput:
    """Joins several inputs. Ends when all of them have ended.

    Each input is acknowledged by itself, and connects again by itself when it is disconnected.
    """

    every_worker: ClassVar[bool] = True
    only_holds_others: ClassVar[bool] = True

    copies: int = field(default=1, minimum=1, doc="How often each input is opened.")
    inputs: list[InputNode] = field(doc="The inputs.", minimum=1)
    batching: BatchPolicy = field(
        default_factory=BatchPolicy, doc="How messages of all inputs are put together."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Opens all children."""
        async with AsyncExitStack() as stack:
            children = [
                await stack.enter_async_context(env.input(node))
                for node in self.inputs * self.copies
            ]
            yield _Together(env, children, self.batching)


class _Together:
    def __init__(self, env: Env, children: list[Input], batching: BatchPolicy) -> None:
        self._env = env
        self._children = children
        self._batching = batching

    async def run(self, intake: Intake) -> None:
        async with self._env.batched(self._batching, intake) as into, asyncio.TaskGroup() as tasks:
            for child in self._children:
                tasks.create_task(child.run(into))

"""Reads inputs one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openmeter_collector.api import (
    ConfigError,
    Env,
    Example,
    Input,
    InputNode,
    Intake,
    field,
    input,  # noqa: A004
)

FILES = Example(
    "What is in a file first, then what comes in",
    """
    input:
      sequence:
        inputs:
          - file:
              paths: [ ./backlog.jsonl ]
          - http_server:
              address: 0.0.0.0:8080
              path: /api/v1/events
    """,
)


@input("sequence", categories=("Utility",), examples=[FILES])
class Sequence:
    """Reads from the first input until it ends, then from the second, and so on.

    The next one starts when everything read from the one before is safe. Joining (`sharded_join`)
    is not supported.
    """

    inputs: list[InputNode] = field(doc="The inputs, in order.", minimum=1)
    sharded_join: Any = field(
        default=None,
        advanced=True,
        doc="Not supported: joining messages of several inputs by an id.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Nothing is opened before its turn."""
        if isinstance(self.sharded_join, dict) and self.sharded_join.get("type", "none") != "none":
            raise ConfigError(
                f"{env.node.path}: sequence.sharded_join: joining is not supported; read the inputs "
                "one after the other and join in a mapping with a cache"
            )
        yield _InTurn(env, self.inputs)


class _InTurn:
    def __init__(self, env: Env, nodes: list[InputNode]) -> None:
        self._env = env
        self._nodes = nodes

    async def run(self, intake: Intake) -> None:
        for node in self._nodes:
            async with self._env.input(node) as child:
                await child.run(intake)

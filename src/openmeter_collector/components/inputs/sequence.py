"""Reads inputs one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from openmeter_collector.api import (
    Env,
    Example,
    Input,
    InputNode,
    Intake,
    Puller,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.inputs.joining import ShardedJoin, joined

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


JOINED = Example(
    "Users with all of their hobbies, out of two files",
    """
    input:
      sequence:
        sharded_join:
          type: full-outer
          id_path: uuid
          merge_strategy: array
        inputs:
          - csv:
              paths: [ ./users.csv ]
          - csv:
              paths: [ ./hobbies.csv ]
    """,
)


@input("sequence", categories=("Utility",), examples=[FILES, JOINED])
class Sequence:
    """Reads from the first input until it ends, then from the second, and so on.

    The next one starts when everything read from the one before is safe.

    **Joining.** With `sharded_join` messages that have the same id become one, with the fields and the
    metadata of all; if they do not fit into memory, everything is read several times (`iterations`).
    The sources are told that they are done with (files deleted, positions remembered) when all joined
    messages are safe, and not if they gave other messages from one iteration to the next. Only inputs
    that read a source to its end can be joined, such as `file`, `csv`, `aws_s3`, `sql_select`, `stdin`
    (in one iteration), and `broker`, `batched`, `resource` and `sequence` of such; one that loses its connection has
    the join begin anew.
    """

    only_holds_others: ClassVar[bool] = True

    inputs: list[InputNode] = field(doc="The inputs, in order.", minimum=1)
    sharded_join: ShardedJoin = field(
        default_factory=ShardedJoin, advanced=True, doc="Joins messages of all inputs by an id."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input | Puller]:
        """Nothing is opened before its turn.

        Raises:
            ConfigError: a join without an id.
        """
        if self.sharded_join.type == "none":
            yield _InTurn(env, self.inputs)
            return
        async with joined(self.sharded_join, self.inputs, env) as joiner:
            yield joiner


class _InTurn:
    def __init__(self, env: Env, nodes: list[InputNode]) -> None:
        self._env = env
        self._nodes = nodes

    async def run(self, intake: Intake) -> None:
        for node in self._nodes:
            async with self._env.input(node) as child:
                await child.run(intake)

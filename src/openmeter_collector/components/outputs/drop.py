"""Throws everything away, on purpose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Batch, Dropped, Env, Example, Output, output

SILENT = Example(
    "Throw everything away",
    """
    output:
      drop: {}
    """,
)


@output("drop", categories=("Utility",), examples=[SILENT])
class Drop:
    """Drops all messages: they are dealt with and gone, and the books say so."""

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        yield _Dropper(f"{env.node.display()} (drop)")


class _Dropper:
    def __init__(self, rule: str) -> None:
        self._rule = rule

    async def write(self, batch: Batch) -> None:
        del batch
        raise Dropped(self._rule)

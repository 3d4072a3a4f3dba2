"""Throws everything away, on purpose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Batch, Env, Example, Output, output

SILENT = Example(
    "Throw everything away",
    """
    output:
      drop: {}
    """,
)


@output("drop", categories=("Utility",), examples=[SILENT])
class Drop:
    """Drops all messages: they count as delivered and are gone."""

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        del env
        yield _Dropper()


class _Dropper:
    async def write(self, batch: Batch) -> None:
        del batch

"""Writes to an output resource."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Batch, Env, Output, OutputRef, field, output


@output("resource", categories=("Utility",), value="label")
class ResourceOutput:
    """Writes to an output that is defined once, under `output_resources`, and used by its label.

    All uses share one output, with its connections and its batching.
    """

    label: OutputRef = field(doc="Label of the output resource.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        yield _ToResource(env, self.label)


class _ToResource:
    def __init__(self, env: Env, label: str) -> None:
        self._env = env
        self._label = label

    async def write(self, batch: Batch) -> None:
        # Looked up here, not on opening: resources may refer to each other in any order.
        await self._env.output_resource(self._label).write(batch)

"""Reads from an input resource."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from openmeter_collector.api import (
    Env,
    Input,
    InputRef,
    field,
    input,  # noqa: A004
)


@input("resource", categories=("Utility",), value="label")
class ResourceInput:
    """Reads from an input that is defined once, under `input_resources`, and used by its label."""

    every_worker: ClassVar[bool] = True
    only_holds_others: ClassVar[bool] = True

    label: InputRef = field(doc="Label of the input resource.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Opens the resource's input for this use."""
        async with env.input_resource(self.label) as opened:
            yield opened

"""No traces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Env, tracer


@tracer("none", categories=("Utility",))
class NoTracer:
    """Makes no traces of what happens to messages."""

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[None]:
        del env
        yield None

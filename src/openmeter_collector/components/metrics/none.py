"""No metrics leave the process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Env, MetricsExporter, Page, metrics


@metrics("none", categories=("Utility",))
class NoMetrics:
    """Shows metrics to nobody: `/metrics` and `/stats` answer 404."""

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[MetricsExporter]:
        del env
        yield _Nothing()


class _Nothing:
    def page(self, accept: str = "") -> Page | None:
        del accept
        return None

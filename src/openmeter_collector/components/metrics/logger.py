"""Writes metrics to the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Duration,
    Env,
    Example,
    MetricsExporter,
    MetricStore,
    Page,
    field,
    metrics,
)

EACH_MINUTE = Example(
    "Every minute, and at the end",
    """
    metrics:
      logger:
        push_interval: 1m
    """,
)


@metrics("logger", categories=("Utility",), examples=[EACH_MINUTE])
class LoggerMetrics:
    """Writes all metrics to the log at INFO, a line each, at intervals and when the collector stops.

    `/metrics` and `/stats` answer 404.
    """

    push_interval: Duration | None = field(
        default=None, doc="Time between two reports. Empty reports once, at the end."
    )
    flush_metrics: bool = field(
        default=False, doc="Report what was counted since the last report, not since the start."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[MetricsExporter]:
        """Reports now and then, and once more at the end."""
        reporter = _Reporter(self, env)
        try:
            async with asyncio.TaskGroup() as tasks:
                reporting = tasks.create_task(reporter.run())
                try:
                    yield reporter
                finally:
                    reporting.cancel()
        finally:
            reporter.report()


class _Reporter:
    def __init__(self, config: LoggerMetrics, env: Env) -> None:
        self._env = env
        self._store: MetricStore = env.metrics.store
        self._every = config.push_interval
        self._since_last = config.flush_metrics
        self._last: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def page(self, accept: str = "") -> Page | None:
        del accept
        return None

    async def run(self) -> None:
        while self._every is not None:
            await self._env.sleep(float(self._every))
            self.report()

    def report(self) -> None:
        """One line for each figure."""
        for _, sample, labels, value in self._store.samples():
            shown = value
            if self._since_last and "quantile" not in labels:
                key = sample, tuple(sorted(labels.items()))
                shown = value - self._last.get(key, 0.0)
                self._last[key] = value
            tags = {f"label_{key}": text for key, text in labels.items()}
            self._env.log.info("metric", name=sample, value=shown, **tags)

"""Shows metrics as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Env, Example, MetricsExporter, MetricStore, Page, metrics
from openmeter_collector.values import json

SHOWN = Example(
    "Metrics as JSON",
    """
    metrics:
      json_api: {}
    """,
)


@metrics("json_api", categories=("Services",), examples=[SHOWN])
class JsonApi:
    """Serves all metrics at `/metrics` and `/stats` as one JSON object.

    A key is the metric's name with its labels, `output_sent{label="",path="root.output"}`; a value is
    a number.
    """

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[MetricsExporter]:
        yield _Shown(env.metrics.store)


class _Shown:
    def __init__(self, store: MetricStore) -> None:
        self._store = store

    def page(self, accept: str = "") -> Page:
        del accept
        figures = {}
        for _, sample, labels, value in self._store.samples():
            inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
            figures[f"{sample}{{{inside}}}" if inside else sample] = (
                int(value) if value == int(value) else value
            )
        return Page("application/json", json.dumps(figures))

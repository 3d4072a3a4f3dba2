"""Counts something about messages."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal

from openmeter_collector.api import (
    Batch,
    ConfigError,
    Env,
    Example,
    Interpolated,
    Processor,
    field,
    processor,
)
from openmeter_collector.bloblang import MappingFailed

RECEIVED = Example(
    "Count events by type",
    """
    pipeline:
      processors:
        - metric:
            type: counter
            name: events_seen
            labels:
              type: ${! this.type.or("unknown") }
    """,
)
_MOST_SERIES: Final = 10_000
Kind = Literal["counter", "counter_by", "gauge", "timing"]


@processor("metric", categories=("Utility",), examples=[RECEIVED])
class Metric:
    """Adds a metric of your own, counted for each message. The messages pass unchanged.

    It carries the labels `label` and `path` of the processor beside its own. A value that is no
    number, or negative where that has no meaning, is not counted; the log says so once. After
    10,000 combinations of label values no new ones are added.
    """

    type: Kind = field(
        doc="What is counted.",
        choices={
            "counter": "One for each message; `value` is not looked at.",
            "counter_by": "`value` for each message.",
            "gauge": "Is `value` from then on.",
            "timing": "Observes `value`, in nanoseconds.",
        },
    )
    name: str = field(doc="What the metric is called.", minimum=1)
    labels: dict[str, Interpolated] = field(default_factory=dict, doc="Labels of the metric.")
    value: Interpolated = field(
        default_factory=lambda: Interpolated(""), doc="The number, where `type` asks for one."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield _Counting(self, env)


class _Counting:
    def __init__(self, config: Metric, env: Env) -> None:
        self._config = config
        self._env = env
        self._log = env.log
        self._names = sorted(config.labels)
        self._series: dict[tuple[str, ...], Callable[[float], None]] = {}
        self._complained: set[str] = set()
        static = [config.labels[name].static for name in self._names]
        self._simple: Callable[[float], None] | None = None
        if None not in static:
            # Made before the first message, so that a scrape shows it at 0.
            counted = self._make(tuple(text or "" for text in static))
            self._simple = counted if config.type == "counter" else None

    def process(self, batch: Batch) -> list[Batch]:
        if self._simple is not None:
            self._simple(len(batch))
            return [batch]
        for index in range(len(batch)):
            try:
                self._count(batch, index)
            except (MappingFailed, ValueError) as error:
                self._complain("not counted", str(error))
        return [batch]

    def _count(self, batch: Batch, index: int) -> None:
        config = self._config
        value = 1.0
        if config.type != "counter":
            value = _number(config.value.resolve(batch, index), config.type)
        key = tuple([config.labels[name].resolve(batch, index) for name in self._names])
        counted = self._series.get(key)
        if counted is None:
            if len(self._series) >= _MOST_SERIES:
                self._complain("too many series", f"more than {_MOST_SERIES} label values")
                return
            counted = self._make(key)
        counted(value)

    def _make(self, key: tuple[str, ...]) -> Callable[[float], None]:
        config, metrics = self._config, self._env.metrics
        labels = dict(zip(self._names, key, strict=True))
        counted: Callable[[float], None]
        try:
            if config.type == "gauge":
                counted = metrics.gauge(config.name, "", None, **labels).set
            elif config.type == "timing":
                counted = metrics.timer(config.name, "", **labels).observe
            else:
                counted = metrics.counter(config.name, "", **labels).add
        except ValueError as error:
            raise ConfigError(
                f"{self._env.node.where} metric: {error}; use another name"
            ) from error
        self._series[key] = counted
        return counted

    def _complain(self, what: str, why: str) -> None:
        if what not in self._complained:
            self._complained.add(what)
            self._log.error(f"metric {self._config.name}: {what}; said once", error=why)


def _number(text: str, kind: Kind) -> float:
    value = float(text)
    if not math.isfinite(value) or (value < 0 and kind != "gauge"):
        raise ValueError(f"{text!r} is no value for a {kind}")
    return value

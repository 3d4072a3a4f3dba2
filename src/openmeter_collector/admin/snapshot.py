"""What the live page shows, as plain values: gathered once a second for everybody who looks.

pipelines, metrics ──> Gatherer.sample() ──> state (a JSON object), history (plots)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final

from openmeter_collector import __version__
from openmeter_collector.component.buffer import BufferStatus
from openmeter_collector.component.node import Node
from openmeter_collector.engine.status import PipelineStatus
from openmeter_collector.telemetry.counters import MetricStore

HISTORY: Final = 180
"""Samples kept for plots: three minutes."""
_MOST_STAGES: Final = 200
_COUNTS: Final = {
    "input": ("input_received", "input_received"),
    "processor": ("processor_received", "processor_sent"),
    "buffer": ("buffer_received", "buffer_sent"),
    "output": ("output_sent", "output_sent"),
    "cache": ("cache_success", "cache_success"),
    "rate_limit": ("rate_limit_checked", "rate_limit_checked"),
}
_FAULTS: Final = {
    "processor": "processor_error",
    "output": "output_error",
    "cache": "cache_error",
    "rate_limit": "rate_limit_error",
}


@dataclass(slots=True)
class _Past:
    """What one pipeline did lately."""

    moments: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    received: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    delivered: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    backlog: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    held_bytes: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))


class Gatherer:
    """Keeps the last state, and the past that plots need."""

    def __init__(
        self,
        pipelines: Callable[[], Mapping[str, PipelineStatus]],
        metrics: MetricStore,
        leadership: Callable[[], Mapping[str, Any] | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pipelines = pipelines
        self._metrics = metrics
        self._leadership = leadership
        self._clock = clock
        self._began = clock()
        self._past: dict[str, _Past] = {}
        self._before: tuple[float, dict[tuple[str, str, str], float]] = (self._began, {})

    def sample(self) -> dict[str, Any]:
        """The state now. Rates are those since the last call."""
        now = self._clock()
        counts = self._counts()
        earlier, then = self._before
        seconds = max(now - earlier, 1e-3)
        self._before = (now, counts)

        def rate(key: tuple[str, str, str]) -> float:
            return max(0.0, counts.get(key, 0.0) - then.get(key, 0.0)) / seconds

        pipelines = dict(self._pipelines())
        self._past = {name: self._past.get(name, _Past()) for name in pipelines}
        shown = {
            name: self._pipeline(name, status, counts, rate, now)
            for name, status in pipelines.items()
        }
        # Resources belong to the process, so their metrics carry the name of no stream.
        resources = [_stage(node, depth, "", counts, rate) for depth, node in shared(pipelines)]
        leadership = self._leadership()
        return {
            "version": __version__,
            "now": now,
            "uptime": now - self._began,
            "ready": bool(shown) and not any(one["problems"] for one in shown.values()),
            "leadership": None if leadership is None else dict(leadership),
            "pipelines": shown,
            "resources": resources,
        }

    def _counts(self) -> dict[tuple[str, str, str], float]:
        """Sums by (stream, path, metric), with latencies as `name|quantile`."""
        wanted = {name for pair in _COUNTS.values() for name in pair} | set(_FAULTS.values())
        found: dict[tuple[str, str, str], float] = {}
        for family, _, labels, value in self._metrics.samples():
            stream, path = labels.get("stream", ""), labels.get("path", "")
            if family in wanted:
                key = (stream, path, family)
                found[key] = found.get(key, 0.0) + value
            elif family.endswith("_latency_ns") and labels.get("quantile") in {"0.5", "0.99"}:
                found[(stream, path, f"latency|{labels['quantile']}")] = value
        return found

    def _pipeline(
        self,
        name: str,
        status: PipelineStatus,
        counts: Mapping[tuple[str, str, str], float],
        rate: Callable[[tuple[str, str, str]], float],
        now: float,
    ) -> dict[str, Any]:
        stages = [_stage(node, depth, name, counts, rate) for depth, node in drawn(status.stages)]
        past = self._past[name]
        buffer = status.buffer() if status.buffer is not None else None
        past.moments.append(now)
        past.received.append(sum(s["rate_in"] for s in stages[:1]))
        past.delivered.append(next((s["rate_out"] for s in stages if s["kind"] == "output"), 0.0))
        past.backlog.append(buffer.events if buffer else 0)
        past.held_bytes.append(buffer.size_bytes if buffer else 0)
        delivery = status.delivery
        return {
            "stages": stages,
            "problems": status.problems(now),
            "input": {"connected": status.input.connected, "error": status.input.error},
            "output": {"connected": status.output.connected, "error": status.output.error},
            "delivery": {
                "delivered": delivery.delivered,
                "in_flight": delivery.in_flight,
                "last_success": delivery.last_success,
                "last_failure": delivery.last_failure,
                "last_error": delivery.last_error,
                "last_refused": delivery.last_refused,
                "last_refusal": delivery.last_refusal,
                "paused": delivery.paused,
            },
            "backlog": None
            if buffer is None
            else {
                "events": buffer.events,
                "bytes": buffer.size_bytes,
                "oldest_age": buffer.oldest_age,
                "dead_letters": buffer.dead_letters,
                "free_bytes": buffer.free_bytes,
                "room_bytes": _room(buffer),
                "failure": buffer.failure,
                "durable": buffer.durable,
                "seconds_to_drained": _seconds_to_zero(past.moments, past.backlog),
                "seconds_to_full": _seconds_to_full(past.moments, past.held_bytes, _room(buffer)),
            },
            "plots": {
                "received": [round(one, 1) for one in past.received],
                "delivered": [round(one, 1) for one in past.delivered],
                "backlog": list(past.backlog),
            },
        }


def shared(pipelines: Mapping[str, PipelineStatus]) -> list[tuple[int, Node]]:
    """Resources of all pipelines, each once, with what is inside them."""
    found = {id(node): node for status in pipelines.values() for node in status.resources}
    return list(drawn(list(found.values())))


def drawn(stages: Sequence[Node]) -> Iterator[tuple[int, Node]]:
    """Stages with what is inside them, each with how deep it is; not more than fit on a page."""
    left = _MOST_STAGES

    def walk(node: Node, depth: int) -> Iterator[tuple[int, Node]]:
        nonlocal left
        if left <= 0:
            return
        left -= 1
        yield depth, node
        for child in children(node.config):
            yield from walk(child, depth + 1)

    for node in stages:
        yield from walk(node, 0)


def children(value: object) -> Iterator[Node]:
    """Components in a component's config, not those inside of them."""
    if isinstance(value, Node):
        yield value
        yield from value.processors
    elif isinstance(value, list | tuple):
        for one in value:
            yield from children(one)
    elif isinstance(value, dict):
        yield from children(list(value.values()))
    elif is_dataclass(value):
        for one in fields(value):
            yield from children(getattr(value, one.name, None))


def journal_path(status: PipelineStatus) -> str | None:
    """The file of a pipeline's journal, when it has one."""
    for node in status.stages:
        if node.kind == "buffer" and node.name == "sqlite":
            return str(getattr(node.config, "path", "")) or None
    return None


def _stage(
    node: Node,
    depth: int,
    stream: str,
    counts: Mapping[tuple[str, str, str], float],
    rate: Callable[[tuple[str, str, str]], float],
) -> dict[str, Any]:
    taken, given = _COUNTS.get(node.kind, ("", ""))
    faults = _FAULTS.get(node.kind, "")

    def key(metric: str) -> tuple[str, str, str]:
        return (stream, node.path, metric)

    return {
        "kind": node.kind,
        "name": node.name,
        "label": node.label,
        "path": node.path,
        "depth": depth,
        "total": counts.get(key(given), 0.0),
        "errors": counts.get(key(faults), 0.0) if faults else 0.0,
        "rate_in": rate(key(taken)) if taken else 0.0,
        "rate_out": rate(key(given)) if given else 0.0,
        "p50_ms": counts.get(key("latency|0.5"), 0.0) / 1e6,
        "p99_ms": counts.get(key("latency|0.99"), 0.0) / 1e6,
    }


def _slope(moments: Sequence[float], values: Sequence[float]) -> float:
    """Change a second over the last half minute."""
    first = max(0, len(moments) - 30)
    if len(moments) - first < 2:
        return 0.0
    span = moments[-1] - moments[first]
    return (values[-1] - values[first]) / span if span > 0 else 0.0


def _seconds_to_zero(moments: Sequence[float], values: Sequence[float]) -> float | None:
    slope = _slope(list(moments), list(values))
    return values[-1] / -slope if values and values[-1] and slope < 0 else None


def _seconds_to_full(
    moments: Sequence[float], held: Sequence[float], room: int | None
) -> float | None:
    slope = _slope(list(moments), list(held))
    return room / slope if room is not None and slope > 0 else None


def _room(buffer: BufferStatus) -> int | None:
    return buffer.free_bytes if buffer.room_bytes is None else buffer.room_bytes

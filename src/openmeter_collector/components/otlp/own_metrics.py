"""The collector's own metrics as OTLP requests, with exact cumulative sums.

A snapshot is numbers only, taken in one go between two turns of the event loop; requests are made of it
afterwards, one by one, so that none keeps the loop for long. A sum is told since when it counts: since the last snapshot before the metric
was there. So a metric that goes and comes again (a stream that is removed and added) is no step
backwards for whoever reads, but a new count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from openmeter_collector.api import Counter, Gauge, MetricStore, Timer
from openmeter_collector.components.otlp.library import Otlp
from openmeter_collector.telemetry.counters import Child, Histogram, Sampled

MOST_POINTS: Final = 500
"""Data points in one request: a few milliseconds to make, a hundred kilobytes to take."""
_CUMULATIVE: Final = 2
_LARGEST: Final = 2.0**63

_Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Point:
    """One metric as it was at one moment.

    Attributes:
        value: of a counter or gauge; the sum of a histogram.
        counts: of the buckets of a histogram.
        since: Unix nanoseconds from which on it was counted.
    """

    labels: Mapping[str, str]
    value: float
    since: int
    counts: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()
    examples: tuple[tuple[float, Sampled], ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics of one name. `unit` is that of its values."""

    name: str
    kind: str
    doc: str
    unit: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All metrics at one moment, in Unix nanoseconds."""

    at: int
    families: Sequence[Family]


class Snapshots:
    """Takes them, each later than the one before."""

    def __init__(self, store: MetricStore, at: int) -> None:
        """`at`: the moment from which on all of them count, in Unix nanoseconds."""
        self._store = store
        self._last = at
        self._known: dict[_Key, tuple[Child, int]] = {}

    def take(self, at: int) -> Snapshot:
        """All metrics as they are now."""
        at = max(at, self._last + 1)  # a clock that is set back does not undo what was told
        known: dict[_Key, tuple[Child, int]] = {}
        families = []
        for name, kind, doc, children in self._store.families():
            unit = "ns" if name.endswith("_ns") else ""
            points = []
            for labels, child in children:
                key = name, tuple(labels.items())
                before = self._known.get(key)
                since = before[1] if before is not None and before[0] is child else self._last
                known[key] = child, since
                points.append(_point(labels, child, since, 1e9 if unit == "ns" else 1.0))
            families.append(Family(name, kind, doc, unit, points))
        self._known = known
        self._last = at
        return Snapshot(at, families)


def _point(labels: Mapping[str, str], child: Child, since: int, scale: float) -> Point:
    if isinstance(child, Histogram):
        return Point(
            labels,
            child.total * scale,
            since,
            tuple(child.counts),
            tuple(bound * scale for bound in child.bounds),
            tuple((value * scale, sampled) for value, sampled in child.examples.values()),
        )
    if isinstance(child, Timer):  # without buckets there is only how many, and how long together
        return Point(labels, child.total, since, (child.count,))
    assert isinstance(child, Counter | Gauge)
    return Point(labels, child.value if isinstance(child, Counter) else child.read(), since)


def requests(
    otlp: Otlp, snapshot: Snapshot, resource: Mapping[str, str]
) -> Iterator[tuple[bytes, int]]:
    """Finished requests with the number of points in each. What is empty makes none."""
    request, into = _begun(otlp, resource)
    points = 0
    for family in snapshot.families:
        for start in range(0, len(family.points), MOST_POINTS):
            some = family.points[start : start + MOST_POINTS]
            if points and points + len(some) > MOST_POINTS:
                yield request.SerializeToString(), points
                request, into = _begun(otlp, resource)
                points = 0
            _write(into.metrics.add(), family, some, snapshot.at)
            points += len(some)
    if points:
        yield request.SerializeToString(), points


def _begun(otlp: Otlp, resource: Mapping[str, str]) -> tuple[Any, Any]:
    request = otlp.metrics_service.ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    _attributes(of_resource.resource.attributes, resource)
    into = of_resource.scope_metrics.add()
    into.scope.name = "openmeter_collector"
    return request, into


def _write(metric: Any, family: Family, points: Sequence[Point], at: int) -> None:
    metric.name, metric.description, metric.unit = family.name, family.doc, family.unit
    if family.kind in {"histogram", "summary"}:
        metric.histogram.aggregation_temporality = _CUMULATIVE
        for point in points:
            made = metric.histogram.data_points.add()
            _head(made, point, at)
            made.count = sum(point.counts)
            made.sum = point.value
            made.bucket_counts.extend(point.counts)
            made.explicit_bounds.extend(point.bounds)
            for value, sampled in point.examples:
                made.exemplars.add(
                    as_double=value,
                    time_unix_nano=int(sampled.time * 1e9),
                    trace_id=bytes.fromhex(sampled.trace_id),
                    span_id=bytes.fromhex(sampled.span_id),
                )
        return
    if family.kind == "counter":
        metric.sum.aggregation_temporality = _CUMULATIVE
        metric.sum.is_monotonic = True
    into = metric.sum if family.kind == "counter" else metric.gauge
    for point in points:
        made = into.data_points.add()
        _head(made, point, at)
        if family.kind != "counter":
            made.ClearField("start_time_unix_nano")
        if point.value.is_integer() and abs(point.value) < _LARGEST:
            made.as_int = int(point.value)
        else:
            made.as_double = point.value


def _head(made: Any, point: Point, at: int) -> None:
    made.start_time_unix_nano, made.time_unix_nano = point.since, at
    _attributes(made.attributes, point.labels)


def _attributes(into: Any, labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        into.add(key=key).value.string_value = value

"""Plain values as records of OTLP: the way back of `reading`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from openmeter_collector.components.otlp.library import Otlp

_INT64: Final = range(-(2**63), 2**63)
_TEMPORALITY: Final = {"delta": 1, "cumulative": 2}
_LOG_NUMBERS: Final = ("time_unix_nano", "observed_time_unix_nano", "severity_number", "flags")
_DEEP: Final = 32


def set_any(target: Any, value: Any, depth: int = 0) -> None:
    """Put a plain value into an `AnyValue`. An integer beyond 64 bits becomes text.

    Raises:
        ValueError: nested too deeply, or no JSON value.
    """
    if depth > _DEEP:
        raise ValueError(f"it is nested more than {_DEEP} deep")
    if value is None:
        return
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        if value in _INT64:
            target.int_value = value
        else:
            target.string_value = str(value)
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, bytes):
        target.bytes_value = value
    elif isinstance(value, list):
        target.array_value.SetInParent()
        for one in value:
            set_any(target.array_value.values.add(), one, depth + 1)
    elif isinstance(value, Mapping):
        target.kvlist_value.SetInParent()
        set_attributes(target.kvlist_value.values, value, depth + 1)
    else:
        raise ValueError(f"{type(value).__name__} is no JSON value")  # noqa: TRY004 - of the data


def set_attributes(target: Any, values: Any, depth: int = 0) -> None:
    """Add a mapping to a list of `KeyValue`."""
    if not isinstance(values, Mapping):
        raise ValueError("attributes are no object")  # noqa: TRY004 - of the data
    for key, value in values.items():
        set_any(target.add(key=key).value, value, depth)


class Groups:
    """Records put together by their resource and scope, as a request wants them."""

    def __init__(self, top: Any, inner: str) -> None:
        """`top` is the request's list of resources, `inner` the name of their list of scopes."""
        self._top = top
        self._inner = inner
        self._resources: dict[bytes, Any] = {}
        self._scopes: dict[tuple[bytes, bytes], Any] = {}

    def place(self, value: Mapping[str, Any]) -> Any:
        """Where a record of this resource and scope belongs."""
        resource, scope = value.get("resource") or {}, value.get("scope") or {}
        outer, inner = _key(resource), _key(scope)
        found = self._scopes.get((outer, inner))
        if found is None:
            found = getattr(self._resource(outer, resource), self._inner).add()
            _set_scope(found, scope)
            self._scopes[outer, inner] = found
        return found

    def _resource(self, key: bytes, value: Mapping[str, Any]) -> Any:
        found = self._resources.get(key)
        if found is None:
            found = self._resources[key] = self._top.add()
            set_attributes(found.resource.attributes, value.get("attributes") or {})
            found.schema_url = str(value.get("schema_url", ""))
        return found


def _set_scope(target: Any, scope: Mapping[str, Any]) -> None:
    target.scope.name = str(scope.get("name", ""))
    target.scope.version = str(scope.get("version", ""))
    set_attributes(target.scope.attributes, scope.get("attributes") or {})
    target.schema_url = str(scope.get("schema_url", ""))


def logs_request(otlp: Otlp, values: Iterable[Any], now: float) -> Any:
    """An export request with a log record for each value: one in the shape of the inputs `otlp`, or
    anything else, which becomes the body of a record observed now.

    Raises:
        ValueError, TypeError: a value cannot be said so.
    """
    request = otlp.logs_service.ExportLogsServiceRequest()
    groups = Groups(request.resource_logs, "scope_logs")
    for value in values:
        if isinstance(value, Mapping) and isinstance(value.get("record"), Mapping):
            _set_log(groups.place(value).log_records.add(), value["record"])
        else:
            record = groups.place({}).log_records.add(observed_time_unix_nano=int(now * 1e9))
            set_any(record.body, value)
    return request


def _set_log(target: Any, record: Mapping[str, Any]) -> None:
    for name in _LOG_NUMBERS:
        if record.get(name):
            setattr(target, name, record[name])
    for name in ("severity_text", "event_name"):
        if record.get(name):
            setattr(target, name, str(record[name]))
    for name in ("trace_id", "span_id"):
        if record.get(name):
            setattr(target, name, bytes.fromhex(record[name]))
    if "body" in record:
        set_any(target.body, record["body"])
    set_attributes(target.attributes, record.get("attributes") or {})


def metrics_request(otlp: Otlp, values: Iterable[Any]) -> Any:
    """An export request with a data point for each value, in the shape of the input `otlp`.

    Raises:
        ValueError, TypeError, KeyError: a value has not that shape.
    """
    request = otlp.metrics_service.ExportMetricsServiceRequest()
    groups = Groups(request.resource_metrics, "scope_metrics")
    metrics: dict[tuple[int, bytes], Any] = {}
    for value in values:
        about, point = value["metric"], value["point"]
        scope = groups.place(value)
        key = (id(scope), _key(about))
        if key not in metrics:
            metrics[key] = _add_metric(scope, about)
        _set_point(metrics[key].data_points.add(), point, about["type"])
    return request


def _add_metric(scope: Any, about: Mapping[str, Any]) -> Any:
    """The data of a new metric."""
    kind = about["type"]
    if kind not in {"gauge", "sum", "histogram", "exponential_histogram", "summary"}:
        raise ValueError(f"{kind!r} is no kind of metric")
    metric = scope.metrics.add(
        name=str(about["name"]),
        description=str(about.get("description", "")),
        unit=str(about.get("unit", "")),
    )
    data = getattr(metric, kind)
    data.SetInParent()
    if kind in {"sum", "histogram", "exponential_histogram"}:
        data.aggregation_temporality = _TEMPORALITY.get(about.get("temporality", ""), 0)
    if kind == "sum":
        data.is_monotonic = bool(about.get("monotonic", False))
    return data


def _set_point(target: Any, point: Mapping[str, Any], kind: str) -> None:
    for name in ("start_time_unix_nano", "time_unix_nano", "flags"):
        if point.get(name):
            setattr(target, name, point[name])
    set_attributes(target.attributes, point.get("attributes") or {})
    if kind in {"gauge", "sum"}:
        value = point["value"]
        if isinstance(value, int) and not isinstance(value, bool) and value in _INT64:
            target.as_int = value
        else:
            target.as_double = float(value)
        return
    target.count = point["count"]
    for name in ("sum", "min", "max") if kind != "summary" else ("sum",):
        if name in point:
            setattr(target, name, float(point[name]))
    if kind == "histogram":
        target.explicit_bounds.extend(float(one) for one in point.get("bounds", ()))
        target.bucket_counts.extend(point.get("bucket_counts", ()))
    elif kind == "exponential_histogram":
        target.scale = point.get("scale", 0)
        target.zero_count = point.get("zero_count", 0)
        target.zero_threshold = float(point.get("zero_threshold", 0))
        for side in ("positive", "negative"):
            buckets = point.get(side) or {}
            getattr(target, side).offset = buckets.get("offset", 0)
            getattr(target, side).bucket_counts.extend(buckets.get("bucket_counts", ()))
    else:
        for one in point.get("quantiles", ()):
            target.quantile_values.add(quantile=float(one["quantile"]), value=float(one["value"]))


def _key(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

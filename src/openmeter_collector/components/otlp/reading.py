"""Records of OTLP as plain values: one JSON document a log record, data point or span.

Two shapes. The `otel_log` shape is the published one: what is empty is left out, ids are base64. The
`otlp` shape adds times in words, ids in hexadecimal as OTLP/JSON has them, and what the other lacks.

What many records share (resource, scope, metric) is made and encoded once, and never changed after.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import xxhash

from openmeter_collector.values import json
from openmeter_collector.values.moment import nanoseconds_text

_NO_VALUE: Final = 1
"""Flag of a data point that only says that its series has ended."""
_TEMPORALITY: Final = ("unspecified", "delta", "cumulative")
_SPAN_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")
_LOG_FIELDS: Final = (
    "time_unix_nano",
    "observed_time_unix_nano",
    "severity_number",
    "severity_text",
    "event_name",
    "flags",
    "dropped_attributes_count",
)


class Record(NamedTuple):
    """One record.

    Attributes:
        value: the document.
        content: the same, encoded with sorted keys.
        identity: the same for the same record, however often and by which way it comes.
    """

    value: dict[str, Any]
    content: bytes
    identity: str


def identity_of(content: bytes) -> str:
    """128 bits of a record's content, in hexadecimal."""
    return xxhash.xxh3_128_hexdigest(content)


class _Part(NamedTuple):
    """Something that many records share: its key, its value, and both as JSON text."""

    key: str
    value: dict[str, Any]
    text: bytes


def _part(key: str, value: dict[str, Any]) -> _Part:
    return _Part(key, value, f'"{key}":'.encode() + json.dumps(value))


class _Shared(NamedTuple):
    """All that is around the own parts of some records.

    Attributes:
        key: where the own part stands.
        value: the document without it.
        before, after: the same as JSON text, so that only the own part has to be encoded.
    """

    key: str
    value: dict[str, Any]
    before: bytes
    after: bytes


def _around(key: str, parts: tuple[_Part, ...], signal: str = "") -> _Shared:
    """What is around parts called `key`, in the order of keys."""
    value: dict[str, Any] = {part.key: part.value for part in parts}
    texts = {part.key: part.text for part in parts}
    if signal:
        value["signal"] = signal
        texts["signal"] = f'"signal":"{signal}"'.encode()
    before = b"".join(texts[one] + b"," for one in sorted(texts) if one < key)
    after = b"".join(b"," + texts[one] for one in sorted(texts) if one > key)
    return _Shared(key, value, b"{" + before + f'"{key}":'.encode(), after + b"}")


def _record(shared: _Shared, own: dict[str, Any]) -> Record:
    content = shared.before + json.dumps(own) + shared.after
    return Record({**shared.value, shared.key: own}, content, identity_of(content))


# ---- values -----------------------------------------------------------------------------------


def number(value: float) -> float | str:
    """A double as JSON can say it: whole numbers without a fraction, the odd ones as text."""
    if value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124 - the test for NaN
    if value.is_integer() and -(2.0**53) <= value <= 2.0**53:
        return int(value)
    return value


def any_value(given: Any) -> Any:
    """An `AnyValue` as a plain value; bytes as base64."""
    kind = given.WhichOneof("value")
    if kind == "string_value":
        return given.string_value
    if kind == "int_value":
        return given.int_value
    if kind == "bool_value":
        return given.bool_value
    if kind == "double_value":
        return number(given.double_value)
    if kind == "array_value":
        return [any_value(one) for one in given.array_value.values]
    if kind == "kvlist_value":
        return attributes(given.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(given.bytes_value).decode()
    return None


def attributes(given: Any) -> dict[str, Any]:
    """A list of `KeyValue` as a mapping; the last of equal keys counts."""
    return {one.key: any_value(one.value) for one in given}


def _some(**fields: Any) -> dict[str, Any]:
    """What is there: no empty text, no zero, no empty mapping."""
    return {key: value for key, value in fields.items() if value}


# ---- the published shape of `otel_log` --------------------------------------------------------


def published_logs(request: Any) -> Iterator[Record]:
    """One document per log record, in the shape of `otel_log`."""
    for of_resource in request.resource_logs:
        resource: tuple[_Part, ...] = ()
        if of_resource.HasField("resource"):
            resource = (_part("resource", _published(of_resource.resource)),)
        for of_scope in of_resource.scope_logs:
            shared = resource
            if of_scope.HasField("scope"):
                scope = of_scope.scope
                about = _some(name=scope.name, version=scope.version) | _published(scope)
                shared = (*resource, _part("scope", about))
            around = _around("record", shared)
            for record in of_scope.log_records:
                yield _record(around, _published_record(record))


def _published(given: Any) -> dict[str, Any]:
    return _some(
        attributes=attributes(given.attributes),
        dropped_attributes_count=given.dropped_attributes_count,
    )


def _published_record(given: Any) -> dict[str, Any]:
    made = _some(
        time_unix_nano=given.time_unix_nano,
        observed_time_unix_nano=given.observed_time_unix_nano,
        severity_number=given.severity_number,
        severity_text=given.severity_text,
        attributes=attributes(given.attributes),
        dropped_attributes_count=given.dropped_attributes_count,
        flags=given.flags,
        trace_id=base64.b64encode(given.trace_id).decode(),
        span_id=base64.b64encode(given.span_id).decode(),
    )
    body = any_value(given.body) if given.HasField("body") else None
    if body is not None:
        made["body"] = body
    return made


# ---- the shape of `otlp` ----------------------------------------------------------------------


def logs(request: Any) -> Iterator[Record]:
    """One document per log record."""
    for of_resource in request.resource_logs:
        resource = _resource(of_resource)
        for of_scope in of_resource.scope_logs:
            around = _around("record", (resource, _scope(of_scope)), "logs")
            for record in of_scope.log_records:
                yield _record(around, _log(record))


def _log(given: Any) -> dict[str, Any]:
    """A log record; the hot path, so what is missing is asked for one by one."""
    made: dict[str, Any] = {"attributes": attributes(given.attributes)}
    for name in _LOG_FIELDS:
        found = getattr(given, name)
        if found:
            made[name] = found
    if given.trace_id:
        made["trace_id"] = given.trace_id.hex()
    if given.span_id:
        made["span_id"] = given.span_id.hex()
    happened = given.time_unix_nano or given.observed_time_unix_nano
    if happened:
        made["time"] = nanoseconds_text(happened)
    if given.HasField("body"):
        made["body"] = any_value(given.body)
    return made


def spans(request: Any) -> Iterator[Record]:
    """One document per span. Its identity is its two ids."""
    for of_resource in request.resource_spans:
        resource = _resource(of_resource)
        for of_scope in of_resource.scope_spans:
            around = _around("span", (resource, _scope(of_scope)), "traces")
            for given in of_scope.spans:
                made = _record(around, _span(given))
                if given.trace_id and given.span_id:
                    made = made._replace(identity=f"{given.trace_id.hex()}-{given.span_id.hex()}")
                yield made


def _span(given: Any) -> dict[str, Any]:
    start, end = given.start_time_unix_nano, given.end_time_unix_nano
    made = _some(
        trace_id=given.trace_id.hex(),
        span_id=given.span_id.hex(),
        parent_span_id=given.parent_span_id.hex(),
        trace_state=given.trace_state,
        flags=given.flags,
        start_time_unix_nano=start,
        end_time_unix_nano=end,
        dropped_attributes_count=given.dropped_attributes_count,
        events=[_event(one) for one in given.events],
        links=[_link(one) for one in given.links],
    )
    if start:
        made["start_time"] = nanoseconds_text(start)
    if end:
        made["end_time"] = nanoseconds_text(end)
    made["name"] = given.name
    made["kind"] = _word(_SPAN_KINDS, given.kind)
    made["duration_nano"] = max(0, end - start)
    made["attributes"] = attributes(given.attributes)
    made["status"] = {"code": _word(_STATUSES, given.status.code)} | _some(
        message=given.status.message
    )
    return made


def _event(given: Any) -> dict[str, Any]:
    made = {"name": given.name, "attributes": attributes(given.attributes)}
    return made | _time_of(given.time_unix_nano)


def _link(given: Any) -> dict[str, Any]:
    ids = _some(
        trace_id=given.trace_id.hex(), span_id=given.span_id.hex(), trace_state=given.trace_state
    )
    return ids | {"attributes": attributes(given.attributes)}


def metrics(request: Any) -> Iterator[tuple[Record, Any]]:
    """One document per data point, with the point it was made of. A point that only says that its
    series has ended has no value and is left out.
    """
    for of_resource in request.resource_metrics:
        resource = _resource(of_resource)
        for of_scope in of_resource.scope_metrics:
            scope = _scope(of_scope)
            for metric in of_scope.metrics:
                kind = metric.WhichOneof("data")
                if kind is None:
                    continue
                data = getattr(metric, kind)
                parts = (_part("metric", _metric(metric, kind, data)), resource, scope)
                around = _around("point", parts, "metrics")
                read = _POINTS[kind]
                for point in data.data_points:
                    if not point.flags & _NO_VALUE:
                        yield _record(around, _point(point, read)), point


def with_point(record: Record, metric: Mapping[str, Any], point: Mapping[str, Any]) -> Record:
    """The same record with other facts about its metric and its point."""
    value = record.value
    shared = tuple(
        _part(key, {**value[key], **metric} if key == "metric" else value[key])
        for key in ("metric", "resource", "scope")
    )
    return _record(_around("point", shared, "metrics"), {**value["point"], **point})


def _metric(metric: Any, kind: str, data: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"name": metric.name, "type": kind}
    made |= _some(
        description=metric.description, unit=metric.unit, metadata=attributes(metric.metadata)
    )
    if kind in {"sum", "histogram", "exponential_histogram"}:
        made["temporality"] = _word(_TEMPORALITY, data.aggregation_temporality)
    if kind == "sum":
        made["monotonic"] = data.is_monotonic
    return made


def _point(given: Any, read: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    made = _time_of(given.time_unix_nano) | read(given)
    if given.start_time_unix_nano:
        made["start_time_unix_nano"] = given.start_time_unix_nano
        made["start_time"] = nanoseconds_text(given.start_time_unix_nano)
    made["attributes"] = attributes(given.attributes)
    if given.flags:
        made["flags"] = given.flags
    return made


def _single(given: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"value": _number_of(given)}
    return made | _exemplars(given)


def _number_of(given: Any) -> Any:
    """The number of a point or an exemplar, an integer exactly as it was sent."""
    kind = given.WhichOneof("value")
    if kind == "as_int":
        return given.as_int
    return number(given.as_double) if kind == "as_double" else None


def _histogram(given: Any) -> dict[str, Any]:
    made = _distribution(given)
    made["bounds"] = [number(one) for one in given.explicit_bounds]
    made["bucket_counts"] = list(given.bucket_counts)
    return made | _exemplars(given)


def _exponential(given: Any) -> dict[str, Any]:
    made = _distribution(given)
    made["scale"] = given.scale
    made["zero_count"] = given.zero_count
    made["zero_threshold"] = number(given.zero_threshold)
    for side in ("positive", "negative"):
        buckets = getattr(given, side)
        if buckets.bucket_counts:
            counts = list(buckets.bucket_counts)
            made[side] = {"offset": buckets.offset, "bucket_counts": counts}
    return made | _exemplars(given)


def _distribution(given: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"count": given.count}
    for name in ("sum", "min", "max"):
        if given.HasField(name):
            made[name] = number(getattr(given, name))
    return made


def _summary(given: Any) -> dict[str, Any]:
    quantiles = [
        {"quantile": number(one.quantile), "value": number(one.value)}
        for one in given.quantile_values
    ]
    return {"count": given.count, "sum": number(given.sum), "quantiles": quantiles}


def _exemplars(given: Any) -> dict[str, Any]:
    if not given.exemplars:
        return {}
    return {
        "exemplars": [
            _time_of(one.time_unix_nano)
            | {"value": _number_of(one), "attributes": attributes(one.filtered_attributes)}
            | _some(trace_id=one.trace_id.hex(), span_id=one.span_id.hex())
            for one in given.exemplars
        ]
    }


_POINTS: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    "gauge": _single,
    "sum": _single,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
    "summary": _summary,
}


def _resource(given: Any) -> _Part:
    about = given.resource
    made: dict[str, Any] = {"attributes": attributes(about.attributes)}
    made |= _some(
        dropped_attributes_count=about.dropped_attributes_count, schema_url=given.schema_url
    )
    return _part("resource", made)


def _scope(given: Any) -> _Part:
    about = given.scope
    made = _some(
        name=about.name,
        version=about.version,
        attributes=attributes(about.attributes),
        dropped_attributes_count=about.dropped_attributes_count,
        schema_url=given.schema_url,
    )
    return _part("scope", made)


def _time_of(nanoseconds: int) -> dict[str, Any]:
    if not nanoseconds:
        return {}
    return {"time_unix_nano": nanoseconds, "time": nanoseconds_text(nanoseconds)}


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if 0 <= number < len(words) else str(number)

"""What becomes of a log record, a data point and a span."""

import json
import math

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kit.otlp import counter_request, log_request
from openmeter_collector.components.inputs.otlp_receive import messages
from openmeter_collector.components.otlp import reading

TRACE, SPAN = bytes(range(16)), bytes(range(8))


def only(records):
    (record,) = records
    assert json.loads(record.content) == record.value
    return record.value


def full_log():
    request = log_request(
        "served",
        resource={"service.name": "api"},
        time_unix_nano=1_700_000_000_123_456_789,
        observed_time_unix_nano=1_700_000_001_000_000_000,
        severity_number=9,
        severity_text="INFO",
        trace_id=TRACE,
        span_id=SPAN,
        flags=1,
        dropped_attributes_count=2,
    )
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    given = record.attributes
    given.add(key="text").value.string_value = "<a>"
    given.add(key="whole").value.int_value = 2**62 + 1
    given.add(key="yes").value.bool_value = True
    given.add(key="half").value.double_value = 0.5
    given.add(key="two").value.double_value = 2.0
    given.add(key="odd").value.double_value = math.nan
    given.add(key="far").value.double_value = -math.inf
    given.add(key="bytes").value.bytes_value = b"\xff\x00"
    given.add(key="nothing")
    given.add(key="list").value.array_value.values.add(int_value=1)
    inner = given.add(key="map").value.kvlist_value.values.add(key="k")
    inner.value.string_value = "v"
    return request


ATTRIBUTES = {
    "text": "<a>",
    "whole": 2**62 + 1,
    "yes": True,
    "half": 0.5,
    "two": 2,
    "odd": "NaN",
    "far": "-Infinity",
    "bytes": "/wA=",
    "nothing": None,
    "list": [1],
    "map": {"k": "v"},
}


def test_the_published_shape_of_a_log_record_is_kept():
    assert only(reading.published_logs(full_log())) == {
        "resource": {"attributes": {"service.name": "api"}},
        "scope": {"name": "lib"},
        "record": {
            "time_unix_nano": 1_700_000_000_123_456_789,
            "observed_time_unix_nano": 1_700_000_001_000_000_000,
            "severity_number": 9,
            "severity_text": "INFO",
            "body": "served",
            "attributes": ATTRIBUTES,
            "dropped_attributes_count": 2,
            "flags": 1,
            "trace_id": "AAECAwQFBgcICQoLDA0ODw==",
            "span_id": "AAECAwQFBgc=",
        },
    }


def test_the_published_shape_leaves_out_what_is_empty_but_not_an_empty_body():
    request = log_request("", scope="")
    assert only(reading.published_logs(request)) == {"scope": {}, "record": {"body": ""}}


def test_a_log_record_of_otlp_has_hexadecimal_ids_and_times_in_words():
    value = only(reading.logs(full_log()))
    assert value["signal"] == "logs"
    assert value["record"]["trace_id"] == TRACE.hex()
    assert value["record"]["span_id"] == SPAN.hex()
    assert value["record"]["time"] == "2023-11-14T22:13:20.123456789Z"
    assert value["record"]["attributes"] == ATTRIBUTES
    assert value["resource"] == {"attributes": {"service.name": "api"}}


def test_a_record_without_a_time_has_that_of_its_observation():
    value = only(reading.logs(log_request("x", observed_time_unix_nano=10**18)))
    assert value["record"]["time"] == "2001-09-09T01:46:40Z"
    assert "time_unix_nano" not in value["record"]


def test_an_integer_counter_is_exact():
    record, _ = next(reading.metrics(counter_request(("c", 1, 2, 2**62 + 1))))
    assert record.value["point"]["value"] == 2**62 + 1
    assert record.value["metric"] == {
        "name": "requests",
        "type": "sum",
        "temporality": "cumulative",
        "monotonic": True,
    }


def test_points_of_histograms_have_their_buckets():
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    plain = metrics.add(name="h", unit="ms").histogram
    plain.aggregation_temporality = 1
    plain.data_points.add(
        count=3, sum=4.5, min=1, max=2, explicit_bounds=[1, 2.5], bucket_counts=[1, 2, 0]
    )
    exponential = metrics.add(name="e").exponential_histogram
    point = exponential.data_points.add(count=2, scale=3, zero_count=1)
    point.positive.offset = -1
    point.positive.bucket_counts.extend([1, 0])
    summary = metrics.add(name="s").summary.data_points.add(count=1, sum=2)
    summary.quantile_values.add(quantile=0.5, value=2)
    metrics.add(name="g").gauge.data_points.add(as_double=1.5)
    metrics.add(name="nothing")
    made = {
        value["metric"]["name"]: value
        for value in (record.value for record, _ in reading.metrics(request))
    }
    assert made["h"]["metric"] == {
        "name": "h",
        "type": "histogram",
        "unit": "ms",
        "temporality": "delta",
    }
    assert made["h"]["point"] == {
        "count": 3,
        "sum": 4.5,
        "min": 1,
        "max": 2,
        "bounds": [1, 2.5],
        "bucket_counts": [1, 2, 0],
        "attributes": {},
    }
    assert made["e"]["point"]["positive"] == {"offset": -1, "bucket_counts": [1, 0]}
    assert made["s"]["point"]["quantiles"] == [{"quantile": 0.5, "value": 2}]
    assert made["g"]["point"]["value"] == 1.5
    assert set(made) == {"h", "e", "s", "g"}


def test_a_point_that_says_that_its_series_has_ended_makes_no_message():
    request = counter_request(("c", 1, 2, 3))
    request.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].flags = 1
    assert not list(reading.metrics(request))


def test_a_span_has_its_length_its_words_and_its_ids():
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(
            trace_id=TRACE,
            span_id=SPAN,
            name="GET /",
            kind=2,
            start_time_unix_nano=10**18,
            end_time_unix_nano=10**18 + 1_500_000,
        )
    )
    span.status.code = 2
    span.status.message = "no"
    span.events.add(name="e", time_unix_nano=10**18)
    span.links.add(trace_id=TRACE, span_id=SPAN)
    (record,) = reading.spans(request)
    assert record.identity == f"{TRACE.hex()}-{SPAN.hex()}"
    assert record.value["span"] == {
        "trace_id": TRACE.hex(),
        "span_id": SPAN.hex(),
        "name": "GET /",
        "kind": "server",
        "start_time_unix_nano": 10**18,
        "start_time": "2001-09-09T01:46:40Z",
        "end_time_unix_nano": 10**18 + 1_500_000,
        "end_time": "2001-09-09T01:46:40.0015Z",
        "duration_nano": 1_500_000,
        "attributes": {},
        "status": {"code": "error", "message": "no"},
        "events": [
            {
                "name": "e",
                "attributes": {},
                "time_unix_nano": 10**18,
                "time": "2001-09-09T01:46:40Z",
            }
        ],
        "links": [{"trace_id": TRACE.hex(), "span_id": SPAN.hex(), "attributes": {}}],
    }


@pytest.mark.parametrize("read", [reading.logs, reading.published_logs])
def test_a_repeated_request_has_the_same_ids_and_equal_records_of_one_are_told_apart(read):
    request = log_request("a", "a", "b", time_unix_nano=1)
    ids = [message.metadata["otlp_id"] for message in messages(read(request))]
    again = [message.metadata["otlp_id"] for message in messages(read(request))]
    assert ids == again
    assert len(set(ids)) == 3
    assert ids[1] == f"{ids[0]}-2"


def test_what_differs_only_in_its_resource_has_another_id():
    one, two = (
        next(iter(reading.logs(log_request("x", resource={"host": name})))) for name in "ab"
    )
    assert one.identity != two.identity

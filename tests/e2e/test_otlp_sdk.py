"""The official OpenTelemetry SDK and its exporters, unchanged: every signal, gRPC and HTTP."""

import asyncio
import logging

import grpc
import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

from kit.otlp import Intake, taking
from kit.waiting import eventually
from openmeter_collector.components.inputs.otlp import OtlpInput
from openmeter_collector.errors import Overloaded

RESOURCE = Resource.create({"service.name": "api", "service.instance.id": "1"})
EXPORTERS = {
    "grpc": {"logs": GrpcLogs, "metrics": GrpcMetrics, "traces": GrpcSpans},
    "http": {"logs": HttpLogs, "metrics": HttpMetrics, "traces": HttpSpans},
}
PROTOCOLS = pytest.mark.parametrize("protocol", ["grpc", "http"])


def exporter(server, protocol, signal, **options):
    made = EXPORTERS[protocol][signal]
    if protocol == "grpc":
        return made(endpoint=server.grpc, insecure=True, **options)
    return made(endpoint=f"{server.http}/v1/{signal}", **options)


def say(provider, body, **attributes):
    provider.get_logger("lib", "1.2").emit(
        LogRecord(
            timestamp=1_700_000_000_000_000_000,
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body=body,
            attributes=attributes,
        )
    )


def log_something(made):
    provider = LoggerProvider(resource=RESOURCE)
    provider.add_log_record_processor(SimpleLogRecordProcessor(made))
    say(provider, {"path": "/", "n": [1, 2.5]}, subject="c", duration=12)
    provider.shutdown()


@PROTOCOLS
async def test_log_records_of_the_sdk_arrive(protocol):
    intake = Intake()
    async with taking(OtlpInput, intake) as server:
        await asyncio.to_thread(log_something, exporter(server, protocol, "logs"))
    (value,) = intake.values
    assert value["signal"] == "logs"
    assert value["resource"]["attributes"]["service.name"] == "api"
    assert value["scope"] == {"name": "lib", "version": "1.2"}
    assert value["record"]["body"] == {"path": "/", "n": [1, 2.5]}
    assert value["record"]["attributes"] == {"subject": "c", "duration": 12}
    assert value["record"]["time"] == "2023-11-14T22:13:20Z"


def trace_something(made):
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(SimpleSpanProcessor(made))
    with provider.get_tracer("lib").start_as_current_span(
        "outer", kind=SpanKind.SERVER, attributes={"customer": "c"}
    ) as span:
        span.add_event("seen")
    provider.shutdown()
    return span.get_span_context()


@PROTOCOLS
async def test_spans_of_the_sdk_arrive_with_their_ids(protocol):
    intake = Intake()
    async with taking(OtlpInput, intake) as server:
        context = await asyncio.to_thread(trace_something, exporter(server, protocol, "traces"))
    (message,) = intake.messages
    span = message.structured()["span"]
    ids = (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert (span["trace_id"], span["span_id"]) == ids
    assert message.metadata == {"otlp_signal": "traces", "otlp_id": "-".join(ids)}
    assert (span["name"], span["kind"], span["attributes"]) == (
        "outer",
        "server",
        {"customer": "c"},
    )
    assert span["events"][0]["name"] == "seen"


def measure_something(made):
    """Two exports of every instrument; returns when both were answered."""
    reader = PeriodicExportingMetricReader(made, export_interval_millis=3_600_000)
    view = View(instrument_name="size", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], resource=RESOURCE, views=[view])
    meter = provider.get_meter("lib")
    counter = meter.create_counter("requests")
    level = meter.create_up_down_counter("level")
    latency = meter.create_histogram("latency", unit="ms")
    size = meter.create_histogram("size")
    gauge = meter.create_gauge("temperature")
    for amount in (5, 2):
        counter.add(amount, {"customer": "c"})
        level.add(-amount)
        latency.record(amount)
        size.record(amount)
        gauge.set(amount)
        assert provider.force_flush()
    provider.shutdown()


@PROTOCOLS
async def test_every_instrument_of_the_sdk_arrives_and_counters_become_deltas(protocol):
    intake = Intake()
    async with taking(
        OtlpInput, intake, cumulative_counters="delta", initial_value="keep"
    ) as server:
        await asyncio.to_thread(measure_something, exporter(server, protocol, "metrics"))
    points = {}
    for value in intake.values:
        points.setdefault(value["metric"]["name"], []).append(value["point"])
    # Shutting down exports once more; nothing was added then.
    assert [one["value"] for one in points["requests"]] == [5, 2, 0]
    assert points["requests"][0]["attributes"] == {"customer": "c"}
    assert [one["value"] for one in points["level"]] == [-5, -7, -7]
    assert points["latency"][1]["count"] == 2
    assert sum(points["latency"][1]["bucket_counts"]) == 2
    assert points["size"][1]["sum"] == 7
    assert "scale" in points["size"][1]
    assert [one["value"] for one in points["temperature"]][:2] == [5, 2]


@PROTOCOLS
async def test_the_sdk_comes_again_with_what_was_put_off(protocol):
    full = Overloaded("the journal is full", 1.0)
    full.at_once = True
    intake = Intake(full)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    async with taking(OtlpInput, intake) as server:
        sending = asyncio.ensure_future(
            asyncio.to_thread(log_something, exporter(server, protocol, "logs"))
        )
        await eventually(lambda: server.around.metrics.total("otlp_put_off"))
        intake.verdict = None
        await sending
    assert len(intake.values) == 1


@PROTOCOLS
async def test_compressed_requests_of_the_sdk_are_taken(protocol):
    compression = {"grpc": grpc.Compression, "http": Compression}[protocol].Gzip
    intake = Intake()
    async with taking(OtlpInput, intake) as server:
        made = exporter(server, protocol, "logs", compression=compression)
        await asyncio.to_thread(log_something, made)
    assert len(intake.values) == 1

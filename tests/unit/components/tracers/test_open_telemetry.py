"""Traces: what is sent to an OpenTelemetry collector, over both of its ways."""

import asyncio
import gzip
import json
import urllib.request
from contextlib import asynccontextmanager

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp

from kit.otlp import official_server
from kit.pipes import REGISTRY, SCRIPTS, WRITTEN
from openmeter_collector.api import ConfigError, Retryable
from openmeter_collector.components.tracers import open_telemetry_collector as component
from openmeter_collector.engine.tracing import (
    Tracing,
    carrying,
    causes_of,
    traced_chain,
    traced_intake,
    traced_output,
    traced_processor,
)
from openmeter_collector.message import Message
from openmeter_collector.testing.running import free_port, running


class Collected:
    """Spans that arrived, by name."""

    def __init__(self):
        self.spans, self.tags = [], {}

    def take(self, request):
        for of_resource in request.resource_spans:
            for one in of_resource.resource.attributes:
                self.tags[one.key] = one.value.string_value
            for scope in of_resource.scope_spans:
                self.spans += scope.spans

    def one(self, name):
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def names(self):
        return [span.name for span in self.spans]


@asynccontextmanager
async def by_http():
    collected = Collected()

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        body = await reader.readexactly(int(headers["content-length"]))
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert lines[0] == "post /v1/traces http/1.1"
        collected.take(otlp.ExportTraceServiceRequest.FromString(body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http: [{{address: '127.0.0.1:{server.sockets[0].getsockname()[1]}'}}]", collected
    finally:
        server.close()


@asynccontextmanager
async def by_grpc():
    collected = Collected()

    async with official_server("traces", lambda request, _: collected.take(request)) as address:
        yield f"grpc: [{{address: '{address}'}}]", collected


CONFIG = """
http: {enabled: false}
input:
  generate: {mapping: 'root = "x"', count: 3, batch_size: 3}
  processors: [noop: {}]
pipeline:
  processors:
    - label: shape
      mapping: root = content().uppercase()
    - sleep: {duration: 1ms}
output:
  broker:
    outputs: [scripted: {name: t}]
tracer:
  open_telemetry_collector:
    service: mine
    tags: {zone: eu}
    %s
"""


async def run(text):
    WRITTEN.clear()
    async with running(text, REGISTRY) as pipeline:
        while pipeline.status.delivery.delivered < 3:
            await asyncio.sleep(0.001)
    assert WRITTEN["t"][-1] == ["X", "X", "X"]
    return pipeline


@pytest.mark.parametrize("way", [by_http, by_grpc])
async def test_spans_stand_for_batches_and_for_what_is_inside(way):
    async with way() as (where, collected):
        await run(CONFIG % where)
    assert sorted(collected.names()) == [
        "input_generate",
        "mapping",
        "noop",
        "output_broker",
        "output_scripted",
        "pipeline",
        "sleep",
    ]
    assert collected.tags == {"service.name": "mine", "zone": "eu"}
    spans = collected.one
    for inner, outer in [
        ("noop", "input_generate"),
        ("mapping", "pipeline"),
        ("sleep", "pipeline"),
        ("output_scripted", "output_broker"),
    ]:
        assert spans(inner).parent_span_id == spans(outer).span_id
    about = {one.key: one.value for one in spans("mapping").attributes}
    assert about["label"].string_value == "shape"
    assert about["path"].string_value == "root.pipeline.processors.0"
    assert about["messages"].int_value == 3


async def test_a_failure_is_on_the_span_of_whoever_failed():
    fates = [Retryable("away"), None]

    async def script(contents):
        if (fate := fates.pop(0)) is not None:
            raise fate

    async with by_http() as (where, collected):
        SCRIPTS["t"] = script
        text = CONFIG % where
        await run(
            text.replace("broker:\n    outputs: [scripted: {name: t}]", "scripted: {name: t}")
        )
        del SCRIPTS["t"]
    first, second = [span for span in collected.spans if span.name == "output_scripted"]
    assert (first.status.code, first.status.message) == (2, "away")
    assert second.status.code == 0


async def test_a_request_s_trace_is_continued():
    port = free_port()
    text = """
http: {enabled: false}
input: {http_server: {address: '127.0.0.1:%d', path: /in}}
output: {drop: {}}
tracer: {open_telemetry_collector: {%s}}
"""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/in",
        data=b"{}",
        headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
    )
    async with by_http() as (where, collected):
        async with running(text % (port, where), REGISTRY) as pipeline:
            await pipeline.until_connected()
            await asyncio.to_thread(urllib.request.urlopen, request, timeout=10)
        span = collected.one("input_http_server")
    assert span.trace_id.hex() == trace
    assert span.parent_span_id.hex() == "00f067aa0ba902b7"


BEHIND = """
http: {enabled: false}
input: {http_server: {address: '127.0.0.1:%d', path: /in}}
buffer: {sqlite: {path: %s}}
pipeline: {processors: [{mapping: root = this}]}
output: {scripted: {name: t}%s}
shutdown_timeout: 1ms
tracer: {open_telemetry_collector: {%s}}
"""


def send(port, trace=""):
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"} if trace else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/in", data=b"{}", headers=headers)
    return asyncio.to_thread(urllib.request.urlopen, request, timeout=10)


async def test_a_trace_goes_on_behind_the_buffer_and_after_a_restart(tmp_path):
    async def refuse(contents):
        raise Retryable("away")

    port, path = free_port(), tmp_path / "buffer.db"
    async with by_http() as (where, collected):
        text = BEHIND % (port, path, "", where)
        SCRIPTS["t"] = refuse
        async with running(text, REGISTRY) as pipeline:
            await pipeline.until_connected()
            await send(port)
        del SCRIPTS["t"]
        before = collected.one("input_http_server")
        collected.spans.clear()
        async with running(text, REGISTRY) as pipeline:
            while pipeline.status.delivery.delivered < 1:
                await asyncio.sleep(0.001)
    for name in ("pipeline", "output_scripted"):
        assert collected.one(name).trace_id == before.trace_id
        assert collected.one(name).parent_span_id == before.span_id


async def test_what_is_put_together_is_linked_to_all_that_led_to_it(tmp_path):
    traces = [f"{number:032x}" for number in (1, 2, 3)]
    port = free_port()
    batching = ", batching: {count: 3, period: 10m}"
    text = BEHIND.replace("{name: t}%s", "{name: t%s}")
    async with by_http() as (where, collected):
        async with running(
            text % (port, tmp_path / "buffer.db", batching, where), REGISTRY
        ) as pipeline:
            await pipeline.until_connected()
            for trace in traces:
                await send(port, trace)
            while pipeline.status.delivery.delivered < 3:
                await asyncio.sleep(0.001)
    received = {span.span_id for span in collected.spans if span.name == "input_http_server"}
    written = collected.one("output_scripted")
    assert [link.trace_id.hex() for link in written.links] == traces
    assert {link.span_id for link in written.links} == received
    assert written.trace_id.hex() not in traces


def test_what_led_to_a_batch_is_told_once_and_within_bounds():
    def request(number):
        return Message(b"", {"Traceparent": "of the sender", "collector_traceparent": str(number)})

    one = request(1)
    assert causes_of([one, one.with_content(b"x"), request(1)]) == [{"traceparent": "1"}]
    assert len(causes_of([request(number) for number in range(1000)])) == 128


def test_messages_keep_what_they_had_and_share_what_they_shared():
    shared = {"a": "b"}
    batch = [Message(b"1", shared), Message(b"2", shared), Message(b"3")]
    first, second, third = carrying(batch, {"traceparent": "x"})
    assert first.metadata is second.metadata
    assert first.metadata == {"a": "b", "collector_traceparent": "x"}
    assert third.metadata == {"collector_traceparent": "x"}


async def test_log_lines_inside_a_span_carry_its_ids_and_others_none():
    async with by_http() as (where, collected):
        pipeline = await run((CONFIG % where).replace("noop: {}", "log: {message: seen}"))
    lines = [json.loads(line) for line in pipeline.lines]
    ((trace, span),) = [(one["trace_id"], one["span_id"]) for one in lines if one["msg"] == "seen"][
        :1
    ]
    written = collected.one("log")
    assert (trace, span) == (written.trace_id.hex(), written.span_id.hex())
    assert all("trace_id" not in one for one in lines if one["msg"] != "seen")


WITH_BUCKETS = "metrics: {prometheus: {use_histogram_timing: true}}\n" + CONFIG


async def test_buckets_of_latencies_name_the_spans_they_were_measured_in():
    text = WITH_BUCKETS.replace(
        "broker:\n    outputs: [scripted: {name: t}]", "scripted: {name: t}"
    )
    async with by_http() as (where, collected):
        pipeline = await run(text % where)
    named = {
        (name, labels["path"]): (one.trace_id, one.span_id)
        for name, _, _, children in pipeline.metrics.families()
        for labels, child in children
        for _, one in getattr(child, "examples", {}).values()
    }
    for metric, path, span in [
        ("output_latency_ns", "root.output", "output_scripted"),
        ("input_latency_ns", "root.input", "input_generate"),
        ("processor_latency_ns", "root.pipeline.processors.0", "pipeline"),
    ]:
        written = collected.one(span)
        assert named[metric, path] == (written.trace_id.hex(), written.span_id.hex())


async def test_buckets_name_no_trace_that_is_not_sent():
    async with by_http() as (where, _):
        text = WITH_BUCKETS % f"{where}\n    sampling: {{enabled: true, ratio: 0}}"
        pipeline = await run(text)
    children = [
        child for _, _, of in (f[1:] for f in pipeline.metrics.families()) for _, child in of
    ]
    assert not any(getattr(child, "examples", None) for child in children)


async def test_only_a_share_is_sent_when_asked():
    async with by_http() as (where, collected):
        await run(CONFIG % f"{where}\n    sampling: {{enabled: true, ratio: 0}}")
        assert collected.spans == []


async def test_a_collector_that_is_away_is_said_and_holds_nothing_up():
    pipeline = await run(CONFIG % f"http: [{{address: '127.0.0.1:{free_port()}'}}]")
    assert pipeline.ended.delivered == 3
    assert sum("traces were not sent" in line for line in pipeline.lines) == 1


def test_without_a_tracer_nothing_stands_in_between():
    off, thing = Tracing(), object()
    assert traced_processor(off, None, thing) is thing
    assert traced_output(off, None, thing) is thing
    assert traced_chain(off, thing) is thing
    assert traced_intake(off, None, thing) is thing


async def test_what_is_missing_is_a_fault_of_the_config(monkeypatch):
    with pytest.raises(ConfigError, match="nowhere to send to"):
        await run(CONFIG % "")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(component.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'openmeter-collector\[otel\]'"):
        await run(CONFIG % "http: [{address: 'x:1'}]")

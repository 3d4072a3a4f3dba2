"""Our own metrics by OTLP: what arrives, what is repeated, and that nothing waits for it."""

import asyncio
import gzip
import json
import time
from contextlib import asynccontextmanager

import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as otlp

from kit.otlp import Intake, official_server, taking
from kit.pipes import REGISTRY, surroundings
from openmeter_collector.api import ConfigError, HttpResponse, Retryable
from openmeter_collector.component.node import Node
from openmeter_collector.components.inputs.otlp import OtlpInput
from openmeter_collector.components.otlp import own_metrics
from openmeter_collector.components.otlp.library import load_otlp
from openmeter_collector.config import load
from openmeter_collector.engine.exporting import exporting
from openmeter_collector.telemetry.counters import MetricStore, Sampled
from openmeter_collector.testing.clock import virtual_time
from openmeter_collector.testing.env import FakeEnv
from openmeter_collector.testing.running import free_port

EMPTY = HttpResponse(200, {}, b"")


def parsed(body):
    """A request, as the protocol's own decoder reads it: metrics by name, and the resource."""
    request = otlp.ExportMetricsServiceRequest.FromString(body)
    (of_resource,) = request.resource_metrics
    resource = {one.key: one.value.string_value for one in of_resource.resource.attributes}
    return {one.name: one for one in of_resource.scope_metrics[0].metrics}, resource


@asynccontextmanager
async def scripted(fields="", script=lambda _: EMPTY, where="{address: 'c:4318'}"):
    """The component over a scripted HTTP, under the virtual clock."""
    text = f"metrics: {{open_telemetry_collector: {{http: [{where}], {fields}}}}}"
    config = load(text, REGISTRY, env={})
    node = Node("metrics", "open_telemetry_collector", config.metrics.config, "root.metrics")
    env = FakeEnv(node)
    env.http_script.script = script
    async with config.metrics.config.open(env) as exporter:
        yield env, exporter


def sent(env):
    return [parsed(gzip.decompress(one.body)) for one in env.http_script.requests]


@virtual_time
async def test_figures_go_out_at_intervals_and_once_more_at_the_end():
    async with scripted("interval: 10s, headers: {x-key: k}") as (env, exporter):
        counter = env.store.scope(path="p").counter("output_sent", "Messages delivered.")
        counter.add(2)
        await env.sleep(25)
        counter.add(3)
        assert exporter.page("text/plain") is None
    values = [metrics["output_sent"].sum.data_points[0].as_int for metrics, _ in sent(env)]
    assert values == [2, 2, 5]
    asked = env.http_script.requests[0]
    assert asked.url == "http://c:4318/v1/metrics"
    assert asked.headers["Content-Type"] == "application/x-protobuf"
    assert asked.headers["x-key"] == "k"


@virtual_time
async def test_sums_are_cumulative_since_the_start_and_a_metric_that_came_again_since_then():
    async with scripted("interval: 10s") as (env, _):
        began = int(env.now() * 1e9)
        env.store.scope(stream="a").counter("output_sent").add(7)
        await env.sleep(10.5)
        env.store.forget(stream="a")
        env.store.scope(stream="a").counter("output_sent").add(1)
        await env.sleep(10)
    (first, _), (second, _), *_ = sent(env)
    one, two = (of["output_sent"].sum for of in (first, second))
    assert one.aggregation_temporality == two.aggregation_temporality == 2
    assert one.is_monotonic
    assert (one.data_points[0].start_time_unix_nano, one.data_points[0].as_int) == (began, 7)
    assert two.data_points[0].as_int == 1
    assert two.data_points[0].start_time_unix_nano == one.data_points[0].time_unix_nano
    assert two.data_points[0].time_unix_nano > two.data_points[0].start_time_unix_nano


@virtual_time
async def test_gauges_have_no_beginning_and_timers_are_histograms_in_nanoseconds():
    async with scripted("histogram_buckets: [0.001, 1]") as (env, _):
        env.store.scope(path="p").gauge("backlog").set(2.5)
        env.store.scope().timer("output_latency_ns").observe(2_000_000)
    ((metrics, _),) = sent(env)
    (backlog,) = metrics["backlog"].gauge.data_points
    assert (backlog.as_double, backlog.start_time_unix_nano) == (2.5, 0)
    assert backlog.attributes[0].value.string_value == "p"
    assert metrics["output_latency_ns"].unit == "ns"
    (latency,) = metrics["output_latency_ns"].histogram.data_points
    assert list(latency.explicit_bounds) == [1e6, 1e9]
    assert list(latency.bucket_counts) == [0, 1, 0]
    assert (latency.count, latency.sum) == (1, 2e6)


@virtual_time
async def test_each_process_is_a_resource_of_its_own_unless_tags_say_which():
    async with scripted("service: mine, tags: {zone: eu}") as (env, _):
        env.store.scope().counter("a")
    ((_, first),) = sent(env)
    assert (first["service.name"], first["zone"]) == ("mine", "eu")
    assert first["service.version"]
    async with scripted("tags: {service.instance.id: seven}") as (env, _):
        env.store.scope().counter("a")
    ((_, second),) = sent(env)
    assert second["service.instance.id"] == "seven" != first["service.instance.id"]


@virtual_time
async def test_what_failed_is_sent_again_soon_with_the_figures_of_then_and_said_once():
    fates = [Retryable("away"), HttpResponse(503, {"retry-after": "20"}, b"")]

    def script(_):
        return fates.pop(0) if fates else EMPTY

    async with scripted("interval: 60s", script) as (env, _):
        counter = env.store.scope().counter("a")
        counter.add()
        began = env.monotonic()
        await env.sleep(60.2)  # the first attempt has failed
        counter.add()
        while len(env.http_script.requests) < 3:
            await env.sleep(0.1)
        assert 80 < env.monotonic() - began < 90, "not before the time that was asked for"
    values = [metrics["a"].sum.data_points[0].as_int for metrics, _ in sent(env)]
    assert values[:3] == [1, 2, 2]
    assert sum("metrics were not sent" in line for line in env.lines) == 1
    assert sum("metrics are sent again" in line for line in env.lines) == 1


@virtual_time
async def test_refusals_are_not_repeated_before_the_next_period():
    refused = HttpResponse(401, {}, b"")
    async with scripted("interval: 10s", lambda _: refused) as (env, _):
        env.store.scope().counter("a")
        await env.sleep(35)
        assert len(env.http_script.requests) == 3
    assert sum("metrics were not sent" in line for line in env.lines) == 1


@virtual_time
async def test_what_a_service_refuses_of_a_request_is_said():
    answer = otlp.ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 1
    answer.partial_success.error_message = "too old"
    said = HttpResponse(200, {}, answer.SerializeToString())
    async with scripted("interval: 10s", lambda _: said) as (env, _):
        env.store.scope().counter("a")
        await env.sleep(25)
    assert sum("too old" in line for line in env.lines) == 1


@virtual_time
async def test_an_endpoint_that_is_silent_holds_up_neither_others_nor_the_end():
    silent = TimeoutError()

    def script(request):
        return silent if "slow" in request.url else EMPTY

    fields = "interval: 10s, timeout: 3600s"
    async with scripted(fields, script, where="{address: 'slow:1'}, {address: 'c:4318'}") as (
        env,
        _,
    ):
        env.store.scope().counter("a")
        await env.sleep(35)
        ended = env.monotonic()
    assert env.monotonic() - ended < 6
    urls = [one.url for one in env.http_script.requests]
    assert sum("slow" in url for url in urls) == 2, "the first, and the last one"
    assert sum("c:4318" in url for url in urls) == 4


def test_many_metrics_are_split_and_none_is_lost():
    store = MetricStore()
    for number in range(2 * own_metrics.MOST_POINTS + 5):
        store.scope(n=str(number)).counter("many").add()
    store.scope().counter("one").add()
    snapshot = own_metrics.Snapshots(store, 1).take(2)
    made = list(own_metrics.requests(load_otlp("test"), snapshot, {}))
    assert [points for _, points in made] == [500, 500, 6]
    seen = [
        point
        for body, _ in made
        for metric in parsed(body)[0].values()
        for point in metric.sum.data_points
    ]
    assert len({p.attributes[0].value.string_value for p in seen if p.attributes}) == 1005


def test_a_clock_that_is_set_back_does_not_undo_what_was_told():
    store = MetricStore()
    store.scope().counter("a")
    snapshots = own_metrics.Snapshots(store, 100)
    assert [snapshots.take(at).at for at in (200, 50, 300)] == [200, 201, 300]


def test_an_example_of_a_bucket_names_its_trace():
    store = MetricStore()
    store.timer_bounds = (0.001, 1.0)
    store.sampled = lambda: Sampled("ab" * 16, "cd" * 8, 7.0)
    store.scope().timer("output_latency_ns").observe(2_000_000)
    snapshot = own_metrics.Snapshots(store, 1).take(2)
    ((body, _),) = own_metrics.requests(load_otlp("test"), snapshot, {})
    (example,) = parsed(body)[0]["output_latency_ns"].histogram.data_points[0].exemplars
    assert (example.trace_id.hex(), example.span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert (example.as_double, example.time_unix_nano) == (2e6, 7_000_000_000)


@asynccontextmanager
async def real(fields):
    """The component as a pipeline opens it, with real sockets and time."""
    config = load(f"metrics: {{open_telemetry_collector: {{{fields}}}}}", REGISTRY, env={})
    lines = []
    around = surroundings(lines, now=time.time)
    async with exporting(config, around):
        yield around, lines


async def test_over_grpc_with_headers_to_a_server_of_the_official_library():
    taken = asyncio.Queue()

    async with official_server("metrics", lambda *told: taken.put_nowait(told)) as address:
        fields = f"grpc: [{{address: '{address}'}}], headers: {{X-Key: k}}, interval: 100ms"
        async with real(fields) as (around, lines):
            around.metrics.scope(path="p").counter("input_received").add(4)
            request, headers = await taken.get()
    metrics, _ = parsed(request.SerializeToString())
    assert metrics["input_received"].sum.data_points[0].as_int == 4
    assert headers["x-key"] == "k"
    assert not lines


@pytest.mark.parametrize("way", ["grpc", "http"])
async def test_our_own_input_takes_them_as_counts_since_the_last_time(way):
    intake = Intake()
    async with taking(OtlpInput, intake, cumulative_counters="delta") as server:
        address = server.grpc if way == "grpc" else server.http
        fields = f"{way}: [{{address: '{address}'}}], interval: 100ms"
        async with real(fields) as (around, _):
            counter = around.metrics.scope(path="p").counter("output_sent")
            for _ in range(3):
                before = len(intake.deliveries)
                counter.add(5)
                while len(intake.deliveries) < before + 2:
                    await asyncio.sleep(0.01)
    points = [one for one in intake.values if one["metric"]["name"] == "output_sent"]
    assert sum(_value(one) for one in points) == 15


def _value(one):
    return json.loads(json.dumps(one))["point"]["value"]


async def test_what_cannot_be_opened_is_a_fault_of_the_config():
    with pytest.raises(ConfigError, match="nowhere to send to"):
        async with real(""):
            pass
    with pytest.raises(ConfigError, match="nowhere to send to"):
        async with real("http: [{secure: true}]"):
            pass


async def test_a_collector_that_is_away_is_said_once():
    async with real(f"grpc: [{{address: '127.0.0.1:{free_port()}'}}], interval: 100ms") as (
        around,
        lines,
    ):
        around.metrics.scope().counter("a")
        while not lines:
            await asyncio.sleep(0.01)
    assert sum("metrics were not sent" in line for line in lines) == 1

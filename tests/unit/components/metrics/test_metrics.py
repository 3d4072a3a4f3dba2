"""Metrics components, and the mapping beside them."""

from contextlib import asynccontextmanager

import orjson
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)

from kit.pipes import REGISTRY, surroundings
from openmeter_collector.api import HttpResponse
from openmeter_collector.component.node import Node
from openmeter_collector.config import load
from openmeter_collector.engine.exporting import exporting
from openmeter_collector.testing.clock import virtual_time
from openmeter_collector.testing.env import FakeEnv


@asynccontextmanager
async def metrics(text):
    config = load(text, REGISTRY, env={})
    around = surroundings()
    async with exporting(config, around) as exporter:
        yield exporter, around.metrics


@virtual_time
async def test_process_metrics_are_there_when_asked_for():
    async with metrics("metrics: {prometheus: {}}") as (exporter, store):
        store.scope(label="a").counter("input_received").add(2)
        body = exporter.page().body
        assert b'input_received{label="a"} 2' in body
        assert b"process_" not in body
    async with metrics("metrics: {prometheus: {add_process_metrics: true}}") as (exporter, _):
        assert b"process_resident_memory_bytes" in exporter.page().body


@virtual_time
async def test_who_takes_only_openmetrics_gets_it_with_the_figures_of_the_process_inside():
    async with metrics("metrics: {prometheus: {add_process_metrics: true}}") as (exporter, store):
        store.scope().counter("input_received").add()
        page = exporter.page("application/openmetrics-text")
    assert page.content_type.startswith("application/openmetrics-text; version=1.0.0")
    names = {one.name for one in openmetrics_families(page.body.decode())}
    assert {"input_received", "process_resident_memory_bytes"} <= names


@virtual_time
async def test_timers_are_summaries_in_nanoseconds_with_the_wanted_quantiles():
    text = "metrics: {prometheus: {summary_quantiles_objectives: [{quantile: 0.75, error: 0.01}]}}"
    async with metrics(text) as (exporter, store):
        store.scope().timer("output_latency_ns").observe(2_000_000)
        body = exporter.page().body.decode()
    assert "# TYPE output_latency_ns summary" in body
    assert 'output_latency_ns{quantile="0.75"} 2000000' in body
    assert "0.99" not in body


@virtual_time
async def test_timers_are_histograms_in_seconds_when_asked_for():
    text = "metrics: {prometheus: {use_histogram_timing: true, histogram_buckets: [0.001, 1]}}"
    async with metrics(text) as (exporter, store):
        timer = store.scope(path="p").timer("output_latency_ns")
        timer.observe(500_000_000)
        body = exporter.page().body.decode()
    assert "# TYPE output_latency_ns histogram" in body
    assert 'output_latency_ns_bucket{path="p",le="0.001"} 0' in body
    assert 'output_latency_ns_bucket{path="p",le="1"} 1' in body
    assert 'output_latency_ns_sum{path="p"} 0.5' in body


@virtual_time
async def test_the_mapping_renames_labels_and_drops():
    text = """
metrics:
  prometheus: {}
  mapping: |
    root = match this {
      this.has_prefix("processor_") => deleted()
      this == "input_received" => "received"
      _ => this
    }
    meta place = meta("path")
    meta path = deleted()
"""
    async with metrics(text) as (exporter, store):
        scope = store.scope(path="root.input")
        scope.counter("input_received").add()
        scope.counter("input_received").add()
        scope.counter("processor_sent").add()
        scope.counter("output_sent").add(3)
        body = exporter.page().body.decode()
    assert 'received{place="root.input"} 2' in body
    assert 'output_sent{place="root.input"} 3' in body
    assert "processor_sent" not in body


@virtual_time
async def test_json_none_and_logger():
    async with metrics("metrics: {json_api: {}}") as (exporter, store):
        store.scope(path="p").counter("output_sent").add(3)
        page = exporter.page()
        assert (page.content_type, orjson.loads(page.body)) == (
            "application/json",
            {'output_sent{path="p"}': 3},
        )
    async with metrics("metrics: {none: {}}") as (exporter, _):
        assert exporter.page() is None
    around = surroundings(lines := [])
    config = load("metrics: {logger: {push_interval: 1s, flush_metrics: true}}", REGISTRY, env={})
    async with exporting(config, around):
        counter = around.metrics.scope(path="p").counter("output_sent")
        counter.add(3)
        await around.sleep(1.5)
        counter.add(2)
    values = [orjson.loads(line)["value"] for line in lines]
    assert values == [3, 2]


@virtual_time
async def test_metrics_are_pushed_at_intervals_and_at_the_end():
    config = load(
        "metrics: {prometheus: {push_url: 'http://gate:9091', push_interval: 10s, "
        "push_basic_auth: {username: u, password: p}}}",
        REGISTRY,
        env={},
    )
    env = FakeEnv(Node("metrics", "prometheus", config.metrics.config, "root.metrics"))
    env.http_script.script = lambda request: HttpResponse(200, {}, b"")
    async with config.metrics.config.open(env):
        env.store.scope().counter("output_sent").add()
        await env.sleep(25)
    asked = env.http_script.requests
    assert len(asked) == 3
    assert asked[0].url == "http://gate:9091/metrics/job/benthos_push"
    assert asked[0].headers["Authorization"] == "Basic dTpw"
    assert b"output_sent 1" in asked[-1].body


async def test_metrics_are_written_to_a_file_at_the_end(tmp_path):
    text = f"metrics: {{prometheus: {{file_output_path: {tmp_path}/m.txt}}}}"
    async with metrics(text) as (_, store):
        store.scope().counter("output_sent").add()
    assert b"output_sent 1" in (tmp_path / "m.txt").read_bytes()

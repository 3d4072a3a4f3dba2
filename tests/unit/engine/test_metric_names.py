"""The metrics that dashboards of existing installations ask for, by name and labels."""

import asyncio

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.engine.latency import Latency
from openmeter_collector.message import Delivery
from openmeter_collector.telemetry.counters import Timer
from openmeter_collector.testing.running import running

NAMES = [
    "input_received",
    "input_latency_ns",
    "input_connection_up",
    "input_connection_failed",
    "input_connection_lost",
    "buffer_received",
    "buffer_batch_received",
    "buffer_sent",
    "buffer_batch_sent",
    "buffer_latency_ns",
    "processor_received",
    "processor_batch_received",
    "processor_sent",
    "processor_batch_sent",
    "processor_error",
    "processor_latency_ns",
    "output_sent",
    "output_batch_sent",
    "output_error",
    "output_rejected",
    "output_latency_ns",
    "output_connection_up",
    "output_connection_failed",
    "output_connection_lost",
    "cache_success",
    "cache_error",
    "cache_latency_ns",
    "cache_not_found",
    "cache_duplicate",
    "rate_limit_checked",
    "rate_limit_triggered",
    "rate_limit_error",
    "batch_created",
]
CONFIG = """
http: {enabled: false}
input: {generate: {count: 5, interval: "", mapping: root.id = count("names")}}
buffer: {memory: {}}
pipeline:
  processors:
    - label: once
      dedupe: {cache: seen, key: '${! this.id }'}
    - rate_limit: {resource: enough}
output: {label: away, file: {path: out.txt}}
cache_resources: [{label: seen, memory: {}}]
rate_limit_resources: [{label: enough, local: {count: 1000}}]
"""


async def test_every_name_is_there_with_label_and_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with running(CONFIG, standard_registry()) as collector:
        while collector.metrics.total("output_sent") < 5:
            await asyncio.sleep(0.01)
    found = {}
    for family, _, labels, _ in collector.metrics.samples():
        found.setdefault(family, []).append(labels)
    assert [name for name in NAMES if name not in found] == []
    assert all({"label", "path"} <= labels.keys() for name in NAMES for labels in found[name])
    assert found["processor_received"][0]["label"] == "once"
    assert {labels["operation"] for labels in found["cache_success"]} >= {"get", "add"}
    assert {labels["mechanism"] for labels in found["batch_created"]} == {
        "count", "size", "period", "check",
    }  # fmt: skip
    assert collector.metrics.total("rate_limit_checked") == 5


def test_latency_is_taken_of_all_when_few_and_of_some_when_many():
    now = [0]
    timer = Timer()
    latency = Latency(timer, lambda: now[0])
    told = []
    for step in (20_000_000, 20_000_000, 1_000, 1_000):
        now[0] += step
        delivery = Delivery([], told.append)
        latency.watch(delivery)
        now[0] += 7
        delivery.settle(None)
    assert told == [None] * 4
    assert (timer.count, timer.total) == (2, 14)

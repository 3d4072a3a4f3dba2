"""The statsd metrics component, and what arrives at a server."""

import socket
from contextlib import asynccontextmanager

import pytest

from kit.pipes import REGISTRY, surroundings
from openmeter_collector.config import InvalidConfig, load
from openmeter_collector.engine.exporting import exporting


@asynccontextmanager
async def statsd(fields="", period="1h"):
    """What is sent before the end is sent at once: a period that does not end in a test."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        text = f"metrics: {{statsd: {{address: '{address}', flush_period: {period}, {fields}}}}}"
        config = load(text, REGISTRY, env={})
        around = surroundings(lines := [])
        received = []
        async with exporting(config, around) as exporter:
            yield exporter, around.metrics, received, lines
        while not received or server_has_more(server):
            received += server.recv(2000).decode().splitlines()


def server_has_more(server):
    server.setblocking(False)
    try:
        server.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    finally:
        server.settimeout(10)
    return True


async def test_each_kind_of_metric_has_its_form():
    async with statsd() as (exporter, store, received, _):
        scope = store.scope(path="root.input", label="")
        scope.counter("input_received").add(3)
        scope.gauge("depth").set(1.5)
        scope.gauge("below").set(-2)
        scope.timer("latency_ns").observe(1000)
        scope.timer("latency_ns").observe(2000)
        scope.histogram("sizes", "", (1.0,)).observe(3)
        scope.counter("never")
        assert exporter.page() is None
    assert received == [
        "input_received:3|c",
        "depth:1.5|g",
        "below:0|g",
        "below:-2|g",
        "latency_ns:1000|ms",
        "latency_ns:2000|ms",
        "sizes:1|c",
    ]


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("datadog", "n_s:1|c|#zone:e_u,path:root.input"),
        ("influxdb", "n_s,zone=e_u,path=root.input:1|c"),
        ("none", "n_s:1|c"),
    ],
)
async def test_labels_are_written_as_the_server_wants_them(form, line):
    fields = f"tag_format: {form}, tags: {{zone: 'e:u'}}"
    async with statsd(fields) as (_, store, received, _):
        store.scope(path="root.input", label="").counter("n s").add()
    assert received == [line]


async def test_only_what_is_new_is_sent():
    async with statsd(period="1ms") as (exporter, store, received, _):
        counter, gauge = store.scope().counter("c"), store.scope().gauge("g")
        timer = store.scope().timer("t")
        counter.add(2)
        gauge.set(7)
        timer.observe(1)
        await exporter.flush()
        await exporter.flush()
        counter.add(3)
        timer.observe(2)
    assert received == ["c:2|c", "g:7|g", "t:1|ms", "c:3|c", "t:2|ms"]


async def test_more_timings_than_are_kept_are_a_sample_with_its_rate():
    async with statsd() as (_, store, received, _):
        timer = store.scope().timer("t")
        for value in range(1024):
            timer.observe(value)
    assert len(received) == 512
    assert (received[0], received[-1]) == ("t:512|ms|@0.500000", "t:1023|ms|@0.500000")


async def test_a_server_that_is_not_known_is_said_once_and_stops_nothing():
    text = "metrics: {statsd: {address: 'nowhere.invalid:1', flush_period: 1h}}"
    around = surroundings(lines := [])
    async with exporting(load(text, REGISTRY, env={}), around) as exporter:
        around.metrics.scope().counter("c").add()
        await exporter.flush()
    assert sum("StatsD server is not known" in line for line in lines) == 1


@pytest.mark.parametrize("address", ["localhost", ":8125", "localhost:port", "h:99999"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(InvalidConfig, match="write host:port"):
        load(f"metrics: {{statsd: {{address: '{address}'}}}}", REGISTRY, env={})

"""The preset `otel`: what an OpenTelemetry SDK says becomes usage events."""

import asyncio
import json
from pathlib import Path

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

import openmeter_collector
from kit.waiting import eventually
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.testing.running import free_port, running
from openmeter_collector.testing.sandbox import Sandbox

PRESET = Path(openmeter_collector.__file__).parent / "presets/otel/config.yaml"
RESOURCE = Resource.create({"service.name": "api", "service.instance.id": "1"})


@pytest.fixture
async def preset(tmp_path):
    async with Sandbox(tokens=["t"]).serve() as sandbox:
        ports = {"grpc": free_port(), "http": free_port()}
        env = {
            "OTLP_GRPC_ADDRESS": f"127.0.0.1:{ports['grpc']}",
            "OTLP_HTTP_ADDRESS": f"127.0.0.1:{ports['http']}",
            "METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
            "BUFFER_PATH": str(tmp_path / "buffer.db"),
            "OPENMETER_URL": sandbox.url,
            "OPENMETER_TOKEN": "t",
        }
        async with running(PRESET.read_text(), standard_registry(), env) as collector:
            await eventually(lambda: any("over HTTP" in line for line in collector.lines))
            yield ports, sandbox


def events(sandbox):
    return [json.loads(event.raw) for event in sandbox.events]


def count(port):
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=f"127.0.0.1:{port}", insecure=True), 3_600_000
    )
    provider = MeterProvider([reader], resource=RESOURCE)
    meter = provider.get_meter("lib")
    counter = meter.create_counter("tokens")
    meter.create_gauge("temperature").set(5, {"customer.id": "acme"})
    counter.add(5, {"customer.id": "acme", "model": "m"})
    counter.add(9, {"model": "no customer"})
    provider.force_flush()
    counter.add(2, {"customer.id": "acme", "model": "m"})
    provider.shutdown()


def log(port):
    provider = LoggerProvider(resource=RESOURCE)
    exporter = OTLPLogExporter(endpoint=f"http://127.0.0.1:{port}/v1/logs")
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger("lib")
    logger.emit(LogRecord(body="nothing to bill"))
    logger.emit(
        LogRecord(
            timestamp=1_700_000_000_000_000_000,
            event_name="api-call",
            body={"path": "/"},
            attributes={"customer.id": "acme", "ms": 12},
        )
    )
    provider.shutdown()


async def test_counters_become_events_that_add_up(preset):
    ports, sandbox = preset
    await asyncio.to_thread(count, ports["grpc"])
    await eventually(lambda: len(events(sandbox)) == 2)
    one, two = sorted(events(sandbox), key=lambda event: event["time"])
    assert (one["type"], one["source"], one["subject"]) == ("tokens", "otel:api", "acme")
    assert one["data"] == {"model": "m", "value": 5}
    assert two["data"] == {"model": "m", "value": 2}
    assert one["id"] != two["id"]


async def test_log_records_that_name_a_customer_become_events(preset):
    ports, sandbox = preset
    await asyncio.to_thread(log, ports["http"])
    await eventually(lambda: events(sandbox))
    (event,) = events(sandbox)
    del event["id"]
    assert event == {
        "specversion": "1.0",
        "type": "api-call",
        "source": "otel:api",
        "subject": "acme",
        "time": "2023-11-14T22:13:20Z",
        "data": {"path": "/", "ms": 12},
    }

"""OTLP requests for tests, and inputs that take them on real sockets."""

import asyncio
import time
from contextlib import asynccontextmanager

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kit.pipes import surroundings
from openmeter_collector.component.node import Node
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.server.listener import listen
from openmeter_collector.testing.running import free_port

REQUESTS = {
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
METHODS = {
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}


@asynccontextmanager
async def official_server(signal, took):
    """A gRPC server as the official library makes it, on a free port; `took` is told each request."""
    request = REQUESTS[signal]

    async def export(body, context):
        took(request.FromString(body), dict(context.invocation_metadata()))
        return b""  # nothing was refused

    service, _, method = METHODS[signal].strip("/").partition("/")
    handler = grpc.unary_unary_rpc_method_handler(export)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


class Intake:
    """Takes deliveries; `verdict` is None, an exception to settle with, or "silent"."""

    def __init__(self, verdict=None):
        self.verdict = verdict
        self.deliveries = []
        self.messages = []
        self.turned_away = []

    def refused(self, contents, reason):
        self.turned_away += [reason for _ in contents]

    def offer(self, delivery):
        if isinstance(self.verdict, BaseException) and getattr(self.verdict, "at_once", False):
            raise self.verdict
        self.deliveries.append(delivery)
        self.messages += delivery.batch
        if self.verdict != "silent":
            delivery.settle(self.verdict)

    async def put(self, delivery):
        delivery.settle(None)

    @property
    def values(self):
        return [message.structured() for message in self.messages]


@asynccontextmanager
async def taking(config_class, intake, **config):
    """The input, running on free ports; yields what was logged too, so that tests can look."""
    ports = {"address": free_port()} if "address" in _fields(config_class) else {}
    if "grpc_address" in _fields(config_class):
        ports = {"grpc_address": free_port(), "http_address": free_port()}
    addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    lines = []
    around = surroundings(lines, listen=listen, now=time.time)
    made = config_class(**(addresses | config))
    env = ComponentEnv(around, Resources(), Node("input", "x", made, "root.input"))
    async with made.open(env) as server:
        run = asyncio.ensure_future(server.run(intake))
        while sum("taking" in line for line in lines) < len(addresses):
            await asyncio.sleep(0.005)
            if run.done():
                run.result()
        try:
            yield Taking(addresses | config, around, lines)
        finally:
            run.cancel()
            await asyncio.wait({run})


class Taking:
    def __init__(self, addresses, around, lines):
        self.grpc = addresses.get("grpc_address") or addresses.get("address")
        self.http = f"http://{addresses.get('http_address')}"
        self.around, self.lines = around, lines

    def total(self, metric):
        return self.around.metrics.total(metric)

    async def export(self, request, signal="logs", **options):
        """Send over gRPC; returns the parsed answer. Raises `grpc.aio.AioRpcError`."""
        metadata = options.pop("metadata", None)
        credentials = options.pop("credentials", None)
        made = (
            grpc.aio.secure_channel(self.grpc, credentials, **options)
            if credentials
            else grpc.aio.insecure_channel(self.grpc, **options)
        )
        async with made as channel:
            call = channel.unary_unary(METHODS[signal])
            body = request if isinstance(request, bytes) else request.SerializeToString()
            return await call(body, metadata=metadata, timeout=20)


def _fields(config_class):
    return config_class.__dataclass_fields__


def log_request(*bodies, resource=(), scope="lib", **record):
    """A request with a log record for each body."""
    request = ExportLogsServiceRequest()
    of_resource = request.resource_logs.add()
    for key, value in dict(resource).items():
        of_resource.resource.attributes.add(key=key).value.string_value = value
    of_scope = of_resource.scope_logs.add()
    of_scope.scope.name = scope
    for body in bodies:
        one = of_scope.log_records.add(**record)
        one.body.string_value = body
    return request


def counter_request(*points, name="requests", instance="a", cumulative=True, monotonic=True):
    """A request with a counter; points are (attribute, start, time, value), times in seconds."""
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    of_resource.resource.attributes.add(key="service.instance.id").value.string_value = instance
    metric = of_resource.scope_metrics.add().metrics.add(name=name)
    metric.sum.aggregation_temporality = 2 if cumulative else 1
    metric.sum.is_monotonic = monotonic
    for customer, start, when, value in points:
        point = metric.sum.data_points.add(
            start_time_unix_nano=int(start * 1e9), time_unix_nano=int(when * 1e9)
        )
        point.attributes.add(key="customer").value.string_value = customer
        if isinstance(value, int):
            point.as_int = value
        else:
            point.as_double = value
    return request

"""Sends log records or data points over OTLP, gRPC or HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

from openmeter_collector.api import (
    Batch,
    BatchPolicy,
    ClientTls,
    Duration,
    Env,
    Example,
    HttpClient,
    Message,
    Output,
    field,
    output,
)
from openmeter_collector.components.otlp import writing
from openmeter_collector.components.otlp.channel import Send, exporting, over_http
from openmeter_collector.components.otlp.library import Otlp, load_otlp
from openmeter_collector.components.outputs.otlp_send import send_all

_WHERE = "output.otlp"
_METHODS = {
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}

EVENTS = Example(
    "Usage events as log records",
    """
    output:
      otlp:
        endpoint: http://otel-collector:4318
        protocol: http
        signal: logs
        batching:
          count: 500
          period: 1s
    """,
)


@output("otlp", ours=True, categories=("Services",), examples=[EVENTS])
class OtlpOutput:
    """Sends log records or metric data points to an OTLP service.

    With `signal: logs` a message in the shape that the input `otlp` gives is sent as that record, and
    any other message becomes the body of a record. With `signal: metrics` messages must have the shape
    that the input `otlp` gives for data points.

    A message that cannot be said is refused alone; its neighbours are delivered. `RetryInfo` and
    `Retry-After` are obeyed. When the service takes a request but refuses some of its records without
    saying which, the request is halved until they are found; those that it had taken are sent again
    then.
    """

    endpoint: str = field(
        doc="`host:port` for gRPC; an address for HTTP, to which `/v1/logs` or `/v1/metrics` is added "
        "unless it ends so.",
        examples=["otel-collector:4317", "http://otel-collector:4318"],
    )
    signal: Literal["logs", "metrics"] = field(default="logs", doc="What messages are.")
    protocol: Literal["grpc", "http"] = field(default="grpc", doc="How it is spoken to.")
    headers: dict[str, str] = field(
        default_factory=dict,
        secret=True,
        doc="Headers of every request, such as `Authorization`.",
    )
    compression: Literal["none", "gzip"] = field(
        default="gzip", doc="How requests are compressed: `none` or `gzip`."
    )
    timeout: Duration = field(default=Duration("30s"), doc="Time for one request.")
    max_in_flight: int = field(default=10, doc="Requests under way at the same time.")
    batching: BatchPolicy = field(
        default_factory=lambda: BatchPolicy(count=500),
        doc="How messages are put together. `count` is a cap; without a `period` nothing waits for "
        "company.",
    )
    tls: ClientTls = field(default_factory=ClientTls, advanced=True, doc="Use TLS, and how.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Nothing is sent on opening: the first request says whether all is well."""
        otlp = load_otlp(_WHERE)
        if self.protocol == "grpc":
            async with exporting(
                self.endpoint,
                _METHODS[self.signal],
                tls=self.tls,
                headers=self.headers,
                gzip=self.compression == "gzip",
                where=_WHERE,
            ) as exporter:
                timeout = float(self.timeout)

                async def send(request: bytes) -> bytes:
                    return await exporter.export(request, timeout)

                yield _Sender(env, otlp, self.signal, send)
            return
        async with env.http(
            tls=self.tls.context(f"{_WHERE}.tls"), max_connections=self.max_in_flight
        ) as client:
            yield _Sender(env, otlp, self.signal, self._over_http(client))

    def _over_http(self, client: HttpClient) -> Send:
        path = f"/v1/{self.signal}"
        base = self.endpoint.rstrip("/")
        return over_http(
            client,
            base if base.endswith(path) else base + path,
            headers=self.headers,
            gzipped=self.compression == "gzip",
            timeout=float(self.timeout),
        )


class _Sender:
    def __init__(self, env: Env, otlp: Otlp, signal: str, send: Send) -> None:
        self._env = env
        self._otlp = otlp
        self._send = send
        self._logs = signal == "logs"

    async def write(self, batch: Batch) -> None:
        if self._logs:
            response = self._otlp.logs_service.ExportLogsServiceResponse
            await send_all(batch, self._logs_of, self._send, response, "rejected_log_records")
        else:
            response = self._otlp.metrics_service.ExportMetricsServiceResponse
            await send_all(batch, self._points_of, self._send, response, "rejected_data_points")

    def _logs_of(self, messages: Sequence[Message]) -> Any:
        values = (_value(message) for message in messages)
        return writing.logs_request(self._otlp, values, self._env.now())

    def _points_of(self, messages: Sequence[Message]) -> Any:
        values = (message.structured() for message in messages)
        return writing.metrics_request(self._otlp, values)


def _value(message: Message) -> Any:
    """What the body of a record is: the document, or the text if it is none."""
    try:
        return message.structured()
    except ValueError:
        try:
            return message.content.decode()
        except UnicodeDecodeError:
            return message.content

"""Sends log records over OTLP/gRPC, as upstream's output of this name does."""

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
    Message,
    Output,
    field,
    output,
)
from openmeter_collector.components.otlp.channel import Exporter, exporting
from openmeter_collector.components.otlp.library import Otlp, load_otlp
from openmeter_collector.components.outputs.otlp_send import send_all

_WHERE = "output.otel_log"
METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

LOGS = Example(
    "A record for each message",
    """
    pipeline:
      processors:
        - mapping: |
            root.resource.attributes = [ { "key": "service.name", "value": { "stringValue": "meter" } } ]
            root.scopeLogs = [ { "logRecords": [ { "body": { "stringValue": content().string() } } ] } ]
    output:
      otel_log:
        address: 127.0.0.1:4317
    """,
)


@output("otel_log", categories=("Services",), examples=[LOGS])
class OtelLogOutput:
    """Sends log records to an OTLP/gRPC log service.

    Each message is a `ResourceLogs` of OTLP in the JSON form of protocol buffers (names as
    `scopeLogs` or `scope_logs`, bytes and ids as base64). A batch is one request, or several when it
    is larger than servers take.

    A message that is no such object is refused alone; its neighbours are delivered. `RetryInfo` is
    obeyed. When the service takes a request but refuses some of its records without saying which, the
    request is halved until they are found; those that it had taken are sent again then.
    """

    address: str = field(doc="The service: `host:port`.")
    batching: BatchPolicy = field(
        default_factory=BatchPolicy, doc="How messages are put together; see the guide."
    )
    max_in_flight: int = field(default=10, doc="Requests under way at the same time.")
    tls: ClientTls = field(
        default_factory=ClientTls, ours=True, advanced=True, doc="Use TLS, and how."
    )
    headers: dict[str, str] = field(
        default_factory=dict,
        ours=True,
        secret=True,
        doc="Metadata of every request, such as `authorization`.",
    )
    compression: Literal["none", "gzip"] = field(
        default="none", ours=True, doc="How requests are compressed: `none` or `gzip`."
    )
    timeout: Duration = field(default=Duration("30s"), ours=True, doc="Time for one request.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Opens a channel; the first request says whether all is well."""
        del env
        async with exporting(
            self.address,
            METHOD,
            tls=self.tls,
            headers=self.headers,
            gzip=self.compression == "gzip",
            where=_WHERE,
        ) as exporter:
            yield _Sender(load_otlp(_WHERE), exporter, float(self.timeout))


class _Sender:
    def __init__(self, otlp: Otlp, exporter: Exporter, timeout: float) -> None:
        self._otlp = otlp
        self._exporter = exporter
        self._timeout = timeout

    async def write(self, batch: Batch) -> None:
        service = self._otlp.logs_service
        await send_all(
            batch,
            self._build,
            self._send,
            service.ExportLogsServiceResponse,
            "rejected_log_records",
        )

    async def _send(self, request: bytes) -> bytes:
        return await self._exporter.export(request, self._timeout)

    def _build(self, messages: Sequence[Message]) -> Any:
        request = self._otlp.logs_service.ExportLogsServiceRequest()
        for message in messages:
            try:
                self._otlp.json_format.Parse(message.content, request.resource_logs.add())
            except self._otlp.json_format.ParseError as error:
                raise ValueError(str(error)) from error
        return request

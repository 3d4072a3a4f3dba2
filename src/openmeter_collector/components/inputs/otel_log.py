"""Log records over OTLP/gRPC, in the published shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openmeter_collector.api import (
    ByteSize,
    Duration,
    Env,
    Example,
    Input,
    Intake,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.inputs.http_ingest import TlsFiles
from openmeter_collector.components.inputs.otlp_grpc import GrpcOptions, serving
from openmeter_collector.components.inputs.otlp_receive import Partial, Receiver, Signal, messages
from openmeter_collector.components.otlp.library import Otlp, load_otlp
from openmeter_collector.components.otlp.reading import published_logs

_WHERE = "input.otel_log"
_UNDER_WAY = 256 << 20

LOGS = Example(
    "API calls from log records",
    """
    input:
      otel_log:
        address: 127.0.0.1:4317
    pipeline:
      processors:
        - mapping: |
            root = {
              "id": meta("otlp_id"),
              "specversion": "1.0",
              "type": "api-calls",
              "source": "otlp-log",
              "time": this.record.attributes.time,
              "subject": this.record.attributes.subject,
              "data": {
                "method": this.record.attributes.method,
                "path": this.record.attributes.path,
                "duration_ms": this.record.attributes.duration,
              },
            }
    """,
)


@input("otel_log", categories=("Services",), examples=[LOGS])
class OtelLog:
    """Takes log records from log forwarders and OpenTelemetry SDKs over OTLP/gRPC.

    One message per log record:

    ```json
    {"resource": {"attributes": {}}, "scope": {"name": "", "version": ""},
     "record": {"time_unix_nano": 1, "severity_text": "INFO", "body": "...", "attributes": {},
                "trace_id": "<base64>", "span_id": "<base64>"}}
    ```

    What is empty is left out; bytes and ids are base64; a double that JSON has no number for is the
    text `NaN`, `Infinity` or `-Infinity`. A request is answered after all of its records are in the
    buffer. When there is no room the answer is `UNAVAILABLE` with `RetryInfo`, which exporters obey;
    only what can never be taken gets a code that exporters do not repeat. That is counted in
    `otlp_refused` and in the books of the journal (`openmeter-collector ledger`), with the reason.

    The metadata `otlp_id` is the same for a record however often it is sent: a hash of the record
    with its resource and scope, and a number behind it for the second and further equal ones of a
    request. Use it as the id of events, so that repeating a request counts nothing twice. Records
    that are equal to the nanosecond and come in different requests have the same id; an attribute
    that tells them apart (`log.record.uid`) makes them two.

    For metrics, traces and HTTP see the input `otlp`.
    """

    address: str = field(doc="Where to listen: `host:port`.")
    timeout: Duration = field(
        default=Duration("5s"),
        doc="How long a request waits for the buffer before it is told to come again.",
    )
    tokens: list[str] = field(
        default_factory=list,
        ours=True,
        secret=True,
        doc="Bearer tokens that are accepted, each as it is or as `sha256:` and its hexadecimal "
        "SHA-256. Empty: no token is asked for.",
    )
    tls: TlsFiles = field(default_factory=TlsFiles, ours=True, doc="Serve TLS.")
    max_request_bytes: ByteSize = field(
        default=ByteSize("4MiB"),
        ours=True,
        advanced=True,
        doc="Largest request, also when decompressed; a larger one is answered "
        "`RESOURCE_EXHAUSTED`.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Loads the protocol; the address is bound once `run` has the intake."""
        yield _Server(self, env, load_otlp(_WHERE))


class _Server:
    def __init__(self, config: OtelLog, env: Env, otlp: Otlp) -> None:
        self._config = config
        self._env = env
        self._otlp = otlp

    async def run(self, intake: Intake) -> None:
        config = self._config
        receiver = Receiver(self._env, intake, config.timeout, _UNDER_WAY)
        service = self._otlp.logs_service

        async def handle(request: Any) -> Partial:
            batch = messages(published_logs(request))
            # An empty request has nothing to wait for.
            return await receiver.take(batch) if batch else Partial()

        signal = Signal(
            "opentelemetry.proto.collector.logs.v1.LogsService",
            "/v1/logs",
            service.ExportLogsServiceRequest,
            service.ExportLogsServiceResponse,
            "rejected_log_records",
            handle,
        )
        options = GrpcOptions(
            config.address, config.tls, config.tokens, config.max_request_bytes, _WHERE
        )
        async with serving(options, receiver, [signal]) as address:
            self._env.log.info("taking log records", address=address)
            await asyncio.get_running_loop().create_future()

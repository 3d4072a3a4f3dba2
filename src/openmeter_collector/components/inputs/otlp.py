"""Logs, metrics and traces over OTLP: gRPC and HTTP, one message per record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

from openmeter_collector.api import (
    ByteSize,
    ConfigError,
    Duration,
    Env,
    Example,
    Input,
    Intake,
    ListenOptions,
    Retryable,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.inputs import otlp_grpc
from openmeter_collector.components.inputs.http_ingest import (
    TlsFiles,
    TokenCheck,
    refusal_of,
    server_tls,
)
from openmeter_collector.components.inputs.otlp_counters import Counters
from openmeter_collector.components.inputs.otlp_http import HttpHandler
from openmeter_collector.components.inputs.otlp_receive import (
    ALL_SAFE,
    Partial,
    Receiver,
    Signal,
    messages,
)
from openmeter_collector.components.otlp import reading
from openmeter_collector.components.otlp.library import Otlp, load_otlp

_WHERE = "input.otlp"

COUNTERS = Example(
    "Requests served, from an application's own counter",
    """
    input:
      otlp:
        grpc_address: 0.0.0.0:4317
        http_address: 0.0.0.0:4318
        signals: [ metrics ]
        cumulative_counters: delta
    pipeline:
      processors:
        - mapping: |
            root = {
              "id": meta("otlp_id"),
              "specversion": "1.0",
              "type": "request",
              "source": this.resource.attributes."service.name",
              "time": this.point.time,
              "subject": this.point.attributes.customer,
              "data": { "value": this.point.value },
            }
            root = if this.metric.name != "requests" { deleted() }
    """,
)


@input("otlp", ours=True, categories=("Services",), examples=[COUNTERS])
class OtlpInput:
    """Takes logs, metrics and traces from OpenTelemetry SDKs and collectors over OTLP.

    One message per log record, data point or span:

    ```json
    {"signal": "logs", "resource": {"attributes": {}}, "scope": {"name": "lib"},
     "record": {"time": "2026-01-01T00:00:00Z", "time_unix_nano": 1, "severity_text": "INFO",
                "body": "...", "attributes": {}, "trace_id": "<hex>", "span_id": "<hex>"}}
    {"signal": "metrics", "resource": {}, "scope": {},
     "metric": {"name": "requests", "type": "sum", "unit": "1", "temporality": "delta",
                "monotonic": true},
     "point": {"start_time": "...", "time": "...", "value": 3, "attributes": {}}}
    {"signal": "traces", "resource": {}, "scope": {},
     "span": {"trace_id": "<hex>", "span_id": "<hex>", "name": "GET /", "kind": "server",
              "start_time": "...", "end_time": "...", "duration_nano": 1000000,
              "status": {"code": "ok"}, "attributes": {}, "events": [], "links": []}}
    ```

    Points of histograms have `count`, `sum`, `min`, `max`, `bounds` and `bucket_counts`; of
    exponential histograms `scale`, `zero_count`, `positive` and `negative`; of summaries
    `quantiles`. A point that only says that its series has ended makes no message.

    A request is answered after all of its records are in the buffer. When there is no room the answer
    is `UNAVAILABLE` with `RetryInfo`, over HTTP 503 with `Retry-After`, which exporters obey; only what
    can never be taken gets an answer that exporters do not repeat. That is counted in `otlp_refused`
    and in the books of the journal (`openmeter-collector ledger`), with the reason: a request as one
    event when it was not read, else each record (`otlp_records_refused`), those of a partial success
    too.

    **Ids.** The metadata `otlp_id` is the same for a record however often and by whichever way it is
    sent: for spans their trace and span id, else a hash of the message's content, with a number behind
    it for the second and further equal ones of a request. Use it as the id of events, so that
    repeating a request counts nothing twice. `otlp_signal` is `logs`, `metrics` or `traces`.

    **Counters.** An SDK sends what a counter has come to since it began. With `cumulative_counters:
    delta` each point becomes what was added since the point before (`point.start_time` to
    `point.time`), which can be summed up. What came before is remembered durably with the events
    (with the `sqlite` buffer in the same transaction): a restart of the collector loses nothing, a
    repeated request adds nothing, a counter that begins again is noticed by its start time or by its
    value. Requests with metrics are then handled one after the other. A producer must be told apart
    by its resource (`service.instance.id`).
    """

    grpc_address: str = field(
        default="0.0.0.0:4317", doc="Where to listen for gRPC: `host:port`; empty for nowhere."
    )
    http_address: str = field(
        default="0.0.0.0:4318",
        doc="Where to listen for HTTP (`/v1/logs`, `/v1/metrics`, `/v1/traces`; protobuf and JSON; "
        "gzip, deflate, zstd): `host:port`; empty for nowhere.",
    )
    signals: list[Literal["logs", "metrics", "traces"]] = field(
        default_factory=lambda: ["logs", "metrics", "traces"],
        doc="What is taken; the others are answered as not implemented.",
        minimum=1,
    )
    cumulative_counters: Literal["keep", "delta"] = field(
        default="keep",
        choices={
            "keep": "Points of cumulative counters as they are.",
            "delta": "What was added since the point before.",
        },
        doc="What is made of cumulative monotonic sums.",
    )
    initial_value: Literal["auto", "keep", "drop"] = field(
        default="auto",
        choices={
            "auto": "It counts if the counter began after this input first ran.",
            "keep": "It counts, from the counter's beginning.",
            "drop": "It only is where counting starts.",
        },
        doc="With `delta`: the first point of a series that is not known yet.",
    )
    timeout: Duration = field(
        default=Duration("10s"),
        doc="How long a request waits for the buffer before it is told to come again.",
    )
    tokens: list[str] = field(
        default_factory=list,
        secret=True,
        doc="Bearer tokens that are accepted, each as it is or as `sha256:` and its hexadecimal "
        "SHA-256. Empty: no token is asked for.",
    )
    tls: TlsFiles = field(default_factory=TlsFiles, doc="Serve TLS, on both ports.")
    max_request_bytes: ByteSize = field(
        default=ByteSize("8MiB"),
        doc="Largest request, as it comes and when decompressed; a larger one is answered "
        "`RESOURCE_EXHAUSTED`, over HTTP 413.",
    )
    max_bytes_under_way: ByteSize = field(
        default=ByteSize("256MiB"),
        advanced=True,
        doc="Bytes of requests that are handled at the same time; more are told to come again.",
    )
    max_connections: int = field(
        default=10_000, advanced=True, doc="HTTP connections; more are answered 503 and closed."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Loads the protocol; addresses are bound once `run` has the intake.

        Raises:
            ConfigError: neither address is given, or the extra is missing.
        """
        if not self.grpc_address and not self.http_address:
            raise ConfigError(f"{_WHERE}: no address; set grpc_address or http_address")
        yield _Server(self, env, load_otlp(_WHERE))


class _Server:
    def __init__(self, config: OtlpInput, env: Env, otlp: Otlp) -> None:
        self._config = config
        self._env = env
        self._otlp = otlp

    async def run(self, intake: Intake) -> None:
        config, env = self._config, self._env
        receiver = Receiver(env, intake, config.timeout, config.max_bytes_under_way)
        counters = None
        if config.cumulative_counters == "delta" and "metrics" in config.signals:
            counters = Counters(env, config.initial_value, config.timeout)
            await counters.start(intake)
        signals = self._signals(receiver, counters)
        async with AsyncExitStack() as stack:
            if config.grpc_address:
                options = otlp_grpc.GrpcOptions(
                    config.grpc_address, config.tls, config.tokens, config.max_request_bytes, _WHERE
                )
                address = await stack.enter_async_context(
                    otlp_grpc.serving(options, receiver, signals)
                )
                env.log.info("taking OTLP over gRPC", address=address)
            if config.http_address:
                handler = HttpHandler(
                    self._otlp,
                    receiver,
                    signals,
                    TokenCheck(config.tokens, _WHERE),
                    config.max_request_bytes,
                )
                listening = ListenOptions(
                    address=config.http_address,
                    tls=server_tls(config.tls, _WHERE),
                    max_connections=config.max_connections,
                )
                listener = await stack.enter_async_context(env.listen(handler, listening))
                env.log.info("taking OTLP over HTTP", address=listener.address)
            await asyncio.get_running_loop().create_future()

    def _signals(self, receiver: Receiver, counters: Counters | None) -> list[Signal]:
        otlp, config = self._otlp, self._config
        known = {
            "logs": (otlp.logs_service, "logs", "Logs", "log_records"),
            "metrics": (otlp.metrics_service, "metrics", "Metrics", "data_points"),
            "traces": (otlp.traces_service, "trace", "Trace", "spans"),
        }
        handlers = {
            "logs": _plain(receiver, "logs", reading.logs),
            "metrics": _plain(receiver, "metrics", _records_of_points),
            "traces": _plain(receiver, "traces", reading.spans),
        }
        if counters is not None:
            handlers["metrics"] = _counted(receiver, counters)
        made = []
        for signal in dict.fromkeys(config.signals):
            module, package, name, counted = known[signal]
            made.append(
                Signal(
                    f"opentelemetry.proto.collector.{package}.v1.{name}Service",
                    f"/v1/{signal}",
                    getattr(module, f"Export{name}ServiceRequest"),
                    getattr(module, f"Export{name}ServiceResponse"),
                    f"rejected_{counted}",
                    handlers[signal],
                )
            )
        return made


def _records_of_points(request: Any) -> Iterator[reading.Record]:
    return (record for record, _ in reading.metrics(request))


def _plain(
    receiver: Receiver, signal: str, read: Callable[[Any], Iterator[reading.Record]]
) -> Callable[[Any], Any]:
    """Records as they are."""

    async def handle(request: Any) -> Partial:
        batch = messages(read(request), otlp_signal=signal)
        return await receiver.take(batch) if batch else ALL_SAFE

    return handle


def _counted(receiver: Receiver, counters: Counters) -> Callable[[Any], Any]:
    """Metrics, with cumulative counters as deltas."""

    async def handle(request: Any) -> Partial:
        await counters.begin()
        try:
            records, change, checkpoints = await counters.deltas(reading.metrics(request))
        except BaseException as error:
            counters.end()
            if isinstance(error, Retryable):
                raise refusal_of(error) from error
            raise
        if not records and not checkpoints:
            counters.end()
            return ALL_SAFE

        def settled(failure: Exception | None) -> None:
            # What is true is decided by the buffer, also for a request that was given up on.
            counters.end(None if failure else change)

        batch = messages(records, otlp_signal="metrics")
        return await receiver.take(batch, checkpoints, settled)

    return handle

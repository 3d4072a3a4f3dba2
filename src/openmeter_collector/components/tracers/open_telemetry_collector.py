"""Sends traces to an OpenTelemetry collector, by OTLP over HTTP or gRPC."""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, Final

from openmeter_collector.api import (
    Attribute,
    ConfigError,
    Env,
    Example,
    Span,
    Tracer,
    field,
    install_extra,
    section,
    tracer,
)
from openmeter_collector.components.otlp.endpoint import Endpoint

LOCAL = Example(
    "A tenth of all traces, to a collector on the same machine",
    """
    tracer:
      open_telemetry_collector:
        service: openmeter-collector
        grpc:
          - address: localhost:4317
        tags:
          zone: eu
        sampling:
          enabled: true
          ratio: 0.1
    """,
)
_PATIENCE: Final = 5.0
"""Seconds for one export."""
_AT_THE_END: Final = 2.0
"""Seconds for the last exports together."""
_NOWHERE: Final = logging.NullHandler()
_QUIET: Final = 60.0
"""Seconds between two warnings that traces were not sent."""


@section
class Sampling:
    """Which traces are sent."""

    enabled: bool = field(default=False, doc="Send only some of the traces.")
    ratio: float | None = field(
        default=None,
        minimum=0,
        maximum=1,
        doc="Share of traces that are sent. What is part of somebody else's trace is sent if that is.",
        examples=[0.85, 0.5],
    )


@tracer("open_telemetry_collector", categories=("Services",), examples=[LOCAL])
class OpenTelemetryCollector:
    """Sends traces to one or more OpenTelemetry collectors.

    A span stands for a batch, never for one message: `input_NAME` from the moment at which messages
    are handed over until they are safe, a span for each processor, `pipeline` around those between buffer
    and output, and `output_NAME` for each write, with those of outputs inside. A request with a
    `traceparent` header is continued. Log lines written inside a span, such as those of a `log` processor,
    carry its `trace_id` and `span_id`.

    A trace goes on behind the buffer, also after a restart: messages carry it in the metadata
    `collector_traceparent` (and `collector_tracestate`), which is stored with them. What is put together from
    several traces is a trace of its own with links to them (128 at most); a mapping that removes all
    metadata ends a trace.

    When no collector takes them, traces are thrown away; the pipeline does not wait for them. Needs the
    extra `otel`.
    """

    service: str = field(default="benthos", doc="Name of the service in traces.")
    http: list[Endpoint] = field(
        default_factory=list, doc="Collectors that take OTLP over HTTP, usually at port 4318."
    )
    grpc: list[Endpoint] = field(
        default_factory=list, doc="Collectors that take OTLP over gRPC, usually at port 4317."
    )
    tags: dict[str, str] = field(
        default_factory=dict, advanced=True, doc="Attributes of the service, on all spans."
    )
    sampling: Sampling = field(default_factory=Sampling, doc="Which traces are sent.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Tracer]:
        """Starts sending in the background; what is left at the end is sent for a moment.

        Raises:
            ConfigError: the library is not installed, or there is nowhere to send to.
        """
        where = f"{env.node.path}.open_telemetry_collector"
        if not self.http and not self.grpc:
            raise ConfigError(f"{where}: nowhere to send to; add an address under `http` or `grpc`")
        # The library is large; whoever has no tracer does not wait for it.
        library = await asyncio.to_thread(_Library, where)
        provider = library.provider(self, env)
        with _told(env):
            try:
                yield _Spans(library, provider)
            finally:
                await _shut_down(provider)


class _Library:
    """What is used of the OpenTelemetry SDK."""

    def __init__(self, where: str) -> None:
        try:
            self.api: Any = importlib.import_module("opentelemetry.trace")
            self.resources: Any = importlib.import_module("opentelemetry.sdk.resources")
            self.sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
            self.export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
            self.sampling: Any = importlib.import_module("opentelemetry.sdk.trace.sampling")
            self.w3c: Any = importlib.import_module(
                "opentelemetry.trace.propagation.tracecontext"
            ).TraceContextTextMapPropagator()
            self.nothing: Any = importlib.import_module("opentelemetry.context").Context()
            base = "opentelemetry.exporter.otlp.proto"
            self.http: Any = importlib.import_module(f"{base}.http.trace_exporter")
            self.grpc: Any = importlib.import_module(f"{base}.grpc.trace_exporter")
        except ImportError:
            raise ConfigError(
                f"{where}: the libraries for traces are not installed; run: {install_extra('otel')}"
            ) from None

    def link(self, cause: Any) -> Any:
        """A link to the span that a context stands for."""
        return self.api.Link(self.api.get_current_span(cause).get_span_context())

    def provider(self, config: OpenTelemetryCollector, env: Env) -> Any:
        """What makes spans and sends them."""
        sampling = config.sampling
        share = sampling.ratio if sampling.enabled and sampling.ratio is not None else 1.0
        provider = self.sdk.TracerProvider(
            resource=self.resources.Resource({"service.name": config.service, **config.tags}),
            sampler=self.sampling.ParentBased(self.sampling.TraceIdRatioBased(share)),
            shutdown_on_exit=False,
        )
        for exporter in (*map(self._by_http, config.http), *map(self._by_grpc, config.grpc)):
            provider.add_span_processor(self.export.BatchSpanProcessor(exporter))
        env.log.debug("traces are sent", share=share)
        return provider

    def _by_http(self, endpoint: Endpoint) -> Any:
        return self.http.OTLPSpanExporter(
            endpoint=endpoint.over_http("/v1/traces"), timeout=int(_PATIENCE)
        )

    def _by_grpc(self, endpoint: Endpoint) -> Any:
        return self.grpc.OTLPSpanExporter(
            endpoint=endpoint.address or endpoint.url,
            insecure=not endpoint.secure,
            timeout=int(_PATIENCE),
        )


class _Spans:
    """See `component.tracer.Tracer`."""

    def __init__(self, library: _Library, provider: Any) -> None:
        self._library = library
        self._tracer = provider.get_tracer("openmeter_collector")

    def begin(
        self,
        name: str,
        attributes: Mapping[str, Attribute],
        caused_by: Sequence[Mapping[str, str]] = (),
    ) -> Span:
        causes = [self._library.w3c.extract(dict(one)) for one in caused_by]
        # An empty context is a trace of its own; None is a part of the current span.
        parent = None if not causes else causes[0] if len(causes) == 1 else self._library.nothing
        links = [self._library.link(cause) for cause in causes] if len(causes) > 1 else ()
        span = self._tracer.start_span(name, context=parent, attributes=attributes, links=links)
        return _Span(self._library, span)

    def current_ids(self) -> Mapping[str, str]:
        context = self._library.api.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def sampled_ids(self) -> tuple[str, str] | None:
        context = self._library.api.get_current_span().get_span_context()
        if not (context.is_valid and context.trace_flags.sampled):
            return None
        return f"{context.trace_id:032x}", f"{context.span_id:016x}"


class _Span:
    __slots__ = ("_api", "_library", "_span")

    def __init__(self, library: _Library, span: Any) -> None:
        self._library = library
        self._api = library.api
        self._span = span

    def current(self) -> AbstractContextManager[object]:
        made: AbstractContextManager[object] = self._api.use_span(
            self._span, record_exception=False, set_status_on_exception=False
        )
        return made

    def carrier(self) -> Mapping[str, str]:
        made: dict[str, str] = {}
        self._library.w3c.inject(made, self._api.set_span_in_context(self._span))
        return made

    def end(self, error: Exception | None = None) -> None:
        if error is not None and self._span.is_recording():
            self._span.set_status(self._api.StatusCode.ERROR, str(error)[:500])
        self._span.end()


class _Warnings(logging.Handler):
    """What the library has to say about exports, in our log and not too often."""

    def __init__(self, env: Env) -> None:
        super().__init__(logging.WARNING)
        self._env = env
        self._last = float("-inf")
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        # Called in the library's own thread.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._say, record.getMessage())

    def _say(self, text: str) -> None:
        now = self._env.monotonic()
        if now - self._last >= _QUIET:
            self._last = now
            self._env.log.warning("traces were not sent", error=text.splitlines()[0][:300])


async def _shut_down(provider: Any) -> None:
    """Send what is left, for a moment: a collector that is away must not hold up the end."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def close() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop has not waited
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=close, name="traces", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(_AT_THE_END):
            await done.wait()


@contextmanager
def _told(env: Env) -> Iterator[None]:
    """Send what the library logs to our log, and nowhere else, also when it comes late."""
    logger = logging.getLogger("opentelemetry")
    handler = _Warnings(env)
    logger.addHandler(handler)
    logger.addHandler(_NOWHERE)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)

"""Sends metrics to OpenTelemetry collectors, by OTLP over HTTP or gRPC.

Sums are cumulative: what one attempt did not bring, the next brings as well. So nothing is queued; a
failed attempt is repeated for as long as its period lasts, then with figures of that moment.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Final, Literal

from openmeter_collector.api import (
    ClientTls,
    CollectorError,
    ConfigError,
    Duration,
    Env,
    Example,
    MetricsExporter,
    Overloaded,
    Page,
    Retryable,
    field,
    metrics,
)
from openmeter_collector.components.metrics.buckets import USUAL, check_buckets
from openmeter_collector.components.otlp.channel import Send, exporting, over_http
from openmeter_collector.components.otlp.endpoint import Endpoint
from openmeter_collector.components.otlp.library import Otlp, load_otlp
from openmeter_collector.components.otlp.own_metrics import Snapshots, requests

EACH_QUARTER_MINUTE = Example(
    "Every 15 seconds, to a collector on the same machine",
    """
    metrics:
      open_telemetry_collector:
        service: openmeter-collector
        grpc:
          - address: localhost:4317
        tags:
          deployment.environment.name: production
        interval: 15s
    """,
)
_METHOD: Final = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
_AT_THE_END: Final = 5.0
"""Seconds for the last export, however many endpoints there are."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


@metrics("open_telemetry_collector", categories=("Services",), examples=[EACH_QUARTER_MINUTE])
class OpenTelemetryCollectorMetrics:
    """Sends metrics to one or more OpenTelemetry collectors.

    Names, labels and what they mean are those of the [list of metrics](../metric-names.md). Counters are
    cumulative sums, timers histograms in nanoseconds, whose buckets name the latest trace in which
    something took that long if there is a tracer. Each process is a resource of its own
    (`service.instance.id`, unless `tags` say another).

    Figures go out at intervals and once more at the end. An endpoint that does not take them is asked
    again with growing pauses and holds up nothing: neither the pipeline nor other endpoints. No figure is
    lost by that, since the next export has all of them. `/metrics` and `/stats` answer 404. Needs
    the extra `otlp`.
    """

    service: str = field(default="benthos", doc="Name of the service (`service.name`).")
    http: list[Endpoint] = field(
        default_factory=list, doc="Collectors that take OTLP over HTTP, usually at port 4318."
    )
    grpc: list[Endpoint] = field(
        default_factory=list, doc="Collectors that take OTLP over gRPC, usually at port 4317."
    )
    tags: dict[str, str] = field(
        default_factory=dict, advanced=True, doc="Attributes of the resource, on all metrics."
    )
    interval: Duration = field(
        default=Duration("60s"), minimum=0.1, ours=True, doc="Time between two exports."
    )
    timeout: Duration = field(
        default=Duration("10s"), minimum=0.1, advanced=True, ours=True, doc="Time for one request."
    )
    headers: dict[str, str] = field(
        default_factory=dict,
        secret=True,
        advanced=True,
        ours=True,
        doc="Headers of every request, such as `Authorization`.",
    )
    compression: Literal["none", "gzip"] = field(
        default="gzip", advanced=True, ours=True, doc="How requests are compressed."
    )
    histogram_buckets: list[float] = field(
        default_factory=list,
        advanced=True,
        ours=True,
        doc="Upper bounds of the buckets of timers, in seconds. Empty for 5ms to 10s in eleven steps.",
        lint=check_buckets,
    )
    tls: ClientTls = field(
        default_factory=ClientTls,
        advanced=True,
        ours=True,
        doc="How endpoints with `secure` are verified, and what they are shown.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[MetricsExporter]:
        """Takes over how timers are kept; sends until the end, and once more then.

        Raises:
            ConfigError: there is nowhere to send to, or the extra is not installed.
        """
        where = f"{env.node.path}.open_telemetry_collector"
        ends = [*self.http, *self.grpc]
        if not ends or not all(one.address or one.url for one in ends):
            raise ConfigError(f"{where}: nowhere to send to; add an address under `http` or `grpc`")
        resource = {
            "service.name": self.service,
            "service.version": version("openmeter-collector"),
            "service.instance.id": str(uuid.uuid4()),
            **self.tags,
        }
        otlp = load_otlp(where)
        env.metrics.store.timer_bounds = tuple(self.histogram_buckets) or USUAL
        async with AsyncExitStack() as stack:
            senders = [
                _Sender(env, float(self.interval), otlp, resource, name, send)
                for name, send in await self._ways(env, stack, where)
            ]
            try:
                async with asyncio.TaskGroup() as tasks:
                    running = [tasks.create_task(one.run()) for one in senders]
                    try:
                        yield _NoPage()
                    finally:
                        for task in running:
                            task.cancel()
            finally:
                await _within(_AT_THE_END, senders)

    async def _ways(
        self, env: Env, stack: AsyncExitStack, where: str
    ) -> Sequence[tuple[str, Send]]:
        ways: list[tuple[str, Send]] = []
        for endpoint in self.http:
            url = endpoint.over_http("/v1/metrics")
            client = await stack.enter_async_context(
                env.http(tls=self.tls.context(f"{where}.tls"), max_connections=1)
            )
            send = over_http(
                client,
                url,
                headers=self.headers,
                gzipped=self.compression == "gzip",
                timeout=float(self.timeout),
            )
            ways.append((url, send))
        for endpoint in self.grpc:
            address, secure = endpoint.over_grpc()
            exporter = await stack.enter_async_context(
                exporting(
                    address,
                    _METHOD,
                    tls=replace(self.tls, enabled=secure),
                    headers=self.headers,
                    gzip=self.compression == "gzip",
                    where=where,
                )
            )
            ways.append((address, _over_grpc(exporter.export, float(self.timeout))))
        return ways


def _over_grpc(export: Callable[[bytes, float], Awaitable[bytes]], timeout: float) -> Send:
    async def send(request: bytes) -> bytes:
        return await export(request, timeout)

    return send


class _NoPage:
    def page(self, accept: str = "") -> Page | None:
        del accept
        return None


class _Sender:
    """Sends to one endpoint."""

    def __init__(
        self,
        env: Env,
        every: float,
        otlp: Otlp,
        resource: Mapping[str, str],
        name: str,
        send: Send,
    ) -> None:
        self._env = env
        self._otlp = otlp
        self._name = name
        self._send = send
        self._every = every
        self._resource = resource
        self._snapshots = Snapshots(env.metrics.store, self._now())
        self._failing = False
        self._partial = False

    async def run(self) -> None:
        """Send now and then, for ever."""
        due = self._env.monotonic() + self._every
        while True:
            await self._env.sleep(max(0.0, due - self._env.monotonic()))
            # A slow export shifts nothing, and what was missed in the meantime is not made up for.
            due = max(due, self._env.monotonic() - self._every) + self._every
            await self._until_sent(due)

    async def _until_sent(self, until: float) -> None:
        """Send the figures of now; repeat, with those of then, what may help until `until`."""
        pause = _FIRST_PAUSE
        while (wait := await self.export()) is not None:
            wait = max(wait, pause * (0.5 + self._env.random() / 2))
            if self._env.monotonic() + wait >= until:
                return
            await self._env.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def export(self) -> float | None:
        """Send all figures once; seconds to wait at least before it may help to do so again."""
        snapshot = self._snapshots.take(self._now())
        made = requests(self._otlp, snapshot, self._resource)
        try:
            for request, points in made:
                self._look_at(await self._send(request), points)
        except CollectorError as error:
            self._say(error)
            if not isinstance(error, Retryable):
                return None
            asked = error.retry_after if isinstance(error, Overloaded) else None
            return asked or 0.0
        if self._failing:
            self._env.log.info("metrics are sent again", to=self._name)
        self._failing = False
        return None

    def _look_at(self, answer: bytes, points: int) -> None:
        """A service that takes a request may still refuse some of it, and says how much."""
        response = self._otlp.metrics_service.ExportMetricsServiceResponse()
        with suppress(self._otlp.message.DecodeError):
            response.ParseFromString(answer)
        refused = response.partial_success
        if refused.rejected_data_points and not self._partial:
            self._partial = True
            self._env.log.warning(
                "some metrics were refused",
                to=self._name,
                refused=refused.rejected_data_points,
                sent=points,
                error=refused.error_message[:300],
            )

    def _say(self, error: CollectorError) -> None:
        """Once, until it is well again: figures are not lost, they are late."""
        if not self._failing:
            self._env.log.warning("metrics were not sent", to=self._name, error=str(error)[:500])
        self._failing = True

    def _now(self) -> int:
        return int(self._env.now() * 1e9)


async def _within(seconds: float, senders: Sequence[_Sender]) -> None:
    """The last figures, for a moment: a collector that is away must not hold up the end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(one.export() for one in senders))

"""Shows metrics to Prometheus, or pushes them to its gateway."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from openmeter_collector.api import (
    CollectorError,
    Duration,
    Env,
    Example,
    HttpClient,
    MetricsExporter,
    MetricStore,
    Page,
    Url,
    field,
    metrics,
    raise_for_answer,
    section,
)
from openmeter_collector.components.metrics.buckets import USUAL, check_buckets
from openmeter_collector.telemetry import openmetrics

SCRAPED = Example(
    "Scraped at /metrics, with figures of the process",
    """
    metrics:
      prometheus:
        add_process_metrics: true
    """,
)
RENAMED = Example(
    "Drop the metrics of processors",
    """
    metrics:
      prometheus: {}
      mapping: |
        root = if this.has_prefix("processor_") { deleted() }
    """,
)
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@section
class Quantile:
    """One quantile of a summary."""

    quantile: float = field(default=0.0, minimum=0, maximum=1, doc="Which one, such as 0.99.")
    error: float = field(
        default=0.0, doc="Accepted for compatibility: quantiles are exact over the recent past."
    )


@section
class PushAuth:
    """A password for the gateway."""

    username: str = field(default="", doc="User name.")
    password: str = field(default="", secret=True, doc="Password.")


@metrics("prometheus", categories=("Services",), examples=[SCRAPED, RENAMED])
class Prometheus:
    """Serves all metrics at `/metrics` (and `/stats`) in Prometheus' text format.

    Names have no prefix; each metric of a component carries the labels `label` and `path`, and
    `stream` where several streams run. Timers are summaries in nanoseconds, or, with
    `use_histogram_timing`, histograms in seconds.

    With `use_histogram_timing` and a tracer, buckets name the latest trace in which something took that
    long, for those who ask for OpenMetrics (Prometheus with `exemplar-storage`). Names are the same in
    both formats.

    `mapping` beside `prometheus` renames, labels or drops metrics: it is asked once for each, `this`
    is the name, metadata are the labels, and `deleted()` drops it.
    """

    use_histogram_timing: bool = field(
        default=False, doc="Timers are histograms in seconds instead of summaries in nanoseconds."
    )
    histogram_buckets: list[float] = field(
        default_factory=list,
        advanced=True,
        doc="Upper bounds of the buckets in seconds, with `use_histogram_timing`. Empty for those "
        "that Prometheus clients use.",
        lint=check_buckets,
    )
    summary_quantiles_objectives: list[Quantile] = field(
        default_factory=lambda: [
            Quantile(quantile=0.5, error=0.05),
            Quantile(quantile=0.9, error=0.01),
            Quantile(quantile=0.99, error=0.001),
        ],
        advanced=True,
        doc="Quantiles that summaries show.",
    )
    add_process_metrics: bool = field(
        default=False, doc="Add memory, processor time and open files of the process."
    )
    add_go_metrics: bool = field(
        default=False, doc="Accepted for compatibility; there is no Go run time to measure."
    )
    push_url: Url = field(
        default="", advanced=True, doc="A Prometheus push gateway; empty pushes nothing."
    )
    push_interval: Duration | None = field(
        default=None,
        advanced=True,
        doc="Time between two pushes. Empty pushes once, at the end.",
        examples=["15s"],
    )
    push_job_name: str = field(
        default="benthos_push", advanced=True, doc="Job under which metrics are pushed."
    )
    push_basic_auth: PushAuth = field(
        default_factory=PushAuth, advanced=True, doc="A password for the gateway."
    )
    file_output_path: str = field(
        default="", advanced=True, doc="A file to write all metrics to at the end."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[MetricsExporter]:
        """Takes over how timers are kept; pushes until the end, and once more then."""
        store = env.metrics.store
        if self.use_histogram_timing:
            store.timer_bounds = tuple(self.histogram_buckets) or USUAL
        store.quantiles = tuple(one.quantile for one in self.summary_quantiles_objectives)
        shown = _Shown(store, process=self.add_process_metrics)
        try:
            if self.push_url:
                async with env.http(max_connections=1) as client:
                    pusher = _Pusher(self, env, client, shown)
                    async with pusher.running():
                        yield shown
            else:
                yield shown
        finally:
            if self.file_output_path:
                page = shown.page()
                await asyncio.to_thread(Path(self.file_output_path).write_bytes, page.body)


class _Shown:
    def __init__(self, store: MetricStore, *, process: bool) -> None:
        self._store = store
        self._process = process

    def page(self, accept: str = "") -> Page:
        if openmetrics.wanted(accept, gains=openmetrics.has_examples(self._store)):
            body = openmetrics.exposition(self._store, whole=not self._process)
            more = _process_metrics(whole=True) if self._process else b""
            return Page(openmetrics.CONTENT_TYPE, body + more)
        body = self._store.exposition()
        return Page(_TEXT, body + _process_metrics() if self._process else body)


class _Pusher:
    def __init__(self, config: Prometheus, env: Env, client: HttpClient, shown: _Shown) -> None:
        self._env = env
        self._client = client
        self._shown = shown
        self._every = config.push_interval
        self._url = f"{config.push_url.rstrip('/')}/metrics/job/{config.push_job_name}"
        self._headers = {"Content-Type": _TEXT}
        auth = config.push_basic_auth
        if auth.username or auth.password:
            pair = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Pushing now and then; the last figures go out when the block is left."""
        async with asyncio.TaskGroup() as tasks:
            pushing = tasks.create_task(self._push_now_and_then())
            try:
                yield
            finally:
                pushing.cancel()
        await self._push()

    async def _push_now_and_then(self) -> None:
        while self._every is not None:
            await self._env.sleep(float(self._every))
            await self._push()

    async def _push(self) -> None:
        try:
            answer = await self._client.request(
                "PUT", self._url, headers=self._headers, body=self._shown.page().body, timeout=10.0
            )
            raise_for_answer(self._url, answer)
        except CollectorError as error:
            # Figures are pushed whole each time, so nothing is lost that the next push does not have.
            self._env.log.warning("metrics were not pushed", error=str(error))


def _process_metrics(*, whole: bool = False) -> bytes:
    """Memory, processor time and open files of this process, under their usual names.

    Args:
        whole: as OpenMetrics, with its mark of the end.
    """
    # Imported at the first scrape: it is not needed to take events.
    from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - as above

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    encode, _ = choose_encoder(openmetrics.CONTENT_TYPE if whole else "")
    return encode(registry)

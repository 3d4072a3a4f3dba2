"""Workloads or pods of NVIDIA Run:ai with their measurements, one window after the other.

Guarantees: a window is done when every resource in it has all of its measurements; what failed is asked
for again by itself, and is never told as 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from openmeter_collector.api import (
    Batch,
    CatchUp,
    ClientTls,
    CollectorError,
    Duration,
    Env,
    Example,
    Input,
    Message,
    Retryable,
    Unfinished,
    Url,
    WindowedInput,
    check_schedule,
    field,
    input,  # noqa: A004
    section,
    windows_of,
)
from openmeter_collector.components.inputs.run_ai_api import Gone, RunAi
from openmeter_collector.values import json
from openmeter_collector.values.units import format_duration
from openmeter_collector.values.windows import Window, moment_text

_CHUNK: Final = 9  # types of measurement that the API gives in one answer
_MOST_BYTES: Final = 32 << 20
_ENDED: Final = [
    "Creating",
    "Initializing",
    "Resuming",
    "Pending",
    "Updating",
    "Stopped",
    "Stopping",
    "Failed",
    "Completed",
    "Terminating",
    "Unknown",
]
_WORKLOAD_METRICS: Final = [
    "CPU_LIMIT_CORES",
    "CPU_MEMORY_LIMIT_BYTES",
    "CPU_MEMORY_REQUEST_BYTES",
    "CPU_MEMORY_USAGE_BYTES",
    "CPU_REQUEST_CORES",
    "CPU_USAGE_CORES",
    "GPU_ALLOCATION",
    "GPU_MEMORY_REQUEST_BYTES",
    "GPU_MEMORY_USAGE_BYTES",
    "GPU_UTILIZATION",
    "POD_COUNT",
    "RUNNING_POD_COUNT",
]
_POD_METRICS: Final = [
    "CPU_MEMORY_USAGE_BYTES",
    "CPU_USAGE_CORES",
    "GPU_FP16_ENGINE_ACTIVITY_PER_GPU",
    "GPU_FP32_ENGINE_ACTIVITY_PER_GPU",
    "GPU_FP64_ENGINE_ACTIVITY_PER_GPU",
    "GPU_GRAPHICS_ENGINE_ACTIVITY_PER_GPU",
    "GPU_MEMORY_BANDWIDTH_UTILIZATION_PER_GPU",
    "GPU_MEMORY_USAGE_BYTES",
    "GPU_MEMORY_USAGE_BYTES_PER_GPU",
    "GPU_NVLINK_RECEIVED_BANDWIDTH_PER_GPU",
    "GPU_NVLINK_TRANSMITTED_BANDWIDTH_PER_GPU",
    "GPU_PCIE_RECEIVED_BANDWIDTH_PER_GPU",
    "GPU_PCIE_TRANSMITTED_BANDWIDTH_PER_GPU",
    "GPU_SM_ACTIVITY_PER_GPU",
    "GPU_SM_OCCUPANCY_PER_GPU",
    "GPU_SWAP_MEMORY_BYTES_PER_GPU",
    "GPU_TENSOR_ACTIVITY_PER_GPU",
    "GPU_UTILIZATION",
    "GPU_UTILIZATION_PER_GPU",
]

WORKLOADS = Example(
    "Workloads, once a minute",
    """
    input:
      run_ai:
        url: https://tenant.run.ai
        app_id: ${RUNAI_APP_ID}
        app_secret: ${RUNAI_APP_SECRET}
        schedule: '0 * * * * *'
        metrics_offset: 30s
    """,
)


@section
class Http:
    """How requests are made."""

    timeout: Duration = field(default=Duration("30s"), doc="Time for one request.")
    retry_count: int = field(default=1, minimum=0, doc="Repetitions of a request that failed.")
    retry_wait_time: Duration = field(default=Duration("100ms"), doc="Shortest pause before one.")
    retry_max_wait_time: Duration = field(default=Duration("1s"), doc="Longest pause before one.")


@input("run_ai", categories=("Services",), examples=[WORKLOADS])
class RunAiInput:
    """Reads workloads or pods from Run:ai, with the values of measurements over each window.

    A message is the resource as the API shows it, with `resourceType` and `metrics`: `timestamp` (the end
    of the window) and `values`, a number for each measurement, the last one of the window; 0 when the API
    says that there is none.

    When measurements of a resource cannot be had, the others go out, and that resource is asked for again
    until it answers. A resource that does not exist any more is counted in `run_ai_resources_gone`.
    Missed windows are asked for later, by their start and end, over all resources whatever has become of
    them since; in those messages the measurements are of the window, everything else is as it is now.

    Metadata: `scrape_time` (end of the window on the schedule), `scrape_interval`, `metrics_offset`,
    `metrics_time` (end of the window that the measurements are of), `resource_type`, `window_start`,
    `window_end`. With leader election, runs only on the leader.
    """

    leader_only: ClassVar[bool] = True

    url: Url = field(doc="Address of the control plane.", examples=["https://tenant.run.ai"])
    app_id: str = field(doc="Id of the application that reads.")
    app_secret: str = field(secret=True, doc="Its secret.")
    resource_type: Literal["workload", "pod"] = field(
        default="workload", doc="What is read: workloads, or each of their pods."
    )
    metrics: list[str] = field(
        default_factory=list,
        doc="Measurements to ask for. Empty: the twelve of workloads, or the nineteen of pods.",
        examples=[["GPU_ALLOCATION", "CPU_USAGE_CORES"]],
    )
    schedule: str = field(
        default="*/30 * * * * *",
        doc="Where windows end: a cron expression with six fields, seconds first, or `@every 1m`.",
        lint=check_schedule,
    )
    metrics_offset: Duration = field(
        default=Duration("0s"),
        doc="How much earlier than the end of the window on the schedule the measurements end.",
    )
    page_size: int = field(
        default=500, minimum=100, maximum=500, doc="Resources in one answer of a list."
    )
    http: Http = field(default_factory=Http, doc="How requests are made.")
    max_in_flight: int = field(
        default=8, ours=True, minimum=1, maximum=64, doc="Resources that are asked about at a time."
    )
    tls: ClientTls = field(default_factory=ClientTls, ours=True, advanced=True, doc="TLS settings.")
    catch_up: CatchUp = field(
        default_factory=CatchUp, ours=True, doc="Windows that were missed or failed."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Nothing is sent on opening."""
        grid = windows_of(self.schedule, f"{env.node.path}.schedule")
        async with env.http(
            tls=self.tls.context(env.node.path + ".tls"),
            max_connections=self.max_in_flight,
            max_response_bytes=_MOST_BYTES,
        ) as client:
            api = RunAi(
                env,
                client,
                self.url,
                (self.app_id, self.app_secret),
                timeout=float(self.http.timeout),
                retries=self.http.retry_count,
                pauses=(float(self.http.retry_wait_time), float(self.http.retry_max_wait_time)),
            )
            source = _Resources(self, api, env)
            yield WindowedInput(env, source, self.catch_up.plan(grid, "windows"))


class _Resources:
    def __init__(self, config: RunAiInput, api: RunAi, env: Env) -> None:
        self._config = config
        self._api = api
        self._env = env
        self._pods = config.resource_type == "pod"
        self._metrics = config.metrics or list(_POD_METRICS if self._pods else _WORKLOAD_METRICS)
        self._offset = round(float(config.metrics_offset) * 1000)
        self._slots = asyncio.Semaphore(config.max_in_flight)
        self._count = env.metrics.gauge(
            "run_ai_resource_count", "Resources in the last list.", type=config.resource_type
        )
        self._gone = env.metrics.counter(
            "run_ai_resources_gone", "Resources that went away before they could be asked about."
        )

    async def fetch(self, window: Window, rest: Sequence[str]) -> AsyncIterator[Batch]:
        about = Window(window.start - self._offset, window.end - self._offset)
        now = self._env.now() * 1000
        # Of the newest window the list of what runs is enough. Later, what ran then may have ended.
        late = bool(rest) or now > window.end + (window.end - window.start)
        wanted = set(rest)
        failed: list[str] = []
        cause, count = "", 0
        async for rows in self._rows(late=late):
            chosen = [one for one in rows if self._is_wanted(one, about, wanted, late=late)]
            count += len(chosen)
            batch: Batch = []
            outcomes = await asyncio.gather(*(self._measured(one, about) for one in chosen))
            for row, outcome in zip(chosen, outcomes, strict=True):
                wanted.discard(str(row["id"]))
                if isinstance(outcome, Gone):
                    self._gone.add()
                elif isinstance(outcome, CollectorError):
                    failed.append(str(row["id"]))
                    cause = cause or str(outcome)
                elif not late or any(value is not None for value in outcome.values()):
                    batch.append(self._message(row, outcome, window, about))
            if batch:
                yield batch
        self._count.set(count)
        self._gone.add(len(wanted))
        if failed:
            raise Unfinished(f"{len(failed)} resources have no measurements: {cause}", failed)

    async def _rows(self, *, late: bool) -> AsyncIterator[list[dict[str, Any]]]:
        size = self._config.page_size
        if self._pods:
            query = {"verbosity": "full"} | ({} if late else {"completed": "false"})
            pages = self._api.pages("/api/v1/workloads/pods", "pods", query, size)
        else:
            running = {"filterBy": ",".join(f"phase!={one}" for one in _ENDED)}
            pages = self._api.pages("/api/v1/workloads", "workloads", {} if late else running, size)
        async for rows in pages:
            yield rows

    def _is_wanted(
        self, row: Mapping[str, Any], about: Window, wanted: set[str], *, late: bool
    ) -> bool:
        if wanted:
            return str(row.get("id")) in wanted
        if not late:
            return self._pods or int(row.get("runningPods") or 0) > 0
        created = _moment(row.get("createdAt"))
        return created is None or created < about.end

    async def _measured(
        self, row: Mapping[str, Any], about: Window
    ) -> dict[str, Any] | CollectorError:
        """The measurements of one resource, all of them, or why there are not."""
        values: dict[str, Any] = {}
        try:
            for start in range(0, len(self._metrics), _CHUNK):
                async with self._slots:
                    values |= await self._chunk(row, self._metrics[start : start + _CHUNK], about)
        except CollectorError as error:
            return error
        return values

    async def _chunk(
        self, row: Mapping[str, Any], metrics: Sequence[str], about: Window
    ) -> dict[str, Any]:
        path = f"/api/v1/workloads/{row['id']}/metrics"
        kind = "/api/v1/workloads/:id/metrics"
        if self._pods:
            path = f"/api/v1/workloads/{row.get('workloadId')}/pods/{row['id']}/metrics"
            kind = "/api/v1/workloads/:id/pods/:id/metrics"
        query = {
            "metricType": ",".join(metrics),
            "start": moment_text(about.start),
            "end": moment_text(about.end),
            "numberOfSamples": "1",
        }
        answer = await self._api.get(path, query, kind, about.end / 1000)
        try:
            return {
                str(one["type"]): _number(one["values"][-1]["value"]) if one.get("values") else None
                for one in answer["measurements"]
            }
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise Retryable(f"{kind}: the answer has no measurements") from error

    def _message(
        self, row: dict[str, Any], values: dict[str, Any], window: Window, about: Window
    ) -> Message:
        metadata = {
            "scrape_time": moment_text(window.end),
            "scrape_interval": format_duration((window.end - window.start) * 1_000_000),
            "metrics_offset": format_duration(self._offset * 1_000_000),
            "metrics_time": moment_text(about.end),
            "resource_type": self._config.resource_type,
            "window_start": moment_text(about.start),
            "window_end": moment_text(about.end),
        }
        known = {name: 0 if value is None else value for name, value in values.items()}
        metrics = {"timestamp": moment_text(about.end), "values": known}
        kind = self._config.resource_type
        return Message(None, metadata, value={**row, "resourceType": kind, "metrics": metrics})


def _number(text: Any) -> Any:
    """A measurement's text as a number, digit by digit."""
    return json.loads(str(text).encode())


def _moment(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp() * 1000
    except ValueError:
        return None

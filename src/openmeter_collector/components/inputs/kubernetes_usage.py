"""How long each pod and container ran in each window, to the second.

Guarantees: seconds come from the start and finish times that nodes write down, not from moments at which
somebody looked; a pod that lives for a second between two windows is in one of them. A window is
computed only when what is known of the cluster reaches beyond its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal

import orjson

from openmeter_collector.api import (
    Batch,
    CatchUp,
    Duration,
    Env,
    Example,
    Input,
    Intake,
    Message,
    Retryable,
    WindowedInput,
    check_schedule,
    field,
    input,  # noqa: A004
    windows_of,
)
from openmeter_collector.components.inputs.cluster import (
    CONTEXT,
    KUBECONFIG,
    open_cluster,
    paths_of,
)
from openmeter_collector.components.inputs.pod_runs import Part, PodRuns, length_of
from openmeter_collector.components.inputs.pod_watch import PodWatch
from openmeter_collector.kubernetes.client import KubernetesClient
from openmeter_collector.values import json
from openmeter_collector.values.quantity import parse_quantity
from openmeter_collector.values.units import format_duration
from openmeter_collector.values.windows import Window, moment_text

_BATCH: Final = 500
_ZERO: Final = Decimal(0)

PODS = Example(
    "What each customer's pods used, each minute",
    """
    input:
      kubernetes_usage:
        namespaces: []
        interval: 1m
    pipeline:
      processors:
        - mapping: |
            root = {
              "id": event_id(this.uid, meta("window_end")),
              "specversion": "1.0",
              "type": "kube-pod-usage",
              "source": "kubernetes-api",
              "time": meta("window_start"),
              "subject": this.annotations."openmeter.io/subject".or(this.namespace),
              "data": this.totals
            }
    """,
)


@input("kubernetes_usage", ours=True, categories=("Services",), examples=[PODS])
class KubernetesUsage:
    """Tells, for each window, how long pods and their containers ran in it, and what they had asked for.

    Pods are watched. When a window has ended, and a few seconds more (`delay`), each pod that ran in it is a
    message:

    - `name`, `namespace`, `uid`, `node`, `labels`, `annotations`, `owner`, `phase`, `qos_class`;
    - `running_seconds`: of the pod, any of its containers;
    - `containers`: each with `name`, `kind` (`container`, `sidecar`, `init`, `ephemeral`), `running_seconds`,
      `restarts`, `requests` and `limits` (numbers in base units: cores, bytes, pieces; GPUs and other
      extended resources included), and the products `request_seconds` and `limit_seconds`;
    - `totals`: `running_seconds`, and the sums of the products, `request_seconds` and `limit_seconds`;
    - `volumes`, with `storage: true`: the claims of the pod with `storage_class` and `bytes`;
    - `estimated`: true when an end was not written down by anybody (a pod that was removed while nobody
      watched, or with its node) and the time it was last seen is taken.

    With `per: container`, each container is a message of its own, with `container` in the place of
    `containers` and `totals`.

    After a restart, windows that nobody computed are made from what pods that still exist say of their
    start and finish; pods that were deleted meanwhile have left no trace. With leader election, runs only
    on the leader.

    Metadata: `schedule_time` (end of the window), `schedule_interval`, `window_start`, `window_end`.
    """

    leader_only: ClassVar[bool] = True

    namespaces: list[str] = field(
        default_factory=list, doc="Namespaces to watch; empty, or with an empty one in it, is all."
    )
    label_selector: str = field(default="", doc="Only pods with these labels.")
    interval: str = field(
        default="1m",
        doc="Length of windows, or their ends as a cron expression, seconds first.",
        examples=["1m", "1h", "0 0 * * * *"],
        lint=check_schedule,
    )
    delay: Duration = field(
        default=Duration("5s"),
        doc="Time after the end of a window in which news about it may still come.",
    )
    per: Literal["pod", "container"] = field(default="pod", doc="What a message stands for.")
    storage: bool = field(
        default=False, doc="Tell the storage classes of claims; they are listed once a window."
    )
    kubeconfig: str = field(default="", file=bool, doc=KUBECONFIG)
    context: str = field(default="", doc=CONTEXT)
    catch_up: CatchUp = field(default_factory=CatchUp, doc="Windows that were missed or failed.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Find the cluster; nothing is asked of it yet."""
        async with open_cluster(env, self.kubeconfig, self.context) as client:
            yield _Usage(self, env, client)


class _Usage:
    def __init__(self, config: KubernetesUsage, env: Env, client: KubernetesClient) -> None:
        self._config = config
        self._env = env
        self._client = client
        self._runs = PodRuns()
        selector = {"labelSelector": config.label_selector} if config.label_selector else {}
        self._watches = [
            PodWatch(env, client, path, selector, self._runs)
            for path in paths_of("pod", config.namespaces)
        ]
        grid = windows_of(config.interval, f"{env.node.path}.interval")
        plan = config.catch_up.plan(grid, "windows", delay=float(config.delay))
        self._windows = WindowedInput(env, self, plan)
        env.metrics.gauge(
            "kubernetes_usage_pods", "Pods that are kept in mind.", lambda: float(len(self._runs))
        )

    async def run(self, intake: Intake) -> None:
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches:
                tasks.create_task(watch.run())
            tasks.create_task(self._windows.run(intake))

    async def fetch(self, window: Window, rest: Sequence[str]) -> AsyncIterator[Batch]:
        del rest
        for watch in self._watches:
            await watch.known_beyond(window.end)
        classes = await self._claims() if self._config.storage else {}
        metadata = {
            "schedule_time": moment_text(window.end),
            "schedule_interval": format_duration((window.end - window.start) * 1_000_000),
            "window_start": moment_text(window.start),
            "window_end": moment_text(window.end),
        }
        # All at once, before anything is waited for: what is told of one window fits together.
        used = list(self._runs.usage(window.start, window.end))
        batch: Batch = []
        for about, parts in used:
            for value in self._told(orjson.loads(about), parts, classes):
                batch.append(Message(None, metadata, value=value))
            if len(batch) >= _BATCH:
                yield batch
                batch = []
        yield batch
        ledger = self._windows.ledger
        others = [one.start for one in ledger.open if one.start != window.start]
        self._runs.forget(min([*others, window.start]))

    async def _claims(self) -> dict[tuple[str, str], dict[str, Any]]:
        found = {}
        for path in paths_of("persistentvolumeclaim", self._config.namespaces):
            async for page in self._client.pages(path):
                for one in map(orjson.loads, page.items):
                    metadata, spec = one["metadata"], one.get("spec") or {}
                    asked = (spec.get("resources") or {}).get("requests") or {}
                    found[metadata["namespace"], metadata["name"]] = {
                        "claim": metadata["name"],
                        "storage_class": spec.get("storageClassName", ""),
                        "bytes": _number(_quantity(asked.get("storage"))),
                    }
        return found

    def _told(
        self,
        about: dict[str, Any],
        parts: list[Part],
        classes: dict[tuple[str, str], dict[str, Any]],
    ) -> list[dict[str, Any]]:
        metadata = about["metadata"]
        specs = {one["name"]: one for one in about["containers"]}
        containers = [_container(specs.get(part.name) or {}, part) for part in parts]
        owners = metadata.get("ownerReferences") or [{}]
        pod = {
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata["uid"],
            "node": about["node"],
            "labels": metadata.get("labels") or {},
            "annotations": metadata.get("annotations") or {},
            "owner": {"kind": owners[0].get("kind", ""), "name": owners[0].get("name", "")},
            "phase": about["phase"],
            "qos_class": about["qos_class"],
            "priority_class": about["priority_class"],
            "estimated": any(part.estimated for part in parts),
        }
        if self._config.storage:
            keys = [(pod["namespace"], claim) for claim in about["claims"]]
            pod["volumes"] = [classes[key] for key in keys if key in classes]
        if self._config.per == "container":
            return [{**pod, "container": _plain(one)} for one in containers]
        spans = [span for part in parts if part.kind != "init" for span in part.spans]
        running = Decimal(length_of(spans)) / 1000
        totals: dict[str, Any] = {"running_seconds": running}
        for kind in ("request_seconds", "limit_seconds"):
            sums: dict[str, Decimal] = {}
            for one in containers:
                for name, amount in one[kind].items():
                    sums[name] = sums.get(name, _ZERO) + amount
            totals[kind] = sums
        told = {"running_seconds": running, "containers": containers, "totals": totals}
        return [pod | _plain(told)]


def _container(spec: dict[str, Any], part: Part) -> dict[str, Any]:
    resources = spec.get("resources") or {}
    seconds = Decimal(part.milliseconds) / 1000
    requests = {name: _quantity(text) for name, text in (resources.get("requests") or {}).items()}
    limits = {name: _quantity(text) for name, text in (resources.get("limits") or {}).items()}
    return {
        "name": part.name,
        "kind": part.kind,
        "image": spec.get("image", ""),
        "running_seconds": seconds,
        "restarts": part.restarts,
        "requests": requests,
        "limits": limits,
        "request_seconds": {name: amount * seconds for name, amount in requests.items()},
        "limit_seconds": {name: amount * seconds for name, amount in limits.items()},
    }


def _quantity(text: Any) -> Decimal:
    try:
        return Decimal(parse_quantity(str(text))) if text is not None else _ZERO
    except ValueError as error:
        raise Retryable(f"{text!r} is no quantity of Kubernetes") from error


def _plain(value: Any) -> Any:
    """Decimals as numbers of JSON, digit by digit."""
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value


def _number(value: Decimal) -> Any:
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return json.loads(text.encode())

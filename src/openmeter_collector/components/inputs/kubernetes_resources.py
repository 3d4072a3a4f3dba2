"""Objects of a Kubernetes cluster as they are now.

Guarantees: each object that is there during the list comes once, however large the cluster; memory is
that of one page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, Literal

import orjson

from openmeter_collector.api import (
    Delivery,
    EndOfInput,
    Env,
    Example,
    Message,
    Puller,
    Retryable,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.inputs.cluster import (
    CONTEXT,
    KUBECONFIG,
    open_cluster,
    paths_of,
)
from openmeter_collector.kubernetes.client import KubernetesClient

PODS = Example(
    "All running pods, once a minute",
    """
    input:
      schedule:
        interval: 1m
        input:
          kubernetes_resources:
            namespaces: []
            label_selector: billing=true
    """,
)
# What has ended is not wanted, and the server knows it.
_NOT_ENDED: Final = "status.phase!=Succeeded,status.phase!=Failed"


@input("kubernetes_resources", categories=("Services",), examples=[PODS])
class KubernetesResources:
    """Lists pods, nodes, persistent volumes or claims, and ends; `schedule` makes it do so again and again.

    Each object is a message: its JSON as the API gives it in a list, so without `kind` and `apiVersion`.
    Pods that are running come, with `include_pending_pods` also pending ones; those that have ended do not.

    With `namespaces` given, only those are listed, and a Role in each of them is enough. The list is read
    in pages, so memory does not grow with the cluster.

    This shows who is there at one moment. Pods that live between two moments are not seen: to count
    seconds, use `kubernetes_usage`. With leader election, runs only on the leader.
    """

    reads_once: ClassVar[bool] = True
    leader_only: ClassVar[bool] = True

    namespaces: list[str] = field(
        doc="Namespaces to list; empty, or with an empty one in it, is all."
    )
    resource_type: Literal["pod", "node", "persistentvolume", "persistentvolumeclaim"] = field(
        default="pod", doc="Kind of objects."
    )
    label_selector: str = field(
        default="", doc="Only objects with these labels.", examples=["app=web,tier in (a, b)"]
    )
    include_pending_pods: bool = field(
        default=False, doc="Pods that are not running yet come as well."
    )
    field_selector: str = field(
        default="",
        ours=True,
        doc="Only objects with these fields, as far as the API can select by them.",
        examples=["spec.nodeName=node-1"],
    )
    page_size: int = field(
        default=500,
        ours=True,
        advanced=True,
        minimum=1,
        maximum=5000,
        doc="Objects in one request.",
    )
    kubeconfig: str = field(default="", ours=True, file=bool, doc=KUBECONFIG)
    context: str = field(default="", ours=True, doc=CONTEXT)

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller]:
        """Find the cluster; nothing is asked of it yet."""
        async with open_cluster(env, self.kubeconfig, self.context) as client:
            yield _List(self, client)


class _List:
    def __init__(self, config: KubernetesResources, client: KubernetesClient) -> None:
        self._config = config
        self._client = client
        self._pages = self._read()

    async def read(self) -> Delivery:
        async for delivery in self._pages:
            return delivery
        raise EndOfInput("the list is read")

    async def _read(self) -> AsyncIterator[Delivery]:
        config = self._config
        pods = config.resource_type == "pod"
        fields = [config.field_selector, _NOT_ENDED if pods else ""]
        params = {
            "labelSelector": config.label_selector,
            "fieldSelector": ",".join(one for one in fields if one),
        }
        params = {name: value for name, value in params.items() if value}
        for path in paths_of(config.resource_type, config.namespaces):
            async for page in self._client.pages(path, params, size=config.page_size):
                found = page.items
                if pods:
                    found = [one for one in found if self._is_wanted(one)]
                if found:
                    yield Delivery([Message(one) for one in found])

    def _is_wanted(self, pod: bytes) -> bool:
        try:
            phase = phase_of(orjson.loads(pod))
        except (ValueError, TypeError, AttributeError) as error:
            raise Retryable("the API server's list has something in it that is no pod") from error
        return phase == "Running" or (phase == "Pending" and self._config.include_pending_pods)


def phase_of(pod: Mapping[str, Any]) -> str:
    """The phase of a pod; worked out from its containers when it has none."""
    status = pod.get("status") or {}
    phase = str(status.get("phase") or "")
    if phase:
        return phase
    containers = status.get("containerStatuses") or []
    running = [bool((one.get("state") or {}).get("running")) for one in containers]
    if running and all(running):
        return "Running"
    return "Pending" if any(running) else ""

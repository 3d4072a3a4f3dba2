"""What the inputs that read from a Kubernetes cluster share: which cluster, which namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from openmeter_collector.api import Env
from openmeter_collector.kubernetes.client import KubernetesClient
from openmeter_collector.kubernetes.kubeconfig import find_access

_MOST_BYTES: Final = 64 << 20
COLLECTIONS: Final = {
    "pod": "pods",
    "node": "nodes",
    "persistentvolume": "persistentvolumes",
    "persistentvolumeclaim": "persistentvolumeclaims",
}
_CLUSTER_WIDE: Final = frozenset({"node", "persistentvolume"})
KUBECONFIG: Final = (
    "A kubeconfig file, or several with `:` between. Empty looks at `KUBECONFIG`, the service account of "
    "the pod, and `~/.kube/config`, in this order. Client certificates, tokens, token files that rotate and "
    "exec plug-ins are understood."
)
CONTEXT: Final = "Context of the kubeconfig; empty for its current one."


@asynccontextmanager
async def open_cluster(env: Env, kubeconfig: str, context: str) -> AsyncIterator[KubernetesClient]:
    """A client of the cluster that a config means.

    Raises:
        ConfigError: there is none.
    """
    access = find_access(kubeconfig, context)
    async with env.http(
        tls=access.tls, max_connections=16, max_response_bytes=_MOST_BYTES, proxy=access.proxy
    ) as http:
        yield KubernetesClient(http, access, env.now)


def paths_of(resource_type: str, namespaces: Sequence[str | None]) -> list[str]:
    """Where the objects of a kind are listed: per namespace if some are named, else once for all."""
    collection = COLLECTIONS[resource_type]
    # `- ${SCRAPE_NAMESPACE:}` is an empty or a null item, and means all.
    named = list(dict.fromkeys((one or "").strip().lower() for one in namespaces))
    if resource_type in _CLUSTER_WIDE or not named or "" in named:
        return [f"/api/v1/{collection}"]
    return [f"/api/v1/namespaces/{one}/{collection}" for one in named]

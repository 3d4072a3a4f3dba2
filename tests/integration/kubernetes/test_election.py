"""Leader election and shared positions of real processes, with a Lease of a real API server.

Each replica has the rights of `deploy/kubernetes/leader-election.yaml` and no others.
"""

import contextlib
import signal
from pathlib import Path

import pytest

from kit.cluster import ApiError
from kit.replicas import NAMESPACE, World, rehearse

_LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
MANIFEST = Path(__file__).parents[3] / "deploy/kubernetes/leader-election.yaml"


class Server:
    """The API server as `rehearse` knows it."""

    def __init__(self, cluster, account):
        self._cluster = cluster
        self._token = cluster.token(NAMESPACE, account)
        self._down = False

    def kubeconfig(self, namespace):
        return self._cluster.kubeconfig(self._token, namespace)

    def all_of(self, resource):
        assert resource == "leases"
        with contextlib.suppress(ApiError, OSError):
            return self._cluster.get(_LEASES.format(NAMESPACE))["items"]
        return []

    @property
    def down(self):
        return self._down

    @down.setter
    def down(self, wanted):
        if wanted and not self._down:
            self._cluster.stop_api_server(signal.SIGKILL)
        if not wanted and self._down:
            self._cluster.start_api_server(wait=False)
        self._down = wanted


@pytest.mark.slow
async def test_each_window_arrives_whatever_happens_to_replicas_and_server(cluster, tmp_path):
    cluster.namespace(NAMESPACE)
    cluster.account(NAMESPACE, "openmeter-collector")
    cluster.apply(MANIFEST.read_text())
    async with World().serve() as world:
        await rehearse(tmp_path, Server(cluster, "openmeter-collector"), world, 3, seed=7, rounds=9)
    asked = cluster.asked_by(NAMESPACE, "openmeter-collector")
    assert {one["verb"] for one in asked} == {"create", "get", "update"}
    granted, refused = set(), set()
    for one in asked:
        kind = one["verb"], one["objectRef"].get("name", "")
        (refused if one["responseStatus"]["code"] == 403 else granted).add(kind)
    # A server that has just started has not read the roles yet, and refuses everybody for a moment.
    assert refused <= granted

"""The same steps against the API server in memory and against a real one."""

import contextlib
import itertools

from kit.cluster import ApiError
from openmeter_collector.testing.kubernetes import FakeKubernetes

_ROOTS = {"pods": "/api/v1", "leases": "/apis/coordination.k8s.io/v1"}
_NAMESPACES = itertools.count(1)


def plain_pod(name, labels=None, **spec):
    """A pod as somebody writes it; nothing has happened to it yet."""
    container = {"name": "main", "image": "example.com/main:1"}
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }


class InMemory:
    """A side of its own for each test."""

    def __init__(self, server):
        self._server = server
        self.namespace = "here"

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls):
        async with FakeKubernetes().serve() as server:
            yield cls(server)

    def kubeconfig(self):
        return self._server.kubeconfig(namespace=self.namespace)

    def put(self, made, phase="Running"):
        made = made | {"metadata": made["metadata"] | {"namespace": self.namespace}}
        return self._server.put("pods", made | {"status": {"phase": phase}})

    def remove(self, name):
        self._server.remove("pods", name, self.namespace)

    def forget(self):
        self._server.compact()

    def bookmark(self):
        self._server.bookmark()


class Real:
    """A namespace of a real cluster."""

    def __init__(self, cluster):
        self._cluster = cluster
        self.namespace = cluster.namespace(f"side-{next(_NAMESPACES)}")
        self._pods = f"/api/v1/namespaces/{self.namespace}/pods"

    def kubeconfig(self):
        return self._cluster.kubeconfig(namespace=self.namespace)

    def put(self, made, phase="Running"):
        path = f"{self._pods}/{made['metadata']['name']}"
        try:
            found = self._cluster.get(path)
        except ApiError as error:
            assert error.code == 404, error
            found = self._cluster.create(self._pods, made)
        labels = made["metadata"]["labels"]
        if found["metadata"].get("labels", {}) != labels:
            found = self._cluster.replace(
                path, found | {"metadata": found["metadata"] | {"labels": labels}}
            )
        if found["status"]["phase"] == phase:
            return found
        status = found["status"] | {"phase": phase}
        return self._cluster.replace(f"{path}/status", found | {"status": status})

    def remove(self, name):
        self._cluster.delete(f"{self._pods}/{name}")

    def forget(self):
        self._cluster.forget()

    def bookmark(self):
        """It tells of one when a watch is about to end."""

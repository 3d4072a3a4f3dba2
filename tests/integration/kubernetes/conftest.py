"""One control plane for all tests here; each has namespaces of its own."""

import itertools

import pytest

from kit.chart import CHART
from kit.cluster import Cluster
from kit.helm import Helm
from kit.needs import helm, require

# What a namespace says so that nothing runs in it that is not as restricted as can be.
RESTRICTED = {f"pod-security.kubernetes.io/{one}": "restricted" for one in ("enforce", "warn")}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    programs = require("kube-apiserver"), require("etcd")
    with Cluster.serve(tmp_path_factory.mktemp("cluster"), programs) as made:
        yield made


@pytest.fixture(scope="session")
def controllers(cluster):
    """What makes pods of StatefulSets, and takes away what nobody owns."""
    cluster.start_controllers(require("kube-controller-manager"))


@pytest.fixture(scope="session")
def _numbers():
    return itertools.count(1)


@pytest.fixture
def namespace(cluster, _numbers):
    return cluster.namespace(f"test-{next(_numbers)}", RESTRICTED)


@pytest.fixture
def release(cluster, namespace, tmp_path):
    """Helm, with the chart, in the namespace."""
    require("Helm")
    kubeconfig = tmp_path / "admin.kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig())
    with Helm.of(helm(), CHART, kubeconfig, namespace, tmp_path / "helm.log") as made:
        yield made

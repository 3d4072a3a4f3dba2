"""The chart against a real API server: what it makes is valid, is admitted, and can be changed and removed."""

import pytest
import yaml

from kit.chart import CONFIG, SETS
from kit.cluster import ApiError
from kit.helm import Refused
from kit.waiting import until_true

_PLURALS = {
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "StatefulSet": "statefulsets",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "NetworkPolicy": "networkpolicies",
    "Ingress": "ingresses",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ServiceMonitor": "servicemonitors",
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
}
_CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding"}
_RELEASED = "meta.helm.sh/release-namespace"
_LABEL = "app.kubernetes.io/instance=demo"
# A StatefulSet keeps what its volumes are made from, and how its pods are started, for life.
_FOR_LIFE = {"no storage", "storage elsewhere", "a storage class", "upstream's quickstart"}
_CHANGEABLE = [one for one in SETS if one not in _FOR_LIFE]


@pytest.fixture(scope="module", autouse=True)
def _definitions(cluster):
    """Of Prometheus's operator: that there are such objects, not what may be in them."""
    for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule"):
        plural = _PLURALS[kind]
        anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}  # fmt: skip
        cluster.create(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            {
                "metadata": {"name": f"{plural}.monitoring.coreos.com"},
                "spec": {
                    "group": "monitoring.coreos.com",
                    "scope": "Namespaced",
                    "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                    "versions": [version],
                },
            },
        )
        collection = f"/apis/monitoring.coreos.com/v1/{plural}"
        until_true(lambda path=collection: _is_there(cluster, path))


def _is_there(cluster, path):
    try:
        return cluster.get(path)
    except ApiError as error:
        assert error.code in {404, 429}, error
        return None


def _collection(one, namespace):
    version = one["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if one["kind"] in _CLUSTER_WIDE:
        return f"{root}/{_PLURALS[one['kind']]}"
    place = one["metadata"].get("namespace", namespace)
    return f"{root}/namespaces/{place}/{_PLURALS[one['kind']]}"


def _objects(release):
    return [one for one in yaml.safe_load_all(release["manifest"]) if one]


def _pod_of(objects, name="demo-0"):
    (found,) = [one for one in objects if one["kind"] == "StatefulSet"]
    template = found["spec"]["template"]
    volumes = template["spec"].get("volumes", [])
    claims = [
        {"name": one["metadata"]["name"], "persistentVolumeClaim": {"claimName": "data"}}
        for one in found["spec"].get("volumeClaimTemplates", ())
    ]
    return {
        "metadata": template["metadata"] | {"name": name},
        "spec": template["spec"] | {"volumes": volumes + claims},
    }


@pytest.fixture
def others(cluster, namespace):
    """What some values expect to be there."""
    for name in ("a", "b", "1e3"):
        if not _is_there(cluster, f"/api/v1/namespaces/{name}"):
            cluster.namespace(name)
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    for name in ("high", "0x1"):
        if not _is_there(cluster, f"{classes}/{name}"):
            cluster.create(classes, {"metadata": {"name": name}, "value": 1})
    cluster.account(namespace, "mine")


@pytest.mark.parametrize("name", SETS)
def test_what_is_made_is_valid_admitted_and_removed_again(
    cluster, namespace, release, others, name
):
    made = _objects(release.install("demo", SETS[name]))
    for one in made:
        path = f"{_collection(one, namespace)}/{one['metadata']['name']}"
        there = cluster.get(path)
        assert there["metadata"]["labels"].items() >= one["metadata"]["labels"].items()
        cluster.request(
            "PATCH",
            path,
            one,
            content_type="application/apply-patch+yaml",
            fieldManager="somebody",
            dryRun="All",
            force="true",
            fieldValidation="Strict",
        )
        assert cluster.warnings == [], path
    pod = cluster.create(
        f"/api/v1/namespaces/{namespace}/pods",
        _pod_of(made),
        dryRun="All",
        fieldValidation="Strict",
    )
    assert cluster.warnings == [], "Pod Security has something to say"
    mounts = [one["mountPath"] for one in pod["spec"]["containers"][0]["volumeMounts"]]
    needs_token = pod["spec"]["automountServiceAccountToken"]
    assert ("/var/run/secrets/kubernetes.io/serviceaccount" in mounts) == needs_token
    release.uninstall("demo")
    assert _of_the_release(cluster, namespace) == set()
    assert release.said() == ""


def _of_the_release(cluster, namespace):
    """Names of all that the release has made, wherever it is."""
    found = set()
    for kind, plural in _PLURALS.items():
        version = _VERSIONS.get(kind, "v1")
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        listed = cluster.request("GET", f"{root}/{plural}", labelSelector=_LABEL)["items"]
        for metadata in (one["metadata"] for one in listed):
            if metadata.get("annotations", {}).get(_RELEASED) == namespace:
                found.add((kind, metadata["name"]))
    return found


_VERSIONS = {
    "StatefulSet": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Ingress": "networking.k8s.io/v1",
    **dict.fromkeys(("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"), "rbac.authorization.k8s.io/v1"),
    **dict.fromkeys(("ServiceMonitor", "PodMonitor", "PrometheusRule"), "monitoring.coreos.com/v1"),
}  # fmt: skip


def test_any_values_can_follow_any_others(cluster, namespace, release, others):
    release.install("demo", SETS[_CHANGEABLE[0]])
    for name in [*_CHANGEABLE, *_CHANGEABLE[::-1]]:
        made = _objects(release.upgrade("demo", SETS[name]))
        wanted = {(one["kind"], one["metadata"]["name"]) for one in made}
        assert _of_the_release(cluster, namespace) == wanted, name
    release.uninstall("demo")
    assert _of_the_release(cluster, namespace) == set()


@pytest.mark.parametrize("name", sorted(_FOR_LIFE))
def test_other_volumes_are_refused_until_the_statefulset_is_made_anew(
    cluster, controllers, namespace, release, others, name
):
    release.install("demo", SETS["preset"])
    with pytest.raises(Refused, match="updates to statefulset spec for fields other than"):
        release.upgrade("demo", SETS[name])
    release.upgrade("demo", SETS["scaled out"])
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/demo-openmeter-collector"
    cluster.request("DELETE", path, {"propagationPolicy": "Orphan"})
    until_true(lambda: not _is_there(cluster, path))
    release.upgrade("demo", SETS[name])
    assert _is_there(cluster, path)


def test_pods_and_volumes_come_to_life_and_volumes_outlive_the_release(
    cluster, controllers, namespace, release
):
    release.install("demo", SETS["scaled out"])
    pods = f"/api/v1/namespaces/{namespace}/pods"
    until_true(lambda: len(cluster.get(pods)["items"]) == 3)
    claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    names = {f"data-demo-openmeter-collector-{at}" for at in range(3)}
    assert {one["metadata"]["name"] for one in cluster.get(claims)["items"]} == names
    events = cluster.get(f"/api/v1/namespaces/{namespace}/events")["items"]
    assert [one["message"] for one in events if one["type"] == "Warning"] == []
    release.uninstall("demo")
    until_true(lambda: not [one for one in cluster.get(pods)["items"] if not _ends(one)])
    assert {one["metadata"]["name"] for one in cluster.get(claims)["items"]} == names


def _ends(pod):
    return "deletionTimestamp" in pod["metadata"]


def test_pod_security_would_refuse_a_pod_that_may_more(cluster, namespace, release):
    made = release.install(
        "demo", {"config": CONFIG, "securityContext": {"runAsUser": 0, "runAsNonRoot": False}}
    )
    with pytest.raises(ApiError, match="violates PodSecurity"):
        cluster.create(
            f"/api/v1/namespaces/{namespace}/pods", _pod_of(_objects(made)), dryRun="All"
        )

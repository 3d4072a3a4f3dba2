"""Pods as a cluster shows them: the shape of one recorded from a real cluster (1.29), names changed."""

import copy

_POD = {
    "metadata": {
        "name": "web-7d4b9c6f5-x2x9k",
        "generateName": "web-7d4b9c6f5-",
        "namespace": "default",
        "uid": "0d5a4b0e-9f0f-4a8e-8a4f-2f6f3e1f4a55",
        "resourceVersion": "812345",
        "creationTimestamp": "2023-11-14T22:00:00Z",
        "labels": {"app": "web", "pod-template-hash": "7d4b9c6f5"},
        "annotations": {
            "openmeter.io/subject": "customer-1",
            "data.openmeter.io/customer_group": "platinum",
        },
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "web-7d4b9c6f5",
                "uid": "6a1c2d3e-0000-4a8e-8a4f-2f6f3e1f4a55",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
        "managedFields": [
            {
                "manager": "kube-controller-manager",
                "operation": "Update",
                "apiVersion": "v1",
                "time": "2023-11-14T22:00:00Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}},
            }
        ],
    },
    "spec": {
        "containers": [
            {
                "name": "web",
                "image": "registry.example/web:1.4.2",
                "resources": {
                    "limits": {"cpu": "500m", "memory": "128Mi"},
                    "requests": {"cpu": "250m", "memory": "64Mi"},
                },
                "terminationMessagePath": "/dev/termination-log",
                "imagePullPolicy": "IfNotPresent",
            }
        ],
        "restartPolicy": "Always",
        "nodeName": "node-a",
        "serviceAccountName": "default",
        "tolerations": [
            {
                "key": "node.kubernetes.io/not-ready",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            }
        ],
    },
    "status": {
        "phase": "Running",
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": "2023-11-14T22:00:05Z",
            }
        ],
        "hostIP": "10.0.0.4",
        "podIP": "10.1.2.3",
        "podIPs": [{"ip": "10.1.2.3"}],
        "startTime": "2023-11-14T22:00:01Z",
        "containerStatuses": [
            {
                "name": "web",
                "state": {"running": {"startedAt": "2023-11-14T22:00:03Z"}},
                "lastState": {},
                "ready": True,
                "restartCount": 0,
                "image": "registry.example/web:1.4.2",
                "imageID": "registry.example/web@sha256:0123",
                "containerID": "containerd://c0",
                "started": True,
            }
        ],
        "qosClass": "Burstable",
    },
}


def pod(name, namespace="default", *, phase="Running", **more):
    """A pod of that name; `uid`, `labels`, `annotations`, `started` (of its container) may be said."""
    made = copy.deepcopy(_POD)
    metadata = made["metadata"]
    metadata |= {"name": name, "namespace": namespace, "uid": more.get("uid", f"uid-{name}")}
    if "labels" in more:
        metadata["labels"] = more["labels"]
    if "annotations" in more:
        metadata["annotations"] = more["annotations"]
    made["status"]["phase"] = phase
    if "started" in more:
        state = {"running": {"startedAt": more["started"]}}
        made["status"]["containerStatuses"][0]["state"] = state
    return made


def many(count, namespace="default"):
    """Pods that share all but their names: a large cluster in little memory."""
    shared = pod("shared")
    return (
        {
            **shared,
            "metadata": {**shared["metadata"], "name": f"pod-{at:06d}", "namespace": namespace},
        }
        for at in range(count)
    )

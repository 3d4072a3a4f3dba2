"""The chart, and the values it is tried with: those of upstream's chart and ours."""

from pathlib import Path

from openmeter_collector.presets import presets

CHART = Path(__file__).parents[2] / "deploy/helm/openmeter-collector"
CONFIG = {"input": {"generate": {"mapping": "root = {}"}}, "output": {"drop": {}}}
SETS = {
    "preset": {"preset": "http-server"},
    "upstream's quickstart": {
        "preset": "http-server",
        "openmeter": {"url": "https://openmeter.cloud", "token": "om_secret"},
        "service": {"enabled": True},
        "storage": {"enabled": True, "size": "5Gi"},
    },
    "upstream's kubernetes": {
        "preset": "kubernetes-pod-exec-time",
        "openmeter": {"url": "https://openmeter.cloud", "token": "om_secret"},
        "leaderElection": {"enabled": True},
        "replicaCount": 2,
    },
    "config": {"config": CONFIG},
    "config before the others": {"config": CONFIG, "configFile": "/x.yaml", "preset": "otel"},
    "configFile": {
        "configFile": "/config/c.yaml",
        "volumes": [{"name": "c", "configMap": {"name": "c"}}],
        "volumeMounts": [{"name": "c", "mountPath": "/config"}],
    },
    "existing secrets": {"existingConfig": "my-config", "openmeter": {"existingSecret": "my-secret"}},
    "no storage": {"preset": "http-server", "storage": {"enabled": False}},
    "storage elsewhere": {
        "preset": "http-server",
        "storage": {"mountPath": "/journal/", "storageClass": "-", "selector": {"matchLabels": {"a": "b"}}},
    },
    "a storage class": {"preset": "http-server", "storage": {"storageClass": "fast", "labels": {"a": "b"}}},
    "own buffer path": {"preset": "http-server", "env": {"BUFFER_PATH": "/data/other.db", "N": 5}},
    "scaled out": {
        "preset": "http-server",
        "replicaCount": 3,
        "service": {"enabled": True, "type": "LoadBalancer", "annotations": {"a": "b"}},
    },
    "workers": {
        "preset": "http-server",
        "workers": 3,
        "service": {"enabled": True},
        "networkPolicy": {"enabled": True},
        "metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
    },
    "ingress": {
        "preset": "http-server",
        "service": {"enabled": True},
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "hosts": [{"host": "events.example.com"}],
            "tls": [{"hosts": ["events.example.com"], "secretName": "tls"}],
        },
    },
    "otel with its ports": {
        "preset": "otel",
        "service": {"enabled": True, "extraPorts": [{"name": "otlp-grpc", "port": 4317}]},
        "networkPolicy": {"enabled": True},
    },
    "network policy": {
        "preset": "http-server",
        "service": {"enabled": True},
        "networkPolicy": {
            "enabled": True,
            "ingressFrom": [{"namespaceSelector": {}}],
            "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
        },
    },
    "namespaced reading": {
        "config": {"input": {"kubernetes_resources": {}}, "output": {"drop": {}}},
        "rbac": {"kubernetes": {"namespaces": ["a", "b"]}},
    },
    "no roles": {"preset": "kubernetes-pod-exec-time", "rbac": {"create": False}},
    "own service account": {"preset": "http-server", "serviceAccount": {"create": False, "name": "mine"}},
    "certificates": {"preset": "http-server", "caRootCertificates": {"root.crt": "-----BEGIN CERTIFICATE-----\nx"}},
    "monitoring": {
        "preset": "http-server",
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "podMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "dashboards": {"enabled": True},
        },
    },
    "placing": {
        "preset": "http-server",
        "nodeSelector": {"a": "b"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}],
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "image": {"repository": "example/collector", "tag": "1.2.3"},
        "envVars": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "envFrom": [{"secretRef": {"name": "more"}}],
        "resources": {},
    },
    "words of YAML": {
        "config": {"input": {"kubernetes_usage": {"namespaces": ["1e3"]}}, "output": {"drop": {}}},
        "nameOverride": "1e3",
        "fullnameOverride": "null",
        "env": {"N": True, "y": 0x10, "NO": "no"},
        "serviceAccount": {"name": "true"},
        "rbac": {"kubernetes": {"namespaces": ["1e3"]}},
        "priorityClassName": "0x1",
        "service": {"enabled": True, "extraPorts": [{"name": "on", "port": 4317}]},
        "networkPolicy": {"enabled": True},
        "ingress": {"enabled": True, "className": "off", "hosts": [{"host": "example.com"}]},
    },
    "long names": {"preset": "http-server", "fullnameOverride": "x" * 80, "nameOverride": "y" * 80},
    **{f"preset {one.name}": {"preset": one.name} for one in presets()},
}  # fmt: skip

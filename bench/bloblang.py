"""Mappings: compiled, as closures, and the same written by hand in Python; JSON included.

Each event is parsed from bytes, mapped, and written to bytes. Best of several rounds, one core.
"""

# ruff: noqa: ARG001, A004 - all of a kind are called alike

from __future__ import annotations

import cProfile
import json
import pstats
import sys
import time
import uuid
from datetime import UTC, datetime

import orjson

from bench.bloblang_closures import closures
from openmeter_collector.bloblang import SimpleDocument, compile
from openmeter_collector.values import json as value_json

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "api-7d4b9c6f5-x2k8p",
        "namespace": "production",
        "uid": "6f1c2b1e-8d3a-4d7f-9d21-3c5b8a1f0e22",
        "resourceVersion": "184467",
        "creationTimestamp": "2024-05-01T10:00:00Z",
        "labels": {"app": "api", "pod-template-hash": "7d4b9c6f5"},
        "annotations": {
            "openmeter.io/subject": "customer-1",
            "data.openmeter.io/plan": "pro",
            "data.openmeter.io/region": "eu-1",
            "prometheus.io/scrape": "true",
        },
    },
    "spec": {
        "containers": [
            {
                "name": "api",
                "image": "registry.example.com/api:1.2.3",
                "resources": {
                    "limits": {"cpu": "500m", "memory": "512Mi"},
                    "requests": {"cpu": "250m", "memory": "256Mi"},
                },
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            }
        ],
        "nodeName": "node-1",
        "restartPolicy": "Always",
    },
    "status": {"phase": "Running", "podIP": "10.0.0.1", "startTime": "2024-05-01T10:00:00Z"},
}
POD_MAPPING = """
root = {
  "id": uuid_v4(),
  "specversion": "1.0",
  "type": "kube-pod-exec-time",
  "source": "kubernetes-api",
  "time": meta("schedule_time"),
  "subject": this.metadata.annotations."openmeter.io/subject".or(this.metadata.name),
  "data": this.metadata.annotations.filter(item -> item.key.has_prefix("data.openmeter.io/")).map_each_key(key -> key.trim_prefix("data.openmeter.io/")).assign({
    "pod_name": this.metadata.name,
    "pod_namespace": this.metadata.namespace,
    "duration_seconds": (meta("schedule_interval").parse_duration() / 1000 / 1000 / 1000).round().int64(),
    "memory_limit": this.spec.containers.index(0).resources.limits.memory,
    "memory_requests": this.spec.containers.index(0).resources.requests.memory,
    "cpu_limit": this.spec.containers.index(0).resources.limits.cpu,
    "cpu_requests": this.spec.containers.index(0).resources.requests.cpu,
  }),
}
"""
POD_META = {"schedule_time": "2024-05-01T10:00:10Z", "schedule_interval": "10s"}
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def seconds(text):
    for unit, size in UNITS.items():
        if text.endswith(unit) and text[: -len(unit)].isdigit():
            return float(text[: -len(unit)]) * size
    raise ValueError(text)


def pod_by_hand(document, meta):
    metadata = document["metadata"]
    annotations = metadata.get("annotations") or {}
    resources = document["spec"]["containers"][0].get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    data = {
        key.removeprefix("data.openmeter.io/"): value
        for key, value in annotations.items()
        if key.startswith("data.openmeter.io/")
    }
    data.update(
        pod_name=metadata.get("name"),
        pod_namespace=metadata.get("namespace"),
        duration_seconds=round(seconds(meta["schedule_interval"])),
        memory_limit=limits.get("memory"),
        memory_requests=requests.get("memory"),
        cpu_limit=limits.get("cpu"),
        cpu_requests=requests.get("cpu"),
    )
    return {
        "id": str(uuid.uuid4()),
        "specversion": "1.0",
        "type": "kube-pod-exec-time",
        "source": "kubernetes-api",
        "time": meta["schedule_time"],
        "subject": annotations.get("openmeter.io/subject") or metadata.get("name"),
        "data": data,
    }


PROMETHEUS = {
    "name": "node_cpu_usage",
    "timestamp": "2024-05-01T10:00:00Z",
    "values": [
        {
            "metric": {"instance": f"10.0.0.{i}:9100", "job": "node"},
            "value": [1714557600.781, "1.5"],
        }
        for i in range(10)
    ],
}
PROMETHEUS_MAPPING = """
root = this.values.map_each(value -> {
  "id": uuid_v4(),
  "specversion": "1.0",
  "type": this.name,
  "source": "prometheus",
  "time": this.timestamp,
  "subject": value.metric.instance,
  "data": {
    "value": value.value,
    "metric": value.metric
  }
})
"""


def prometheus_by_hand(document, meta):
    name, moment = document.get("name"), document.get("timestamp")
    return [
        {
            "id": str(uuid.uuid4()),
            "specversion": "1.0",
            "type": name,
            "source": "prometheus",
            "time": moment,
            "subject": value["metric"].get("instance"),
            "data": {"value": value.get("value"), "metric": value.get("metric")},
        }
        for value in document["values"]
    ]


RUNAI = {
    "name": "train-1",
    "tenantId": 12,
    "projectId": "p-1",
    "departmentId": "d-1",
    "clusterId": "6f1c2b1e-8d3a-4d7f-9d21-3c5b8a1f0e22",
    "type": "Training",
    "phase": "Running",
    "allocatedResources": {"gpu": 1.5},
    "metrics": {"values": {"CPU_LIMIT_CORES": 4, "GPU_UTILIZATION": 71.5}},
}
RUNAI_MAPPING = """
let duration_seconds = (meta("scrape_interval").parse_duration() / 1000 / 1000 / 1000).round().int64()
let gpu_allocation_minutes = this.allocatedResources.gpu.number(0) * $duration_seconds / 60
let cpu_limit_core_minutes = this.metrics.values.CPU_LIMIT_CORES.number(0) * $duration_seconds / 60
# Add metrics as needed...

root = {
  "id": uuid_v4(),
  "specversion": "1.0",
  "type": meta("resource_type"),
  "source": "run_ai",
  "time": now(),
  "subject": this.name,
  "data": {
    "tenant": this.tenantId,
    "project": this.projectId,
    "department": this.departmentId,
    "cluster": this.clusterId,
    "type": this.type,
    "gpuAllocationMinutes": $gpu_allocation_minutes,
    "cpuLimitCoreMinutes": $cpu_limit_core_minutes,
  }
}
"""
RUNAI_META = {"scrape_interval": "30s", "resource_type": "workload"}


def number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def runai_by_hand(document, meta):
    duration = round(seconds(meta["scrape_interval"]))
    gpu = number((document.get("allocatedResources") or {}).get("gpu"))
    values = (document.get("metrics") or {}).get("values") or {}
    return {
        "id": str(uuid.uuid4()),
        "specversion": "1.0",
        "type": meta["resource_type"],
        "source": "run_ai",
        "time": datetime.now(UTC).isoformat(),
        "subject": document.get("name"),
        "data": {
            "tenant": document.get("tenantId"),
            "project": document.get("projectId"),
            "department": document.get("departmentId"),
            "cluster": document.get("clusterId"),
            "type": document.get("type"),
            "gpuAllocationMinutes": gpu * duration / 60,
            "cpuLimitCoreMinutes": number(values.get("CPU_LIMIT_CORES")) * duration / 60,
        },
    }


EVENT = {
    "id": "req-18273",
    "user": {"id": "u-77", "plan": "pro", "email": "someone@example.com"},
    "method": "GET",
    "path": "/v1/items/42",
    "status": 200,
    "duration": 125,
    "bytes": 5120,
    "time": "2024-05-01T10:00:00Z",
}
TEN_LINES = """
root.id = this.id
root.specversion = "1.0"
root.type = "api-calls"
root.source = "gateway"
root.time = this.time
root.subject = this.user.id | "anonymous"
root.data.method = this.method.lowercase()
root.data.kilobytes = this.bytes / 1024
root.data.ok = this.status >= 200 && this.status < 300
root.data.plan = if this.user.plan == "pro" { "paid" } else { "free" }
root.data.duration_ms = this.duration * 1000
"""


def ten_lines_by_hand(document, meta):
    user = document.get("user") or {}
    status = document["status"]
    return {
        "id": document.get("id"),
        "specversion": "1.0",
        "type": "api-calls",
        "source": "gateway",
        "time": document.get("time"),
        "subject": user.get("id") or "anonymous",
        "data": {
            "method": document["method"].lower(),
            "kilobytes": document["bytes"] / 1024,
            "ok": 200 <= status < 300,
            "plan": "paid" if user.get("plan") == "pro" else "free",
            "duration_ms": document["duration"] * 1000,
        },
    }


SUBJECTS = (
    ("kubernetes pod", POD, POD_META, POD_MAPPING, pod_by_hand),
    ("prometheus, 10 series", PROMETHEUS, {}, PROMETHEUS_MAPPING, prometheus_by_hand),
    ("run:ai workload", RUNAI, RUNAI_META, RUNAI_MAPPING, runai_by_hand),
    ("eleven lines", EVENT, {}, TEN_LINES, ten_lines_by_hand),
)


def rounds(calls, amount=3000, times=9):
    """Events a second of processor time of each call, the best of several interleaved rounds."""
    best = [0.0] * len(calls)
    for _ in range(times):
        for at, call in enumerate(calls):
            started = time.process_time()
            for _ in range(amount):
                call()
            best[at] = max(best[at], amount / (time.process_time() - started))
    return best


def alone(document, meta, text, by_hand):
    """The mapping itself, of a document that is parsed: compiled, as closures, by hand."""
    raw = orjson.dumps(document)
    mapping, parsed = compile(text), orjson.loads(raw)
    batch = [SimpleDocument(raw, meta)]
    run, walk = mapping.run, closures(mapping.program)
    return lambda: run(batch, 0), lambda: walk(batch, 0), lambda: by_hand(parsed, meta)


def callables(document, meta, text, by_hand):
    raw = orjson.dumps(document)
    mapping = compile(text)
    run, walk, dumps = mapping.run, closures(mapping.program), value_json.dumps

    def compiled():
        return dumps(run([SimpleDocument(raw, meta)], 0)[0])

    def interpreted():
        return dumps(walk([SimpleDocument(raw, meta)], 0)[0])

    def python():
        return orjson.dumps(by_hand(orjson.loads(raw), meta))

    return compiled, interpreted, python


def same(first, second):
    """Whether two results are alike, ids and the current time aside."""

    def plain(raw):
        value = json.loads(raw)
        for one in value if isinstance(value, list) else [value]:
            one.pop("id")
            one.pop("time")
        return value

    return plain(first) == plain(second)


def main():
    print(
        f"{'mapping':<24}{'events/s':>10}{'closures':>10}{'by hand':>10}{'of hand':>9}{'x clos.':>9}"
        f"{'without JSON: of hand':>23}{'x clos.':>9}"
    )
    for name, document, meta, text, by_hand in SUBJECTS:
        calls = callables(document, meta, text, by_hand)
        assert same(calls[0](), calls[1]()), name
        assert same(calls[0](), calls[2]()), name
        ours, walked, hand = rounds(calls)
        bare, bare_walked, bare_hand = rounds(alone(document, meta, text, by_hand))
        print(
            f"{name:<24}{ours:>10,.0f}{walked:>10,.0f}{hand:>10,.0f}{ours / hand:>9.2f}"
            f"{ours / walked:>9.2f}{bare / bare_hand:>23.2f}{bare / bare_walked:>9.2f}"
        )
    if "--profile" in sys.argv:
        profile()


def profile():
    """The largest costs of each mapping."""
    for name, document, meta, text, by_hand in SUBJECTS:
        call = callables(document, meta, text, by_hand)[0]
        engine = cProfile.Profile()
        engine.enable()
        for _ in range(5000):
            call()
        engine.disable()
        print(f"== {name}")
        pstats.Stats(engine).sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    main()

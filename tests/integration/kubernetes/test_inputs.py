"""Inputs that read Kubernetes, as real processes with a token of a service account, against a real server.

Status of pods is written by the test, as a kubelet does.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import yaml
from aiohttp import web

from kit.chart import SETS
from kit.cluster import ApiError
from kit.sides import plain_pod
from kit.waiting import eventually
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.errors import Paused
from openmeter_collector.kubernetes.client import KubernetesClient
from openmeter_collector.kubernetes.kubeconfig import find_access

DEPLOY = Path(__file__).parents[3] / "deploy/kubernetes"


class Sink:
    """Where events are delivered."""

    def __init__(self):
        self.arrived = []
        self.url = ""

    @contextlib.asynccontextmanager
    async def serve(self):
        app = web.Application()
        app.router.add_post("/api/v1/events", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request):
        found = orjson.loads(await request.read())
        self.arrived += found if isinstance(found, list) else [found]
        return web.Response(status=204)


@contextlib.asynccontextmanager
async def running(folder, arguments, environment):
    """A collector process; stopped in order with the block."""
    log = (folder / "collector.log").open("ab")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openmeter_collector.cli.main", "run", *arguments,
        env=os.environ | environment, stdout=log, stderr=log, cwd=folder,
    )  # fmt: skip
    log.close()
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


@pytest.fixture
async def sink():
    async with Sink().serve() as made:
        yield made


def access_of(cluster, folder, namespace, account):
    """The kubeconfig of a pod: its token is in a file."""
    (folder / "token").write_text(cluster.token(namespace, account))
    made = folder / "kubeconfig"
    made.write_text(cluster.kubeconfig_with_file(folder / "token", namespace))
    return made


def environment_of(release, pod):
    """What the container of the chart's pod is given, without the files."""
    (found,) = [
        one for one in yaml.safe_load_all(release["manifest"]) if one["kind"] == "StatefulSet"
    ]
    template = found["spec"]["template"]
    told = {
        "metadata.name": pod,
        "metadata.namespace": release["namespace"],
        **{f"metadata.labels['{k}']": v for k, v in template["metadata"]["labels"].items()},
    }
    (container,) = template["spec"]["containers"]
    made = {}
    for one in container["env"]:
        source = one.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        made[one["name"]] = told.get(source, "") if source else one["value"]
    return container["args"], made


@pytest.mark.parametrize("preset", ["kubernetes-pods", "kubernetes-pod-exec-time"])
@pytest.mark.slow
async def test_what_the_chart_grants_is_enough(cluster, release, namespace, tmp_path, sink, preset):
    values = {"preset": preset, "leaderElection": {"enabled": True}}
    made = release.install("demo", SETS["upstream's kubernetes"] | values)
    work = cluster.namespace(f"{namespace}-work")
    with_customer = plain_pod("p", {"app": "seed"})
    run_pod(cluster, work, with_customer, started=time.time() - 60)
    arguments, environment = environment_of(made, "demo-0")
    account = "demo-openmeter-collector"
    environment |= {
        "KUBECONFIG": str(access_of(cluster, tmp_path, namespace, account)),
        "OPENMETER_URL": sink.url,
        "SCRAPE_INTERVAL": "1s",
        "METRICS_ADDRESS": "127.0.0.1:0",
        "BUFFER_PATH": str(tmp_path / "buffer.db"),
    }
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    def positions_are_kept():
        kept = [
            one for one in cluster.get(leases)["items"] if one["metadata"]["name"] == "demo-state"
        ]
        return kept and kept[0]["metadata"].get("annotations")

    async with running(tmp_path, arguments, environment):
        await eventually(lambda: sink.arrived, 60)
        await eventually(positions_are_kept, 60)
    asked = cluster.asked_by(namespace, account)
    refused = [one for one in asked if one["responseStatus"]["code"] >= 400]
    assert {one["responseStatus"]["code"] for one in refused} <= {404}, refused
    used = {(one["objectRef"]["resource"], one["verb"]) for one in asked}
    leases = {("leases", verb) for verb in ("create", "get", "update")}
    reads = {("pods", "list")} | ({("pods", "watch")} if preset == "kubernetes-pods" else set())
    assert used == leases | reads


def run_pod(cluster, namespace, pod, started, finished=None):
    """Make it if it is not there, and write down when its container began and ended."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    name = pod["metadata"]["name"]
    try:
        found = cluster.get(f"{path}/{name}")
    except ApiError:
        found = cluster.create(path, pod)
    if finished is None:
        state, phase = {"running": {"startedAt": stamp(started)}}, "Running"
    else:
        ended = {"startedAt": stamp(started), "finishedAt": stamp(finished), "exitCode": 0}
        state, phase = {"terminated": ended}, "Succeeded"
    container = {
        "name": "main", "state": state, "ready": finished is None, "restartCount": 0,
        "image": "x", "imageID": "x",
    }  # fmt: skip
    status = {"phase": phase, "startTime": stamp(started), "containerStatuses": [container]}
    cluster.replace(f"{path}/{name}/status", found | {"status": status})


def stamp(moment):
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


USAGE = """\
logger: {{level: INFO, format: json}}
http: {{enabled: false}}
input:
  kubernetes_usage:
    namespaces: ['{namespace}']
    interval: 2s
    delay: 1s
buffer:
  sqlite: {{path: {folder}/buffer.db, min_free_bytes: 1MiB}}
pipeline:
  processors:
    - mapping: |
        root = {{
          "id": event_id(this.uid, meta("window_end")),
          "specversion": "1.0",
          "type": "pod",
          "source": "test",
          "subject": this.name,
          "time": meta("window_start"),
          "data": {{"seconds": this.totals.running_seconds, "estimated": this.estimated}},
        }}
output:
  openmeter: {{url: '{sink}', batching: {{count: 50, period: 20ms}}}}
"""


@pytest.mark.slow
async def test_seconds_add_up_across_restarts_of_server_and_collector(cluster, tmp_path, sink):
    namespace = cluster.namespace("usage")
    cluster.account(namespace, "collector")
    grant_pods(cluster, namespace, "collector")
    config = tmp_path / "config.yaml"
    config.write_text(USAGE.format(namespace=namespace, folder=tmp_path, sink=sink.url))
    kubeconfig = access_of(cluster, tmp_path, namespace, "collector")
    environment = {"KUBECONFIG": str(kubeconfig)}
    truth = {}

    async def live(name, trouble):
        """A pod from now on; something happens; it ends."""
        began = int(time.time())
        run_pod(cluster, namespace, plain_pod(name), began)
        await eventually(lambda: name in {one["subject"] for one in sink.arrived}, 60)
        await trouble()
        ended = max(int(time.time()), began + 1)
        run_pod(cluster, namespace, plain_pod(name), began, ended)
        truth[name] = ended - began

    async def nothing():
        pass

    async def restart():
        await asyncio.to_thread(cluster.forget)

    async def killed():
        await asyncio.to_thread(cluster.stop_api_server, signal.SIGKILL)
        await asyncio.to_thread(cluster.start_api_server)

    async with running(tmp_path, ["-c", str(config)], environment) as process:
        await live("plain", nothing)
        await live("forgotten", restart)
        await live("killed", killed)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with running(tmp_path, ["-c", str(config)], environment):
        await live("after", nothing)

        def told():
            sums = defaultdict(float)
            for one in {one["id"]: one for one in sink.arrived}.values():
                sums[one["subject"]] += one["data"]["seconds"]
            return sums

        await eventually(lambda: told() == truth, 60)
    assert not [one for one in sink.arrived if one["data"]["estimated"]]


def grant_pods(cluster, namespace, account):
    """The rules of deploy/kubernetes/kubernetes-pods.yaml, in one namespace."""
    wide = (DEPLOY / "kubernetes-pods.yaml").read_text()
    role, binding = yaml.safe_load_all(wide)
    for one in (role, binding):
        one["kind"] = one["kind"].removeprefix("Cluster")
        one["metadata"]["namespace"] = namespace
    binding["roleRef"]["kind"] = "Role"
    binding["subjects"] = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    cluster.apply(yaml.safe_dump_all([role, binding]))


async def test_a_token_that_is_void_and_its_successor(cluster, tmp_path):
    namespace = cluster.namespace("tokens")
    cluster.account(namespace, "collector")
    grant_pods(cluster, namespace, "collector")
    access = find_access(str(access_of(cluster, tmp_path, namespace, "collector")))
    async with open_http_client(tls=access.tls) as http:
        client = KubernetesClient(http, access, time.time)

        async def problem():
            try:
                async for _ in client.pages(f"/api/v1/namespaces/{namespace}/pods"):
                    pass
            except Paused as error:
                return str(error)
            return ""

        assert await problem() == ""
        # A token is as old as its account: that of the former one is void, a little later.
        cluster.delete(f"/api/v1/namespaces/{namespace}/serviceaccounts/collector")
        cluster.account(namespace, "collector")
        said = await eventually(problem)
        assert "answered 401: Unauthorized; check the credentials" in said
        (tmp_path / "token").write_text(cluster.token(namespace, "collector"))
        assert await problem() == ""


async def test_what_is_not_granted_is_said_with_what_to_do(cluster, tmp_path):
    namespace = cluster.namespace("rights")
    cluster.account(namespace, "collector")
    access = find_access(str(access_of(cluster, tmp_path, namespace, "collector")))
    async with open_http_client(tls=access.tls) as http:
        client = KubernetesClient(http, access, time.time)
        with pytest.raises(Paused, match=r'cannot list resource "pods" .*; grant it with a Role'):
            async for _ in client.pages("/api/v1/pods"):
                pass
        with pytest.raises(Paused, match=r'cannot watch resource "pods" .*; grant it with a Role'):
            async for _ in client.watch(f"/api/v1/namespaces/{namespace}/pods", {}, "0"):
                pass

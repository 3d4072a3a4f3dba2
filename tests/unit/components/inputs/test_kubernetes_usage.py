"""The kubernetes_usage input against a fake cluster, with windows of a second."""

import asyncio
import contextlib
from collections import defaultdict
from datetime import UTC, datetime
from fractions import Fraction

import pytest

from kit.pods import pod
from kit.waiting import eventually
from kit.windows import START, Stored, WindowEnv, assert_tiled, running
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.testing.kubernetes import FakeKubernetes
from openmeter_collector.values.windows import moment_of

REGISTRY = standard_registry()


class LiveEnv(WindowEnv):
    def http(self, **options):
        return open_http_client(max_response_bytes=options["max_response_bytes"])


def stamp(at):
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Cluster:
    """A fake cluster, its clock, and what was told of it."""

    def __init__(self, server):
        self.server = server
        self.stored = Stored()
        self.began = asyncio.get_running_loop().time()

    def now(self):
        return START + asyncio.get_running_loop().time() - self.began

    @contextlib.asynccontextmanager
    async def watched(self, fields=""):
        text = f"input: {{kubernetes_usage: {{interval: 1s, delay: 300ms{fields}}}}}"
        node = load(text, REGISTRY, env={}).input
        env = LiveEnv(self.stored, node)
        env.offset = -self.began
        async with node.config.open(env) as opened, running(opened, self.stored):
            yield env

    def start(self, name, at, **more):
        self.server.put("pods", pod(name, started=stamp(at), **more))

    def finish(self, name, start, end):
        made = pod(name, phase="Succeeded")
        done = {"startedAt": stamp(start), "finishedAt": stamp(end), "exitCode": 0}
        made["status"]["containerStatuses"][0]["state"] = {"terminated": done}
        self.server.put("pods", made)

    async def passed(self, second):
        """Until all windows up to that second are done."""

        def done():
            try:
                ledger = self.stored.ledger()
            except IndexError:
                return False
            upto = ledger.open[0].start if ledger.open else ledger.upto
            return upto >= int((START + second) * 1000)

        await eventually(done, 60)

    def seconds(self):
        """Seconds told of each pod."""
        found = defaultdict(Fraction)
        for message in self.stored.messages:
            found[message.structured()["name"]] += Fraction(
                str(message.structured()["running_seconds"])
            )
        return dict(found)


@pytest.fixture
async def cluster(tmp_path, monkeypatch):
    async with FakeKubernetes().serve() as made:
        config = tmp_path / "kubeconfig"
        config.write_text(made.kubeconfig())
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield Cluster(made)


async def test_a_pod_that_lives_for_a_moment_is_told_to_the_second(cluster):
    cluster.start("long", START - 1000)
    async with cluster.watched():
        await eventually(lambda: len(cluster.stored.values))
        cluster.finish("short", START + 1, START + 2)
        await asyncio.sleep(0.2)
        cluster.server.remove("pods", "short", "default")
        await cluster.passed(4)
    assert cluster.seconds()["short"] == 1
    windows = sorted(
        (moment_of(m.metadata["window_start"]), moment_of(m.metadata["window_end"]))
        for m in cluster.stored.messages
        if m.structured()["name"] == "long"
    )
    assert_tiled(windows, windows[0][0], windows[-1][1])
    assert cluster.seconds()["long"] == len(windows)


async def test_a_message_says_what_was_asked_for_and_multiplies_exactly(cluster):
    made = pod("gpu", started=stamp(START - 100))
    made["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "250m", "memory": "64Mi", "nvidia.com/gpu": "2"},
        "limits": {"cpu": "1", "nvidia.com/gpu": "2"},
    }
    made["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    cluster.server.put("pods", made)
    claim = {
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}},
    }
    cluster.server.put("persistentvolumeclaims", claim)
    async with cluster.watched(", storage: true"):
        await eventually(lambda: cluster.stored.messages)
    message = cluster.stored.messages[0]
    told = message.structured()
    assert told["uid"] == "uid-gpu"
    assert told["owner"] == {"kind": "ReplicaSet", "name": "web-7d4b9c6f5"}
    assert told["annotations"]["openmeter.io/subject"] == "customer-1"
    assert told["volumes"] == [{"claim": "data", "storage_class": "fast", "bytes": 1 << 30}]
    (container,) = told["containers"]
    assert container["requests"] == {"cpu": 0.25, "memory": 67108864, "nvidia.com/gpu": 2}
    assert told["totals"]["request_seconds"] == {
        "cpu": 0.25,
        "memory": 67108864,
        "nvidia.com/gpu": 2,
    }
    assert told["totals"]["limit_seconds"] == {"cpu": 1, "nvidia.com/gpu": 2}
    assert b'"running_seconds":1' in message.content
    assert message.metadata["schedule_interval"] == "1s"
    assert not told["estimated"]


async def test_each_container_may_be_a_message(cluster):
    cluster.start("a", START - 100)
    async with cluster.watched(", per: container"):
        await eventually(lambda: cluster.stored.messages)
    told = cluster.stored.messages[0].structured()
    assert told["container"]["name"] == "web"
    assert told["container"]["request_seconds"]["cpu"] == 0.25
    assert "containers" not in told


async def test_a_pod_that_is_deleted_while_it_runs_ends_then(cluster):
    cluster.start("a", START - 100)
    async with cluster.watched():
        await eventually(lambda: cluster.stored.messages)
        at = cluster.now()
        cluster.server.remove("pods", "a", "default")
        await cluster.passed(int(at - START) + 3)
    told = cluster.seconds()["a"]
    first = moment_of(cluster.stored.messages[0].metadata["window_start"]) / 1000
    assert abs(told - Fraction(at - first)) < Fraction(1, 4)
    assert cluster.stored.messages[-1].structured()["estimated"]


async def test_windows_wait_for_a_cluster_that_cannot_be_seen_and_are_right_afterwards(cluster):
    cluster.start("stays", START - 100)
    cluster.start("ends", START - 100)
    async with cluster.watched() as env:
        await cluster.passed(1)
        cluster.server.down = True
        cluster.server.bookmark()  # wakes the watch, which then breaks off
        gone = cluster.now()
        await asyncio.sleep(2.5)
        assert cluster.stored.ledger().upto <= (gone + 1.5) * 1000
        cluster.finish("ends", START - 100, int(gone) + 1)
        cluster.server.compact()
        cluster.server.down = False
        await cluster.passed(int(gone - START) + 5)
        assert env.metrics.store.total("gaps_impossible") == 0
    spans = {
        name: sorted(
            (moment_of(m.metadata["window_start"]), moment_of(m.metadata["window_end"]))
            for m in cluster.stored.messages
            if m.structured()["name"] == name
        )
        for name in ("stays", "ends")
    }
    first = spans["stays"][0][0]
    assert_tiled(spans["stays"], first, spans["stays"][-1][1])
    assert cluster.seconds()["ends"] == int(gone) + 1 - first // 1000


async def test_after_a_restart_windows_are_made_from_what_pods_say(cluster):
    cluster.start("stays", START - 100)
    async with cluster.watched():
        await cluster.passed(1)
    cluster.finish("job", START + 2, START + 3)
    while cluster.now() < START + 4.5:
        await asyncio.sleep(0.1)
    async with cluster.watched():
        await cluster.passed(6)
    assert cluster.seconds()["job"] == 1
    spans = sorted(
        (moment_of(m.metadata["window_start"]), moment_of(m.metadata["window_end"]))
        for m in cluster.stored.messages
        if m.structured()["name"] == "stays"
    )
    assert_tiled(spans, spans[0][0], spans[-1][1])
    assert spans[-1][1] >= (START + 5) * 1000


async def test_only_what_was_named_is_watched(cluster):
    cluster.start("a", START - 100)
    cluster.server.put("pods", pod("b", "other", started=stamp(START - 100)))
    cluster.server.allowed = {("list", "pods", "other"), ("watch", "pods", "other")}
    async with cluster.watched(", namespaces: [other]"):
        await eventually(lambda: cluster.stored.messages)
    assert set(cluster.seconds()) == {"b"}

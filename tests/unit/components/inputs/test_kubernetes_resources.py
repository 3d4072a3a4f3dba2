"""The kubernetes_resources input, alone and under `schedule`."""

import asyncio
import subprocess
import sys

import orjson
import pytest

from kit.pods import many, pod
from kit.waiting import eventually
from kit.windows import START, Stored, WindowEnv, assert_tiled, running
from openmeter_collector.api import EndOfInput
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.components.inputs.cluster import paths_of
from openmeter_collector.components.inputs.kubernetes_resources import phase_of
from openmeter_collector.config import load
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.testing.kubernetes import FakeKubernetes
from openmeter_collector.values.windows import moment_of

REGISTRY = standard_registry()


class LiveEnv(WindowEnv):
    def http(self, **options):
        return open_http_client(max_response_bytes=options["max_response_bytes"])

    def at(self, node):
        env = LiveEnv(self.stored, node)
        env.offset = self.offset
        return env


@pytest.fixture
async def server(tmp_path, monkeypatch):
    async with FakeKubernetes().serve() as made:
        config = tmp_path / "kubeconfig"
        config.write_text(made.kubeconfig())
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield made


async def listed(fields):
    node = load(f"input: {{kubernetes_resources: {fields}}}", REGISTRY, env={}).input
    found = []
    async with node.config.open(LiveEnv(node=node)) as opened:
        while True:
            try:
                found += (await opened.read()).batch
            except EndOfInput:
                return [one.structured() for one in found]


def names(found):
    return [one["metadata"]["name"] for one in found]


async def test_running_pods_come_as_the_api_shows_them_in_a_list(server):
    server.put("pods", pod("a"))
    server.put("pods", pod("b", phase="Pending"))
    server.put("pods", pod("c", phase="Succeeded"))
    server.put("pods", pod("d", phase="Unknown"))
    (found,) = await listed("{namespaces: []}")
    assert "kind" not in found
    assert "apiVersion" not in found
    assert found["metadata"]["managedFields"]
    assert found["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "250m"
    assert names(await listed("{namespaces: [], include_pending_pods: true}")) == ["a", "b"]


async def test_only_namespaces_that_were_named_are_asked_for(server):
    for namespace in ("one", "two", "three"):
        server.put("pods", pod("a", namespace))
    server.allowed = {("list", "pods", "one"), ("list", "pods", "two")}
    found = await listed("{namespaces: [One, two, one]}")
    assert [one["metadata"]["namespace"] for one in found] == ["one", "two"]


@pytest.mark.parametrize("given", [[], [""], [None], ["a", ""]])
def test_no_name_means_all(given):
    assert paths_of("pod", given) == ["/api/v1/pods"]


def test_what_belongs_to_no_namespace_is_listed_once():
    assert paths_of("node", ["a", "b"]) == ["/api/v1/nodes"]
    assert paths_of("persistentvolume", ["a"]) == ["/api/v1/persistentvolumes"]
    assert paths_of("persistentvolumeclaim", ["a"]) == [
        "/api/v1/namespaces/a/persistentvolumeclaims"
    ]


async def test_other_kinds_come_whatever_their_phase(server):
    server.put("nodes", {"metadata": {"name": "n1"}, "status": {}})
    server.put("persistentvolumes", {"metadata": {"name": "v1"}, "status": {"phase": "Released"}})
    assert names(await listed("{namespaces: [x], resource_type: node}")) == ["n1"]
    assert names(await listed("{namespaces: [x], resource_type: persistentvolume}")) == ["v1"]


async def test_labels_and_fields_select(server):
    server.put("pods", pod("a", labels={"app": "seed"}))
    server.put("pods", pod("b"))
    assert names(await listed("{namespaces: [], label_selector: app=seed}")) == ["a"]
    fields = "{namespaces: [], label_selector: '', field_selector: metadata.name=b}"
    assert names(await listed(fields)) == ["b"]


def test_a_pod_without_a_phase_is_judged_by_its_containers():
    def containers(*states):
        return {"status": {"containerStatuses": [{"state": {one: {}}} for one in states]}}

    assert (
        phase_of({"status": {"containerStatuses": [{"state": {"running": {"x": 1}}}]}}) == "Running"
    )
    assert phase_of(containers("waiting")) == ""
    assert phase_of({}) == ""


SCHEDULED = """
input:
  schedule:
    interval: 1s
    input:
      kubernetes_resources: {namespaces: [], page_size: 10}
"""


async def test_each_window_lists_all_and_says_which_one_it_is(server):
    server.put_many("pods", many(25))
    node = load(SCHEDULED, REGISTRY, env={}).input
    stored = Stored()
    env = LiveEnv(stored, node)
    env.offset = -asyncio.get_running_loop().time()
    async with node.config.open(env) as opened, running(opened, stored):
        await eventually(lambda: len(stored.messages) >= 75)
    by_window = {}
    for message in stored.messages:
        assert message.metadata["schedule_interval"] == "1s"
        assert message.metadata["schedule_time"] == message.metadata["window_end"]
        by_window.setdefault(message.metadata["schedule_time"], []).append(
            message.structured()["metadata"]["name"]
        )
    whole = [found for found in by_window.values() if len(found) >= 25]
    assert len(whole) >= 2
    assert all(len(set(found)) == 25 == len(found) for found in whole)


async def test_a_window_in_which_the_api_was_away_is_named_as_lost(server):
    server.put("pods", pod("a"))
    node = load(SCHEDULED, REGISTRY, env={}).input
    stored = Stored()
    env = LiveEnv(stored, node)
    env.offset = -asyncio.get_running_loop().time()
    async with node.config.open(env) as opened, running(opened, stored):
        await eventually(lambda: stored.messages)
        server.down = True
        await eventually(lambda: env.metrics.store.total("gaps_impossible"))
        server.down = False
        count = len(stored.messages)
        await eventually(lambda: len(stored.messages) > count + 1)
    ledger = stored.ledger()
    assert "shows only what is now" in ledger.lost[0].cause
    billed = [
        (moment_of(m.metadata["window_start"]), moment_of(m.metadata["window_end"]))
        for m in stored.messages
    ]
    lost = [(one.start, one.end) for one in ledger.lost]
    assert_tiled(sorted(billed + lost), int(START * 1000), max(end for _, end in billed))


async def test_a_large_cluster_takes_the_memory_of_a_page(server):
    """Fifty thousand pods, about 140 MB of JSON, through a process of its own."""
    server.put_many("pods", many(50_000))
    script = """
import asyncio, resource, sys
sys.path.insert(0, "tests")
from kit.windows import WindowEnv
from openmeter_collector.api import EndOfInput
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.engine.http_client import open_http_client

class LiveEnv(WindowEnv):
    def http(self, **options):
        return open_http_client(max_response_bytes=options["max_response_bytes"])

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

async def main():
    text = "input: {kubernetes_resources: {namespaces: []}}"
    node = load(text, standard_registry(), env={}).input
    count = size = 0
    async with node.config.open(LiveEnv(node=node)) as opened:
        first = 0
        while True:
            try:
                delivery = await opened.read()
            except EndOfInput:
                break
            first = first or peak()
            count += len(delivery.batch)
            size += sum(len(one.content) for one in delivery.batch)
    print(count, size >> 20, peak() - first)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    count, megabytes, grown = orjson.loads(b"[" + out.strip().replace(b" ", b",") + b"]")
    assert count == 50_000
    assert megabytes > 80
    assert grown < 40, "beyond what the first page took"

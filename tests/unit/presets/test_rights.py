"""The manifests in deploy/kubernetes grant what presets need, and nothing that they do not."""

import asyncio
from pathlib import Path

import pytest
import yaml

from kit.pods import pod
from kit.waiting import eventually
from kit.windows import START, Stored, WindowEnv, running
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.engine.election.leading import Leading
from openmeter_collector.engine.election.lease import LeaseElector, LeaseOptions
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.engine.stores.kubernetes import KubernetesBackend
from openmeter_collector.engine.stores.shared import Kept
from openmeter_collector.kubernetes.client import KubernetesClient
from openmeter_collector.kubernetes.kubeconfig import find_access
from openmeter_collector.presets import preset
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.testing.kubernetes import FakeKubernetes

DEPLOY = Path(__file__).parents[3] / "deploy" / "kubernetes"
REGISTRY = standard_registry()


def granted(name):
    """(verb, resource, namespace) of a manifest."""
    found = set()
    for one in yaml.safe_load_all((DEPLOY / f"{name}.yaml").read_text()):
        namespace = one["metadata"].get("namespace", "")
        for rule in one.get("rules", ()):
            found |= {
                (verb, kind, namespace) for verb in rule["verbs"] for kind in rule["resources"]
            }
    return found


class LiveEnv(WindowEnv):
    def http(self, **options):
        return open_http_client()

    def at(self, node):
        env = LiveEnv(self.stored, node)
        env.offset = self.offset
        return env


@pytest.fixture
async def server(tmp_path, monkeypatch):
    async with FakeKubernetes().serve() as made:
        config = tmp_path / "kubeconfig"
        config.write_text(made.kubeconfig(namespace="openmeter"))
        monkeypatch.setenv("KUBECONFIG", str(config))
        made.put("pods", pod("a", labels={"app": "seed"}, started="2023-11-14T22:00:00Z"))
        yield made


async def messages_of(name, seconds):
    env = {"SCRAPE_INTERVAL": "1s"}
    node = load(preset(name).path, REGISTRY, env=env).input
    stored = Stored()
    made = LiveEnv(stored, node)
    made.offset = -asyncio.get_running_loop().time()
    assert made.now() >= START
    async with node.config.open(made) as opened, running(opened, stored):
        if seconds is None:
            await eventually(lambda: stored.messages)
        else:
            await asyncio.sleep(seconds)
    return stored.messages


@pytest.mark.parametrize("name", ["kubernetes-pods", "kubernetes-pod-exec-time"])
async def test_a_preset_runs_with_its_manifest(name, server):
    server.allowed = granted(name)
    assert await messages_of(name, None)
    used = {verb for verb, _ in server.asked}
    assert used == {verb for verb, _, _ in server.allowed}, "and uses all of it"


@pytest.mark.parametrize("name", ["kubernetes-pods", "kubernetes-pod-exec-time"])
async def test_without_a_right_of_its_manifest_a_preset_does_not_run(name, server):
    everything = granted(name)
    server.allowed = everything - {("list", "pods", "")}
    assert not await messages_of(name, 1.5)


async def test_leader_election_and_its_positions_run_with_their_manifest(server):
    server.allowed = granted("leader-election")
    leading = Leading("me", asyncio.get_running_loop().time, Log(LogOptions(level="off"), print))
    async with open_http_client() as http:
        client = KubernetesClient(http, find_access(), lambda: START)
        clock = asyncio.get_running_loop().time
        elector = LeaseElector(
            LeaseOptions("openmeter", "openmeter-collector", "me"),
            client,
            leading,
            (lambda: START, clock),
            lambda seconds: asyncio.sleep(seconds / 50),
            lambda: 0.5,
        )
        task = asyncio.ensure_future(elector.run())
        await eventually(lambda: leading.leading)
        backend = KubernetesBackend(client, "openmeter", "openmeter-collector-state")
        await backend.write({"k": Kept(1, b"v")})
        await backend.write({"k": Kept(1, b"w")})
        task.cancel()
        await asyncio.wait({task})
        await elector.release()
    assert {verb for verb, _ in server.asked} == {verb for verb, _, _ in server.allowed}
    names = {one["metadata"]["name"] for one in server.all_of("leases")}
    rules = [
        rule
        for one in yaml.safe_load_all((DEPLOY / "leader-election.yaml").read_text())
        for rule in one.get("rules", ())
        if rule.get("resourceNames")
    ]
    assert {name for rule in rules for name in rule["resourceNames"]} == names

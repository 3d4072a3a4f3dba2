"""What makes a process a replica: which inputs wait for leadership, where positions are kept."""

import asyncio
from dataclasses import replace

import pytest

from kit.pipes import REGISTRY, surroundings
from openmeter_collector.config import load
from openmeter_collector.engine.election.leading import Leading
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.engine.replicas import LeaderFlags, replicated, shown_leadership
from openmeter_collector.engine.run import Control, Pipeline
from openmeter_collector.errors import ConfigError
from openmeter_collector.message import Checkpoint

GENERATE = (
    "input: {label: mine, generate: {mapping: 'root = 1', interval: 10ms}}\noutput: {drop: {}}\n"
)


def around_of(leading, **more):
    return replace(surroundings(), leadership=leading, **more)


def leading_of(around):
    return Leading("me", around.monotonic, around.log)


@pytest.mark.parametrize(
    ("text", "named", "waits"),
    [
        (GENERATE, (), False),
        (GENERATE, ("generate",), True),
        (GENERATE, ("mine",), True),
        ("input: {kubernetes_resources: {namespaces: []}}", (), True),
        ("input: {schedule: {interval: 1m, input: {generate: {mapping: 'root = 1'}}}}", (), True),
        ("input: {kubernetes_usage: {}}", (), True),
    ],
)
async def test_inputs_that_fetch_and_those_that_were_named_run_on_the_leader_only(
    text, named, waits
):
    around = surroundings()
    around = around_of(leading_of(around), only_on_leader=frozenset(named))
    node = load(text, REGISTRY, env={}).input
    assert (ComponentEnv(around, Resources(), node).leadership is not None) == waits
    alone = replace(around, leadership=None)
    assert ComponentEnv(alone, Resources(), node).leadership is None, "without election all run"


async def test_a_replica_that_stands_by_is_ready_and_starts_when_it_leads():
    around = surroundings()
    leading = leading_of(around)
    around = around_of(leading, only_on_leader=frozenset({"generate"}))
    pipeline = Pipeline(load(GENERATE, REGISTRY, env={}), around)
    control = Control()
    running = asyncio.ensure_future(pipeline.run(control))
    await asyncio.sleep(0.1)
    assert pipeline.status.problems(around.now()) == []
    assert around.metrics.total("input_received") == 0
    leading.acquired(1)
    async with asyncio.timeout(30):
        while not around.metrics.total("input_received"):
            await asyncio.sleep(0.01)
    leading.ended("for the test")
    await asyncio.sleep(0.05)
    count = around.metrics.total("input_received")
    await asyncio.sleep(0.1)
    assert around.metrics.total("input_received") == count
    control.stop.set()
    await running


async def test_an_election_by_a_file_keeps_positions_beside_it(tmp_path):
    text = GENERATE + f"leader_election: {{enabled: true, file: {{path: '{tmp_path}/lock'}}}}\n"
    config = load(text, REGISTRY, env={})
    async with replicated(config, LeaderFlags(identity="me"), surroundings()) as around:
        async with asyncio.timeout(30):
            term = await around.leadership.wait()
        assert await around.store.load("k") is None
        await around.store.save([Checkpoint("k", b"v", term)])
        assert shown_leadership(around)() == {
            "leading": True,
            "identity": "me",
            "holder": "me",
            "term": 1,
        }
        assert around.metrics.total("leader") == 1
    assert (tmp_path / "lock.state").exists()


async def test_state_alone_needs_no_election(tmp_path):
    text = GENERATE + f"state: {{file: {{path: '{tmp_path}/state'}}}}\n"
    async with replicated(load(text, REGISTRY, env={}), LeaderFlags(), surroundings()) as around:
        assert around.leadership is None
        assert shown_leadership(around) is None
        await around.store.save([Checkpoint("k", b"v", 0)])
        assert await around.store.load("k") == b"v"


async def test_without_either_nothing_is_different():
    config = load(GENERATE, REGISTRY, env={})
    async with replicated(config, LeaderFlags(), surroundings()) as around:
        assert around.store is None
        assert around.leadership is None


@pytest.mark.parametrize(
    ("more", "flags", "fault"),
    [
        ("", LeaderFlags(enabled=True), "--lease-lock-namespace is missing"),
        ("", LeaderFlags(enabled=True, namespace="n"), "--lease-lock-name is missing"),
        (
            "state: {file: {path: x}, redis: {url: 'redis://x'}}\n",
            LeaderFlags(),
            "more than one place",
        ),
        (
            "",
            LeaderFlags(enabled=True, namespace="n", name="l", duration=3.0),
            "longer than lease-renew-deadline",
        ),
    ],
)
async def test_what_is_missing_or_does_not_fit_stops_the_start(more, flags, fault):
    config = load(GENERATE + more, REGISTRY, env={})
    with pytest.raises(ConfigError, match=fault):
        async with replicated(config, flags, surroundings()):
            pass

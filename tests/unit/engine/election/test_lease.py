"""Election by a Lease, in virtual time: at any moment one leader at most, whatever fails."""

import asyncio
import copy
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmeter_collector.engine.election.leading import Leading, while_leading
from openmeter_collector.engine.election.lease import LeaseElector, LeaseOptions
from openmeter_collector.errors import ConfigError, Retryable
from openmeter_collector.kubernetes.client import Conflict, NotFound
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.testing.clock import run_virtual, virtual_time

LOG = Log(LogOptions(level="off"), lambda line: None)


class Api:
    """One lease, with optimistic locking; may be away, or slow."""

    def __init__(self):
        self.lease = None
        self.version = 0
        self.down = set()
        self.slow = 0.0

    def client(self, who):
        return _Client(self, who)


class _Client:
    def __init__(self, api, who):
        self._api, self._who = api, who

    async def _reach(self):
        await asyncio.sleep(self._api.slow + 0.01)
        if self._who in self._api.down:
            raise Retryable("API away")

    async def get(self, path):
        await self._reach()
        if self._api.lease is None:
            raise NotFound("no lease")
        return copy.deepcopy(self._api.lease)

    async def create(self, path, body):
        await self._reach()
        if self._api.lease is not None:
            raise Conflict("exists")
        return self._put(body)

    async def replace(self, path, body):
        await self._reach()
        if body["metadata"]["resourceVersion"] != self._api.lease["metadata"]["resourceVersion"]:
            raise Conflict("modified")
        return self._put(body)

    def _put(self, body):
        self._api.version += 1
        body = copy.deepcopy(body)
        body["metadata"]["resourceVersion"] = str(self._api.version)
        self._api.lease = body
        return copy.deepcopy(body)


class Replica:
    """An elector whose clock may be wrong, or run too fast or too slow, and which may be paused."""

    def __init__(self, api, name, *, skew=0.0, rate=1.0, seed=1):
        self.api, self.name, self.rate = api, name, rate
        loop = asyncio.get_running_loop()
        self.leading = Leading(name, self.monotonic, LOG)
        self.paused = asyncio.Event()
        self.paused.set()
        clocks = (lambda: 1.7e9 + loop.time() + skew, self.monotonic)
        self.elector = LeaseElector(
            LeaseOptions("ns", "lock", name),
            api.client(name),
            self.leading,
            clocks,
            self.sleep,
            random.Random(seed).random,
        )
        self.task = asyncio.ensure_future(self.elector.run())

    def monotonic(self):
        return asyncio.get_running_loop().time() * self.rate

    async def sleep(self, seconds):
        await asyncio.sleep(seconds / self.rate)
        await self.paused.wait()

    async def kill(self):
        self.task.cancel()
        await asyncio.wait({self.task})

    async def stop(self):
        await self.kill()
        await self.elector.release()


async def leader_of(*replicas, within=60.0):
    async with asyncio.timeout(within):
        while True:
            leaders = [one for one in replicas if one.leading.leading]
            if leaders:
                assert len(leaders) == 1
                return leaders[0]
            await asyncio.sleep(0.1)


@virtual_time
async def test_the_first_to_come_leads_and_the_other_stands_by():
    api = Api()
    first = Replica(api, "a")
    assert await leader_of(first, within=1) is first
    second = Replica(api, "b")
    await asyncio.sleep(120)
    assert first.leading.leading
    assert not second.leading.leading
    assert second.leading.holder == "a"
    spec = api.lease["spec"]
    assert spec["holderIdentity"] == "a"
    assert spec["leaseDurationSeconds"] == 15
    assert spec["acquireTime"] < spec["renewTime"]
    await first.kill()
    await second.kill()


@virtual_time
async def test_after_a_kill_the_other_leads_when_the_lease_has_run_out():
    api = Api()
    first = Replica(api, "a")
    await leader_of(first)
    second = Replica(api, "b")
    await asyncio.sleep(30)
    await first.kill()
    killed = asyncio.get_running_loop().time()
    await leader_of(second)
    took = asyncio.get_running_loop().time() - killed
    assert 10 < took < 15 + 2 * 1.2 + 1
    assert second.leading.term > first.leading.term
    await second.kill()


@virtual_time
async def test_a_lease_that_was_given_back_is_not_waited_for():
    api = Api()
    first = Replica(api, "a")
    await leader_of(first)
    second = Replica(api, "b")
    await asyncio.sleep(5)
    await first.stop()
    assert api.lease["spec"]["holderIdentity"] == ""
    stopped = asyncio.get_running_loop().time()
    await leader_of(second)
    assert asyncio.get_running_loop().time() - stopped < 4
    await second.kill()


@virtual_time
async def test_who_cannot_renew_leads_no_more_before_another_may():
    api = Api()
    first, second = Replica(api, "a"), None
    await leader_of(first)
    second = Replica(api, "b")
    await asyncio.sleep(5)
    api.down.add("a")
    while first.leading.leading:
        assert not second.leading.leading
        await asyncio.sleep(0.05)
    assert not second.leading.leading
    await leader_of(second)
    api.down.clear()
    await asyncio.sleep(60)
    assert not first.leading.leading, "and takes it as it is when the API is back"
    assert first.leading.problem == ""
    await first.kill()
    await second.kill()


@virtual_time
async def test_an_outage_of_the_api_for_all_ends_with_one_leader_again():
    api = Api()
    replicas = [Replica(api, name, seed=at) for at, name in enumerate("abc")]
    await leader_of(*replicas)
    api.down |= set("abc")
    await asyncio.sleep(300)
    assert not any(one.leading.leading for one in replicas)
    assert all(one.leading.problem for one in replicas)
    api.down.clear()
    await leader_of(*replicas)
    for one in replicas:
        await one.kill()


@virtual_time
async def test_a_slow_api_is_given_up_in_time():
    api = Api()
    first = Replica(api, "a")
    await leader_of(first)
    second = Replica(api, "b")
    api.slow = 25.0
    await asyncio.sleep(11)
    assert not first.leading.leading
    await first.kill()
    await second.kill()


@virtual_time
async def test_a_replica_of_the_same_name_begins_a_new_term():
    """A pod whose container was restarted: what its former life had under way is not to be believed."""
    api = Api()
    first = Replica(api, "a")
    await leader_of(first)
    await first.kill()
    again = Replica(api, "a")
    await leader_of(again, within=1)
    assert again.leading.term > first.leading.term
    await again.kill()


@virtual_time
async def test_what_runs_while_leading_ends_with_it_and_begins_again():
    api = Api()
    replica = Replica(api, "a")
    lives = []

    async def work():
        lives.append("began")
        try:
            await asyncio.sleep(10_000)
        finally:
            lives.append("ended")

    task = asyncio.ensure_future(while_leading(replica.leading, work))
    await asyncio.sleep(5)
    assert lives == ["began"]
    api.down.add("a")
    await asyncio.sleep(30)
    assert lives == ["began", "ended"]
    api.down.clear()
    await asyncio.sleep(30)
    assert lives == ["began", "ended", "began"]
    task.cancel()
    await asyncio.wait({task})
    assert lives[-1] == "ended"
    await replica.kill()


@virtual_time
async def test_what_ends_by_itself_while_leading_has_ended():
    replica = Replica(Api(), "a")

    async def work():
        raise ConfigError("wrong")

    with pytest.raises(ConfigError):
        await while_leading(replica.leading, work)
    await replica.kill()


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ({"duration": 10.0}, "longer than lease-renew-deadline"),
        ({"retry_period": 9.0}, "longer than 1.2 times"),
        ({"duration": 0.9, "renew_deadline": 0.5, "retry_period": 0.1}, "1s at least"),
    ],
)
def test_times_that_do_not_fit_are_refused(times, text):
    with pytest.raises(ConfigError, match=text):
        LeaseOptions("ns", "n", "a", **times)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["down", "up", "pause", "go", "slow", "fast", "kill", "stop", "wait"]),
        st.integers(0, 2),
        st.floats(0.1, 25),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 1000))
def test_never_two_leaders_and_terms_only_grow(steps, seed):
    """Clocks that are wrong by hours and run up to a fifth too fast; pauses, outages, kills."""

    async def main():
        api = Api()
        rates = (1.0, 1.08, 0.93)
        skews = (0.0, 7200.0, -7200.0)
        replicas = [
            Replica(api, f"r{at}", skew=skews[at], rate=rates[at], seed=seed + at)
            for at in range(3)
        ]
        terms = []
        watching = asyncio.ensure_future(_watch(replicas, terms))
        for action, at, seconds in steps:
            one = replicas[at]
            if action == "down":
                api.down.add(one.name)
            elif action == "up":
                api.down.discard(one.name)
            elif action == "pause":
                one.paused.clear()
            elif action == "go":
                one.paused.set()
            elif action in {"slow", "fast"}:
                api.slow = seconds / 5 if action == "slow" else 0.0
            elif action in {"kill", "stop"}:
                await (one.kill() if action == "kill" else one.stop())
                one.leading.ended("killed")
                replicas[at] = Replica(api, one.name, skew=skews[at], rate=rates[at], seed=seed)
            await asyncio.sleep(seconds)
        api.down.clear()
        api.slow = 0.0
        for one in replicas:
            one.paused.set()
        await asyncio.sleep(60)
        assert sum(one.leading.leading for one in replicas) == 1, "it goes on afterwards"
        watching.cancel()
        await asyncio.wait({watching})
        if not watching.cancelled():
            watching.result()
        assert terms == sorted(set(terms))
        for one in replicas:
            await one.kill()

    run_virtual(main())


async def _watch(replicas, terms):
    while True:
        leaders = [one for one in replicas if one.leading.leading]
        assert len(leaders) <= 1
        for one in leaders:
            if not terms or terms[-1] != one.leading.term:
                terms.append(one.leading.term)
        await asyncio.sleep(0.05)

import asyncio

import pytest

from openmeter_collector.engine.batching import Batcher, Policy
from openmeter_collector.engine.state import MemoryStore, PipelineState
from openmeter_collector.errors import Final, Retryable
from openmeter_collector.message import Checkpoint, Delivery, Message
from openmeter_collector.message.settlement import merge, split
from openmeter_collector.testing.clock import run_virtual
from openmeter_collector.testing.env import FakeEnv

AT_7 = Checkpoint("at", b"7")


def delivery(*contents, told=None, checkpoints=(AT_7,)):
    return Delivery([Message(one) for one in contents], told, checkpoints)


class Journal:
    def __init__(self):
        self.values = {"at": b"5"}

    def checkpoint(self, key):
        return self.values.get(key)


async def settled(told):
    async with asyncio.timeout(3600):
        while not told:
            await asyncio.sleep(0)
    return told


async def test_a_buffer_that_keeps_checkpoints_gets_them():
    state = PipelineState()
    state.bind(Journal())
    assert await state.load("at") == b"5"
    one = delivery(b"a")
    assert state.attach(one) is one


async def test_without_such_a_buffer_a_position_is_true_after_its_events_are_safe():
    state, told = PipelineState(), []
    attached = state.attach(delivery(b"a", told=told.append))
    assert attached.checkpoints == ()
    assert await state.load("at") is None
    attached.settle(None)
    assert told == []  # the source is not told before its position is kept
    assert await settled(told) == [None]
    assert await state.load("at") == b"7"


async def test_a_position_whose_events_failed_is_not_kept():
    state, told = PipelineState(), []
    state.attach(delivery(b"a", told=told.append)).settle(error := Retryable("full"))
    await state.close()
    assert told == [error]
    assert await state.load("at") is None


async def test_a_window_without_events_is_kept_without_a_write():
    state, told = PipelineState(), []
    assert state.attach(delivery(told=told.append)) is None
    assert await settled(told) == [None]
    assert await state.load("at") == b"7"


async def test_a_configured_store_is_used_instead_of_the_buffer():
    store = MemoryStore()
    state, told = PipelineState(store), []
    state.bind(Journal())
    assert await state.load("at") is None
    state.attach(delivery(b"a", told=told.append)).settle(None)
    await settled(told)
    assert await store.load("at") == b"7"


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([Retryable("away")] * 20, type(None)),
        ([Retryable("away"), Final("leads no more")], Final),
    ],
)
def test_a_store_that_is_away_is_asked_again_and_its_refusal_is_told(errors, expected):
    errors = list(errors)

    class Store(MemoryStore):
        async def save(self, checkpoints):
            if errors:
                raise errors.pop(0)
            await super().save(checkpoints)

    async def body():
        told = []
        PipelineState(Store()).attach(delivery(b"a", told=told.append)).settle(None)
        while not told:
            await asyncio.sleep(1)
        assert type(told[0]) is expected
        assert not errors

    run_virtual(body())


def test_a_delivery_with_a_position_is_never_cut_in_two():
    one = delivery(b"a", b"b", b"c")
    assert split(one, 1) == [one]


def test_merged_deliveries_have_all_positions():
    other = Checkpoint("other", b"1")
    merged = merge([delivery(b"a"), delivery(checkpoints=[other]), delivery(checkpoints=())])
    assert list(merged.checkpoints) == [AT_7, other]


@pytest.mark.parametrize("policy", [Policy(), Policy(count=1), Policy(byte_size=1)])
async def test_a_batcher_hands_on_a_position_without_events(policy):
    batcher = Batcher(policy, asyncio.get_running_loop().time, 10, lambda _: None)
    batcher.add(delivery())
    batcher.add(delivery(b"a", checkpoints=()))
    batcher.close()
    taken = [await batcher.take()]
    if not taken[0].batch:
        taken.append(await batcher.take())
    assert list(taken[0].checkpoints) == [AT_7]
    assert [m.content for one in taken for m in one.batch] == [b"a"]


async def test_a_position_belongs_to_its_component():
    assert FakeEnv().state.checkpoint("at", b"1").key == "/root.output/at"


async def test_a_position_that_will_be_forgotten_is_said():
    env = FakeEnv()
    assert await env.state.load("at") is None
    assert "forgotten at a restart" in "".join(env.lines)

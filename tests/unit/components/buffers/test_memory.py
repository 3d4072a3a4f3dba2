"""The memory buffer."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from kit.pipes import REGISTRY, Outcome, surroundings
from openmeter_collector.api import (
    BatchFailed,
    DeadLetter,
    EndOfInput,
    Message,
    Overloaded,
    Retryable,
    Undeliverable,
)
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.testing.clock import virtual_time


@asynccontextmanager
async def memory(fields="{}"):
    config = load(f"buffer:\n  memory: {fields}\n", REGISTRY, env={})
    lines = []
    around = surroundings(lines)
    env = ComponentEnv(around, Resources(), config.buffer)
    async with env.buffer(config.buffer) as opened:
        opened.lines, opened.total = lines, around.metrics.total
        yield opened


def contents(delivery):
    return [message.content.decode() for message in delivery.batch]


def dead(reason):
    return Undeliverable(DeadLetter(Message(b"x"), reason, "", 1, 0.0, 0.0, "out"))


@virtual_time
async def test_a_sender_is_told_at_once_and_order_is_kept():
    async with memory() as buffer:
        first, second = Outcome("a", "b"), Outcome("c")
        buffer.write(first.delivery)
        buffer.write(second.delivery)
        assert first.settled == second.settled == [None]
        got = [await buffer.read(), await buffer.read()]
        assert [contents(one) for one in got] == [["a", "b"], ["c"]]
        assert buffer.status().events == 3
        for one in got:
            one.settle(None)
        assert (buffer.status().events, buffer.status().size_bytes) == (0, 0)
        assert buffer.lines == []


@virtual_time
async def test_a_full_buffer_takes_nothing_until_there_is_room():
    async with memory("{limit: 200}") as buffer:
        buffer.write(Outcome("x" * 150).delivery)
        refused = Outcome("y")
        with pytest.raises(Overloaded, match="the buffer is full"):
            buffer.write(refused.delivery)
        assert refused.settled == []
        waiting = asyncio.ensure_future(buffer.wait_for_room())
        await asyncio.sleep(5)
        assert not waiting.done()
        (await buffer.read()).settle(None)
        await waiting
        buffer.write(refused.delivery)
        (await buffer.read()).settle(None)


@virtual_time
async def test_what_failed_is_given_out_again_alone():
    async with memory() as buffer:
        buffer.write(Outcome("a", "b", "c").delivery)
        (await buffer.read()).settle(BatchFailed({1: Retryable("no")}))
        again = await buffer.read()
        assert contents(again) == ["b"]
        assert buffer.status().events == 1
        again.settle(None)


@virtual_time
async def test_what_is_refused_for_good_is_counted_and_said():
    async with memory() as buffer:
        buffer.write(Outcome("a", "b").delivery)
        (await buffer.read()).settle(BatchFailed({0: dead("not like this")}))
        assert (buffer.status().events, buffer.status().dead_letters) == (0, 1)
        assert buffer.total("buffer_dead_letters") == 1
        assert "not like this" in buffer.lines[0]


@virtual_time
async def test_drain_gives_out_the_rest_and_ends():
    async with memory() as buffer:
        buffer.write(Outcome("a").delivery)
        buffer.drain()
        delivery = await buffer.read()
        delivery.settle(Retryable("once more"))
        (await buffer.read()).settle(None)
        with pytest.raises(EndOfInput):
            await buffer.read()


@virtual_time
async def test_what_is_lost_at_the_end_is_said():
    async with memory() as buffer:
        buffer.write(Outcome("a", "b").delivery)
        lines = buffer.lines
        assert not buffer.status().durable
    assert "lost" in lines[0]
    assert '"events":2' in lines[0]


@virtual_time
async def test_with_a_batch_policy_what_leaves_is_put_together_up_to_the_cap():
    policy = "{batch_policy: {enabled: true, count: 3, period: 10s}}"
    async with memory(policy) as buffer:
        for content in "abcd":
            buffer.write(Outcome(content).delivery)
        first = await buffer.read()
        assert contents(first) == ["a", "b", "c"]
        assert asyncio.get_running_loop().time() == 0
        second = await buffer.read()
        assert contents(second) == ["d"]
        assert asyncio.get_running_loop().time() == 10
        first.settle(None)
        second.settle(None)


@virtual_time
async def test_a_check_ends_a_batch_at_once():
    policy = "{batch_policy: {enabled: true, period: 10s, check: 'content() == \"end\"'}}"
    async with memory(policy) as buffer:
        for content in ("a", "end", "b"):
            buffer.write(Outcome(content).delivery)
        delivery = await buffer.read()
        assert contents(delivery) == ["a", "end"]
        delivery.settle(None)
        rest = await buffer.read()
        assert contents(rest) == ["b"]
        rest.settle(None)

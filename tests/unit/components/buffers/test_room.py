"""Who was refused waits: a loop of asking and being refused would stop everything else."""

import asyncio

import pytest

from kit.pipes import REGISTRY, messages, surroundings
from openmeter_collector.api import Delivery, Overloaded
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources


@pytest.mark.parametrize("text", ["none: {}", "memory: {limit: 100}"])
async def test_after_a_refusal_room_is_only_there_when_something_has_left(text, monkeypatch):
    monkeypatch.setattr("openmeter_collector.components.buffers.none._MOST_WAITING", 10)
    config = load(f"buffer:\n  {text}\n", REGISTRY, env={})
    env = ComponentEnv(surroundings(), Resources(), config.buffer)
    async with env.buffer(config.buffer) as buffer:
        buffer.write(Delivery(messages("small")))
        with pytest.raises(Overloaded):
            buffer.write(Delivery(messages(*["too much for what is left"] * 10)))
        waiting = asyncio.ensure_future(buffer.wait_for_room())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        delivery = await buffer.read()
        delivery.settle(None)
        await asyncio.wait_for(waiting, 5)
        buffer.write(Delivery(messages(*["fits now"] * 10)))

"""Handing over to a buffer."""

import asyncio

import pytest

from kit.pipes import Outcome
from openmeter_collector.api import Overloaded
from openmeter_collector.engine.chain import ProcessorChain
from openmeter_collector.engine.input_loop import BufferIntake
from openmeter_collector.engine.state import PipelineState
from openmeter_collector.testing.env import FakeEnv


class Tight:
    """Has room for something, but for a while not for what it is given."""

    def __init__(self):
        self.fits = False

    async def wait_for_room(self):
        return

    def write(self, delivery):
        if not self.fits:
            raise Overloaded("not for so many")
        delivery.settle(None)


@pytest.mark.timeout(20)
async def test_what_does_not_fit_yet_lets_others_make_room():
    buffer, outcome = Tight(), Outcome("a")

    async def make_room():
        buffer.fits = True

    async with asyncio.TaskGroup() as tasks:
        intake = BufferIntake(FakeEnv(), ProcessorChain([]), buffer, tasks, PipelineState())
        tasks.create_task(make_room())
        await intake.put(outcome.delivery)
    assert outcome.settled == [None]

"""A full disk: the sender, the probe, the metric and the log all say so, in words of the operator."""

import pytest

from openmeter_collector.api import ByteSize, Delivery, Message, Overloaded
from openmeter_collector.components.buffers.sqlite import Sqlite
from openmeter_collector.engine.status import Connection, PipelineStatus
from openmeter_collector.testing.env import FakeEnv


def said(env):
    return [line for line in env.lines if "nothing is taken at the moment" in line]


async def test_a_full_disk_is_told_to_everybody_who_can_do_something(tmp_path):
    env = FakeEnv()
    config = Sqlite(path=str(tmp_path / "buffer.db"), min_free_bytes=ByteSize(1 << 60))
    async with config.open(env) as buffer:
        for _ in range(3):
            with pytest.raises(Overloaded) as refusal:
                buffer.write(Delivery([Message(b"x")]))
        reason = str(refusal.value)
        assert f"at least {1 << 60} are kept free (min_free_bytes)" in reason
        status = PipelineStatus(Connection("", "in", True), Connection("", "out", True))
        status.buffer = buffer.status
        (problem,) = status.problems(0.0)
        assert problem.startswith("buffer: ")
        assert "min_free_bytes" in problem
        (line,) = said(env)
        assert "min_free_bytes" in line

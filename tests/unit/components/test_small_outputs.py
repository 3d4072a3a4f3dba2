"""stdout, drop and reject; the local rate limit."""

import asyncio
import io
from types import SimpleNamespace

import pytest

from openmeter_collector.api import (
    BatchFailed,
    Disconnected,
    Dropped,
    Duration,
    Interpolated,
    Message,
    Node,
    Rejected,
)
from openmeter_collector.components.outputs import stdout
from openmeter_collector.components.outputs.drop import Drop
from openmeter_collector.components.outputs.reject import Reject
from openmeter_collector.components.outputs.stdout import Stdout
from openmeter_collector.components.rate_limits.local import Local
from openmeter_collector.testing.env import FakeEnv

BATCH = [Message(b"a"), Message(b"b\n")]


@pytest.fixture
def printed(monkeypatch):
    # The module's own `sys`: pytest puts its stdout back between set-up and call.
    stream = io.BytesIO()
    monkeypatch.setattr(stdout, "sys", SimpleNamespace(stdout=SimpleNamespace(buffer=stream)))
    return stream


@pytest.mark.parametrize(
    ("codec", "written"),
    [
        ("lines", b"a\nb\n"),  # the second one ends so already
        ("append", b"ab\n"),
        ("all-bytes", b"ab\n"),
        ("delim:, ", b"a, b\n, "),
    ],
)
async def test_stdout_puts_the_codecs_text_after_each_message_that_does_not_end_so(
    printed, codec, written
):
    async with Stdout(codec=codec).open(None) as output:
        await output.write(BATCH)
    assert printed.getvalue() == written


async def test_batches_on_stdout_do_not_mix(printed):
    async with Stdout().open(None) as output:
        await asyncio.gather(*(output.write([Message(b"%d" % i)] * 50) for i in range(20)))
    lines = printed.getvalue().split()
    assert all(len(set(lines[at : at + 50])) == 1 for at in range(0, 1000, 50))


async def test_a_stdout_that_is_gone_is_a_lost_connection(printed):
    async with Stdout().open(None) as output:
        printed.close()
        with pytest.raises(Disconnected, match=r"stdout: .*; is its reader still there"):
            await output.write(BATCH)


@pytest.mark.parametrize("codec", ["", "line", "delim", "delim:"])
def test_codecs_that_are_none_are_refused(codec):
    (one,) = Stdout.__spec__.fields.values()
    assert "use lines" in one.lint(codec)
    assert one.lint("delim:x") is None


async def test_drop_lets_everything_go_and_says_so():
    async with Drop().open(FakeEnv(Node("output", "drop", Drop(), "root.output"))) as output:
        with pytest.raises(Dropped, match=r"dropped by root\.output \(drop\)"):
            await output.write(BATCH)


async def test_reject_refuses_each_message_for_good_with_its_reason():
    async with Reject(reason=Interpolated("no")).open(None) as output:
        with pytest.raises(BatchFailed) as caught:
            await output.write(BATCH)
    assert [(index, type(error), str(error)) for index, error in caught.value.errors.items()] == [
        (0, Rejected, "no"),
        (1, Rejected, "no"),
    ]


class Clock:
    def __init__(self):
        self.at = 100.0

    def monotonic(self):
        return self.at


async def test_only_so_many_pass_in_an_interval():
    clock = Clock()
    async with Local(count=2, interval=Duration("10s")).open(clock) as limit:
        assert [await limit.access() for _ in range(2)] == [0, 0]
        clock.at += 4
        assert await limit.access() == 6
        clock.at += 6
        assert await limit.access() == 0


async def test_whoever_waits_is_told_when_it_is_their_turn():
    """As many are told to come with the next window as fit into it, the rest later."""
    clock = Clock()
    async with Local(count=2, interval=Duration("10s")).open(clock) as limit:
        waits = [await limit.access() for _ in range(7)]
    assert waits == [0, 0, 10, 10, 20, 20, 30]


async def test_bytes_are_counted_where_the_caller_tells_them():
    clock = Clock()
    async with Local(count=0, byte_size=10, interval=Duration("1s")).open(clock) as limit:
        assert await limit.access(6) == 0
        assert await limit.access(5) == 1
        assert await limit.access(4) == 0
        clock.at += 1
        assert await limit.access(50) == 0  # too large for any window: passes alone
        assert await limit.access(1) == 1

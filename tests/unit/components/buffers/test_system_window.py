"""The system_window buffer."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from kit.pipes import REGISTRY, Outcome, surroundings
from openmeter_collector.api import (
    BatchFailed,
    ConfigError,
    Delivery,
    EndOfInput,
    Message,
    Overloaded,
    Retryable,
)
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.testing.clock import virtual_time

START = 1_699_999_200.0  # 2023-11-14T22:00:00Z, a full hour
BY_TIME = "timestamp_mapping: root = this.t, "


@asynccontextmanager
async def windows(fields, start=START):
    config = load(f"buffer:\n  system_window: {{{fields}}}\n", REGISTRY, env={})
    lines = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    around = surroundings(lines, now=lambda: start + loop.time() - began)
    env = ComponentEnv(around, Resources(), config.buffer)
    async with env.buffer(config.buffer) as opened:
        opened.lines, opened.total = lines, around.metrics.total
        opened.clock = lambda: around.now() - START
        yield opened


class At(Outcome):
    """A delivery of messages that belong to these seconds after START."""

    def __init__(self, *seconds):
        super().__init__()
        batch = [Message(json.dumps({"t": START + at, "n": at}).encode()) for at in seconds]
        self.delivery = Delivery(batch, self.settled.append)


def times(delivery):
    return [message.structured()["n"] for message in delivery.batch]


def end_of(delivery):
    (end,) = {message.metadata["window_end_timestamp"] for message in delivery.batch}
    return end


@virtual_time
async def test_a_window_is_given_out_when_it_is_over_and_nothing_is_acknowledged_before_it_is_delivered():
    async with windows("size: 1m", START + 10) as buffer:
        one, two = Outcome("a"), Outcome("b", "c")
        buffer.write(one.delivery)
        await asyncio.sleep(20)
        buffer.write(two.delivery)
        window = await buffer.read()
        assert [message.content for message in window.batch] == [b"a", b"b", b"c"]
        assert end_of(window) == "2023-11-14T22:01:00Z"
        assert 60 < buffer.clock() < 60.01
        assert (one.settled, two.settled) == ([], [])
        assert buffer.status().events == 3
        window.settle(None)
        assert (one.settled, two.settled) == ([None], [None])
        assert (buffer.status().events, buffer.status().size_bytes) == (0, 0)


@virtual_time
async def test_a_failure_is_told_to_whom_it_concerns():
    async with windows("size: 1m") as buffer:
        one, two = Outcome("a"), Outcome("b", "c")
        buffer.write(one.delivery)
        buffer.write(two.delivery)
        (await buffer.read()).settle(BatchFailed({2: Retryable("no")}))
        assert one.settled == [None]
        assert list(two.settled[0].errors) == [1]


@virtual_time
async def test_messages_belong_to_the_time_that_the_mapping_says():
    async with windows(BY_TIME + "size: 1m") as buffer:
        late = At(61, 0, 30, 60, 60.5)
        buffer.write(late.delivery)
        first, second = [await buffer.read(), await buffer.read()]
        assert (times(first), end_of(first)) == ([0], "2023-11-14T22:00:00Z")
        assert (times(second), end_of(second)) == ([30, 60], "2023-11-14T22:01:00Z")
        third = await buffer.read()
        assert (times(third), end_of(third)) == ([61, 60.5], "2023-11-14T22:02:00Z")
        first.settle(None)
        third.settle(None)
        assert late.settled == []
        second.settle(None)
        assert late.settled == [None]


@virtual_time
async def test_times_may_be_text_and_a_message_without_one_is_flagged_and_kept():
    async with windows(BY_TIME + "size: 1m") as buffer:
        buffer.write(Outcome('{"t":"2023-11-14T22:00:30.5Z"}', "{}", "no").delivery)
        window = await buffer.read()
        assert end_of(window) == "2023-11-14T22:00:00Z"
        assert [message.error is None for message in window.batch] == [False, False]
        assert "timestamp_mapping" in str(window.batch[0].error)
        assert [message.error is None for message in (await buffer.read()).batch] == [True]


@virtual_time
async def test_a_window_waits_for_late_messages_as_long_as_allowed():
    async with windows(BY_TIME + "size: 1m, allowed_lateness: 20s") as buffer:
        buffer.write(At(30).delivery)
        await asyncio.sleep(75)
        buffer.write(At(40).delivery)
        window = await buffer.read()
        assert times(window) == [30, 40]
        assert 80 < buffer.clock() < 80.01


@virtual_time
async def test_what_comes_too_late_is_left_out_by_rule_and_counted():
    async with windows(BY_TIME + "size: 1m") as buffer:
        buffer.write(At(30).delivery)
        (await buffer.read()).settle(None)
        late = At(31, 90)
        buffer.write(late.delivery)
        alone = At(32)
        buffer.write(alone.delivery)
        assert alone.settled == [None]
        window = await buffer.read()
        assert times(window) == [90]
        window.settle(None)
        assert late.settled == [None]
        assert buffer.total("buffer_late_messages") == 2
        assert any("had been given out" in line and '"messages":2' in line for line in buffer.lines)


@virtual_time
async def test_what_comes_too_late_goes_into_the_next_window_if_asked():
    async with windows(BY_TIME + "size: 1m, late: next_window") as buffer:
        buffer.write(At(30).delivery)
        (await buffer.read()).settle(None)
        late = At(31)
        buffer.write(late.delivery)
        assert late.settled == []
        window = await buffer.read()
        assert (times(window), end_of(window)) == ([31], "2023-11-14T22:02:00Z")


@virtual_time
async def test_a_window_of_the_past_is_made_whole_after_a_restart():
    async with windows(BY_TIME + "size: 1m", START + 600) as buffer:
        buffer.write(At(30).delivery)
        reading = asyncio.ensure_future(buffer.read())
        await asyncio.sleep(0.5)
        buffer.write(At(31).delivery)
        assert times(await reading) == [30, 31]


@virtual_time
async def test_sliding_windows_overlap_and_a_message_is_settled_by_the_last():
    async with windows(BY_TIME + "size: 60s, slide: 20s") as buffer:
        outcome = At(10, 50)
        buffer.write(outcome.delivery)
        given = []
        for _ in range(5):
            window = await buffer.read()
            given.append((round(buffer.clock()), times(window)))
            assert outcome.settled == []
            window.settle(None)
        assert given == [(20, [10]), (40, [10]), (60, [10, 50]), (80, [50]), (100, [50])]
        assert outcome.settled == [None]


@virtual_time
async def test_an_offset_moves_the_ends():
    async with windows("size: 1h, offset: -20m") as buffer:
        buffer.write(Outcome("a").delivery)
        assert end_of(await buffer.read()) == "2023-11-14T22:40:00Z"
    async with windows("size: 168h") as buffer:
        buffer.write(Outcome("a").delivery)
        assert end_of(await buffer.read()) == "2023-11-20T00:00:00Z"  # a Monday


@virtual_time
async def test_a_stop_gives_out_what_is_over_and_hands_the_rest_back():
    async with windows(BY_TIME + "size: 1m") as buffer:
        over, open_ = At(30), At(90)
        buffer.write(over.delivery)
        buffer.write(open_.delivery)
        await asyncio.sleep(61)
        buffer.drain()
        assert "was not over when the collector stopped" in str(open_.settled[0])
        window = await buffer.read()
        assert times(window) == [30]
        with pytest.raises(EndOfInput):
            await buffer.read()
        window.settle(None)
        assert over.settled == [None]
        assert buffer.status().events == 0


@virtual_time
async def test_it_is_bounded():
    async with windows("size: 1m, limit: 200B") as buffer:
        buffer.write(Outcome("a" * 100).delivery)
        with pytest.raises(Overloaded):
            buffer.write(Outcome("a" * 100).delivery)
        waiting = asyncio.ensure_future(buffer.wait_for_room())
        await asyncio.sleep(1)
        assert not waiting.done()
        (await buffer.read()).settle(None)
        await waiting


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("size: 1m, slide: 1m", "slide: 1m; must be shorter"),
        ("size: 1m, offset: 1m", "offset: 1m; must be shorter"),
        ("size: 1m, slide: 10s, offset: -10s", "offset: -10s; must be shorter"),
        ("size: 1m, allowed_lateness: 1m", "allowed_lateness: 1m; must be shorter"),
    ],
)
async def test_durations_that_do_not_fit_together_are_refused(fields, told):
    with pytest.raises(ConfigError, match=f"root.buffer.system_window.{told}"):
        async with windows(fields):
            pass

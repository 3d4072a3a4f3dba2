"""The broker output: its patterns and what each promises."""

import asyncio

import pytest

from kit.pipes import SCRIPTS, WRITTEN, opened_output
from openmeter_collector.api import BatchFailed, Overloaded, Rejected, Retryable
from openmeter_collector.testing.clock import virtual_time


def text(pattern, more=""):
    return f"""
output:
  broker:
    pattern: {pattern}
{more}
    outputs:
      - scripted: {{name: one}}
      - scripted: {{name: two}}
"""


def fails_times(times, error=None):
    left = [error or Retryable("away")] * times

    async def script(contents):
        if left:
            raise left.pop()

    return script


@pytest.mark.parametrize("pattern", ["fan_out", "fan_out_sequential"])
def test_each_output_is_repeated_alone_until_it_has_the_messages(pattern):
    @virtual_time
    async def check():
        async with opened_output(text(pattern)) as opened:
            SCRIPTS["one"] = fails_times(3)
            await opened.write("a", "b")
            assert WRITTEN == {"one": [["a", "b"]] * 4, "two": [["a", "b"]]}

    check()


@virtual_time
async def test_what_one_refuses_is_reported_and_the_others_have_it_all():
    async with opened_output(text("fan_out")) as opened:

        async def refuses(contents):
            if "b" in contents:
                raise Rejected("no")

        SCRIPTS["one"] = refuses
        with pytest.raises(BatchFailed) as caught:
            await opened.write("a", "b", "c")
        assert list(caught.value.errors) == [1]
        assert WRITTEN["two"] == [["a", "b", "c"]]
        assert [batch for batch in WRITTEN["one"] if "b" not in batch] == [["a"], ["c"]]


@virtual_time
async def test_a_peer_that_asks_for_time_gets_it():
    async with opened_output(text("fan_out")) as opened:
        SCRIPTS["one"] = fails_times(1, Overloaded("429", 120.0))
        await opened.write("a")
        assert asyncio.get_running_loop().time() == 120


@virtual_time
async def test_fail_fast_reports_the_failure():
    async with opened_output(text("fan_out_fail_fast")) as opened:
        SCRIPTS["one"] = fails_times(1)
        with pytest.raises(Retryable):
            await opened.write("a")
        assert WRITTEN == {"one": [["a"]], "two": [["a"]]}


@virtual_time
async def test_sequential_fail_fast_does_not_go_on_with_what_failed():
    async with opened_output(text("fan_out_sequential_fail_fast")) as opened:

        async def script(contents):
            raise BatchFailed({0: Retryable("away")})

        SCRIPTS["one"] = script
        with pytest.raises(BatchFailed) as caught:
            await opened.write("a", "b")
        assert list(caught.value.errors) == [0]
        assert WRITTEN["two"] == [["b"]]


@virtual_time
async def test_round_robin_takes_turns():
    async with opened_output(text("round_robin")) as opened:
        for content in "abcd":
            await opened.write(content)
        assert WRITTEN == {"one": [["a"], ["c"]], "two": [["b"], ["d"]]}


@virtual_time
async def test_greedy_gives_to_whoever_is_free():
    async with opened_output(text("greedy")) as opened:

        async def slow(contents):
            await asyncio.sleep(10)

        SCRIPTS["one"] = slow
        held = asyncio.ensure_future(opened.write("a"))
        await asyncio.sleep(0.1)
        await opened.write("b")
        await opened.write("c")
        assert WRITTEN["two"] == [["b"], ["c"]]
        await held


@virtual_time
async def test_copies_are_outputs_of_their_own():
    async with opened_output(text("fan_out", "    copies: 2")) as opened:
        await opened.write("a")
        assert WRITTEN == {"one": [["a"]] * 2, "two": [["a"]] * 2}

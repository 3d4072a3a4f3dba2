"""switch: who gets what, and who is told what failed."""

import pytest

from kit.pipes import SCRIPTS, WRITTEN, opened_output
from openmeter_collector.api import BatchFailed, Message, Rejected, Retryable
from openmeter_collector.testing.clock import virtual_time

CONFIG = """
output:
  switch:
    retry_until_success: {retry}
    strict_mode: {strict}
    cases:
      - check: 'content().string().has_prefix("a")'
        continue: true
        output: {scripted: {name: first}}
      - check: 'this.kind == "b"'
        output: {scripted: {name: second}}
      - check: 'content().string().has_suffix("z")'
        output: {scripted: {name: third}}
"""


def text(retry="false", strict="false"):
    return CONFIG.replace("{retry}", retry).replace("{strict}", strict)


async def fails(contents):
    raise Retryable("away")


@virtual_time
async def test_the_first_match_takes_a_message_and_continue_asks_on():
    async with opened_output(text()) as opened:
        assert await opened.drops("a1", '{"kind":"b"}', "az", "bz", "a2", "other") == ["other"]
        assert WRITTEN == {
            "first": [["a1", "az", "a2"]],
            "second": [['{"kind":"b"}']],
            "third": [["az", "bz"]],
        }
        assert opened.total("switch_dropped") == 1


@virtual_time
async def test_only_messages_of_the_failing_case_are_reported():
    async with opened_output(text()) as opened:
        SCRIPTS["third"] = fails
        with pytest.raises(BatchFailed) as caught:
            await opened.write("a1", '{"kind":"b"}', "bz", "az")
        assert sorted(caught.value.errors) == [2, 3]


@virtual_time
async def test_the_failure_of_all_is_the_failure_itself():
    async with opened_output(text()) as opened:
        SCRIPTS["third"] = fails
        with pytest.raises(Retryable, match="away"):
            await opened.write("bz", "cz")


@virtual_time
async def test_in_strict_mode_what_nobody_takes_is_refused():
    async with opened_output(text(strict="true")) as opened:
        with pytest.raises(BatchFailed) as caught:
            await opened.write("a", "other")
        (one,) = caught.value.errors.items()
        assert one[0] == 1
        assert isinstance(one[1], Rejected)
        assert str(one[1]) == "no switch output conditions were met by message"
        assert WRITTEN["first"] == [["a"]]


@virtual_time
async def test_a_case_is_repeated_alone_when_asked_to():
    async with opened_output(text(retry="true")) as opened:
        failures = [Retryable("away")] * 3

        async def recovers(contents):
            if failures:
                raise failures.pop()

        SCRIPTS["third"] = recovers
        await opened.write("az")
        assert WRITTEN == {"first": [["az"]], "third": [["az"]] * 4}


@virtual_time
async def test_what_is_refused_for_good_is_not_repeated():
    async with opened_output(text(retry="true")) as opened:

        async def refuses(contents):
            raise Rejected("no")

        SCRIPTS["third"] = refuses
        with pytest.raises(Rejected):
            await opened.write("bz")
        assert WRITTEN["third"] == [["bz"]]


@virtual_time
async def test_of_two_fates_the_one_that_asks_for_repetition_is_heard():
    async with opened_output(text()) as opened:

        async def refuses(contents):
            raise Rejected("no")

        SCRIPTS["first"], SCRIPTS["third"] = refuses, fails
        with pytest.raises(Retryable):
            await opened.write("az")


@virtual_time
async def test_a_check_that_fails_is_false_and_said():
    async with opened_output(text()) as opened:
        await opened.write(Message(b"no json, ends in z"))
        assert WRITTEN["third"] == [["no json, ends in z"]]
        assert any("failed to test a case" in line for line in opened.lines)

"""drop_on: what it drops, what it hands up, and that it never makes anybody wait."""

import asyncio

import pytest

from kit.pipes import SCRIPTS, WRITTEN, opened_output
from openmeter_collector.api import (
    BatchFailed,
    ConfigError,
    Overloaded,
    Paused,
    Rejected,
    Retryable,
)
from openmeter_collector.components.outputs.drop_on import DropOn
from openmeter_collector.testing.clock import virtual_time

CONFIG = """
output:
  drop_on:
    error: false
    error_patterns: [ "answered 400 Bad Request" ]
    output:
      scripted:
        name: child
        max_in_flight: 64
        batching: {batching}
"""
REFUSED = "POST http://x: answered 400 Bad Request"


def text(batching="{}"):
    return CONFIG.replace("{batching}", batching)


def refuses(*bad):
    async def script(contents):
        if set(contents) & set(bad):
            raise Rejected(REFUSED)

    return script


@virtual_time
async def test_only_the_refused_message_of_a_batch_is_dropped():
    async with opened_output(text()) as opened:
        SCRIPTS["child"] = refuses("c")
        assert await opened.drops("a", "b", "c", "d", "e") == ["c"]
        assert opened.total("drop_on_dropped") == 1
        taken = [batch for batch in WRITTEN["child"] if "c" not in batch]
        assert sorted(one for batch in taken for one in batch) == ["a", "b", "d", "e"]
        assert any("dropped by rule" in line for line in opened.lines)


@virtual_time
async def test_neighbours_from_other_writes_are_delivered_too():
    """The child puts messages of several writes into one request, which is refused as one."""
    async with opened_output(text("{count: 10, period: 1s}")) as opened:
        SCRIPTS["child"] = refuses("4")
        dropped = await asyncio.gather(*(opened.drops(str(number)) for number in range(10)))
        assert [one for one in dropped if one] == [["4"]]
        assert WRITTEN["child"][0] == [str(number) for number in range(10)]
        assert opened.total("drop_on_dropped") == 1
        taken = [one for batch in WRITTEN["child"] if "4" not in batch for one in batch]
        assert sorted(taken) == [str(number) for number in range(10) if number != 4]


@virtual_time
async def test_what_no_pattern_matches_is_reported_and_nothing_is_dropped():
    async with opened_output(text()) as opened:
        for error in (Rejected("422"), Overloaded("429", 3.0), Paused("401"), Retryable("reset")):

            async def script(contents, error=error):
                raise error

            SCRIPTS["child"] = script
            with pytest.raises(type(error)) as caught:
                await opened.write("a")
            assert caught.value is error
        assert opened.total("drop_on_dropped") == 0


@virtual_time
async def test_of_a_mixed_batch_only_what_did_not_match_is_reported():
    async with opened_output(text()) as opened:

        async def script(contents):
            raise BatchFailed({0: Rejected(REFUSED), 2: Retryable("reset")})

        SCRIPTS["child"] = script
        with pytest.raises(BatchFailed) as caught:
            await opened.write("a", "b", "c")
        told = {index: str(error) for index, error in caught.value.errors.items()}
        assert told == {0: "dropped by root.output (drop_on)", 2: "reset"}
        assert opened.total("drop_on_dropped") == 1


@virtual_time
async def test_writes_are_under_way_together():
    """It is not serial: thirty writes that take a second each take one second together."""
    async with opened_output(text()) as opened:

        async def script(contents):
            await asyncio.sleep(1)

        SCRIPTS["child"] = script
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(opened.write(str(number)) for number in range(30)))
        assert asyncio.get_running_loop().time() - began == 1


@virtual_time
async def test_with_error_everything_that_fails_is_dropped():
    config = (
        text()
        .replace("error: false", "error: true")
        .replace('[ "answered 400 Bad Request" ]', "[]")
    )
    async with opened_output(config) as opened:

        async def script(contents):
            raise Retryable("reset")

        SCRIPTS["child"] = script
        assert await opened.drops("a", "b") == ["a", "b"]
        assert opened.total("drop_on_dropped") == 2


@pytest.mark.parametrize(("error", "dropped"), [("true", 2), ("false", 0)])
def test_a_write_that_takes_too_long_is_given_up(error, dropped):
    config = text().replace("error: false", f"error: {error}\n    back_pressure: 30s")
    config = config.replace('[ "answered 400 Bad Request" ]', "[]")

    @virtual_time
    async def check():
        async with opened_output(config) as opened:
            release = asyncio.Event()

            async def script(contents):
                await release.wait()

            SCRIPTS["child"] = script
            loop = asyncio.get_running_loop()

            async def write(content):
                if dropped:
                    assert await opened.drops(content) == [content]
                else:
                    with pytest.raises(Overloaded, match="experienced back pressure beyond: 30s"):
                        await opened.write(content)
                return loop.time()

            assert await write("slow") == 30
            # While that one is still under way the next does not wait as well.
            assert await write("next") == 30
            assert opened.total("drop_on_dropped") == dropped
            release.set()
            await asyncio.sleep(1)
            await opened.write("later")
            assert WRITTEN["child"] == [["slow"], ["later"]]

    check()


@virtual_time
async def test_all_errors_and_some_errors_is_a_contradiction():
    config = text().replace("error: false", "error: true")
    with pytest.raises(ConfigError, match="keep the one you mean"):
        async with opened_output(config):
            pass


def test_a_pattern_that_is_none_is_named_when_the_config_is_read():
    lint = DropOn.__spec__.fields["error_patterns"].lint
    assert "error parsing regexp" in lint(["fine", "("])
    assert lint(["Bad Request", "^4\\d\\d$"]) is None

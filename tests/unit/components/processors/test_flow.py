"""catch, switch, split, sync_response, noop: where messages go."""

import pytest

from kit.chains import errors, message, processors, shown
from openmeter_collector.api import ConfigError, ResponseStore

UPPER = "- mapping: root.a = this.a.uppercase()\n"


async def test_catch_runs_over_failed_messages_alone_and_clears_their_flags():
    text = UPPER + "- catch:\n    - mapping: root = {'e':error(),'n':batch_size()}".replace(
        "'", '"'
    )
    async with processors(text) as opened:
        batches = await opened.run('{"a":"x"}', '{"a":5}', '{"a":6}')
    assert errors(batches) == [None, None, None]
    good, *failed = shown(batches)[0]
    assert good == '{"a":"X"}'
    assert all('"n":1' in one and "failed assignment" in one for one in failed)


async def test_catch_clears_what_failed_within_it_too():
    text = UPPER + "- catch:\n    - mapping: root.b = this.a.uppercase()"
    async with processors(text) as opened:
        batches = await opened.run('{"a":5}')
    assert (shown(batches), errors(batches)) == ([['{"a":5}']], [None])


async def test_catch_may_drop():
    async with processors(UPPER + "- catch:\n    - mapping: root = deleted()") as opened:
        assert shown(await opened.run('{"a":5}', '{"a":"x"}')) == [['{"a":"X"}']]


SWITCH = """
- switch:
    - check: this.n == 1
      processors:
        - mapping: 'root.one = batch_size()'
{first}
    - check: this.n > 1
      processors:
        - mapping: 'root.more = this'
    - check: this.n.uppercase() == "X"
      processors:
        - mapping: 'root = "x"'
"""


async def test_switch_takes_the_first_case_that_fits_and_keeps_the_order():
    async with processors(SWITCH.format(first="")) as opened:
        batches = await opened.run('{"n":2}', '{"n":1}', '{"n":3}', '{"n":1}', '{"n":"x"}')
    assert (
        shown(batches) == [['{"more":{"n":2}}', '{"one":2}', '{"more":{"n":3}}', '{"one":2}', "x"]]
        or errors(batches)[-1]
    )
    assert shown(batches)[0][:4] == [
        '{"more":{"n":2}}',
        '{"one":2}',
        '{"more":{"n":3}}',
        '{"one":2}',
    ]


async def test_a_check_that_fails_flags_its_message_which_is_tried_no_further():
    text = """
- switch:
    - check: meta("kind").lowercase() == "a"
      processors: [{mapping: 'root = "a"'}]
    - processors: [{mapping: 'root = "rest"'}]
"""
    async with processors(text) as opened:
        batches = await opened.run_batch(
            [
                message("1"),
                message("2", metadata={"kind": "A"}),
                message("3", metadata={"kind": "b"}),
            ]
        )
    assert shown(batches) == [["1", "a", "rest"]]
    assert errors(batches)[0].startswith("failed to test case: ")
    assert errors(batches)[1:] == [None, None]


async def test_what_fits_no_case_passes():
    text = "- switch: [{check: 'this.n == 1', processors: [{mapping: root = deleted()}]}]"
    async with processors(text) as opened:
        assert shown(await opened.run('{"n":1}', '{ "n": 2 }')) == [['{ "n": 2 }']]
        assert await opened.run('{"n":1}') == []


async def test_fallthrough_runs_the_next_case_whatever_its_check_says():
    text = """
- switch:
    - check: this.n == 1
      fallthrough: true
      processors: [{mutation: root.a = 1}]
    - check: 'false'
      processors: [{mutation: root.b = 1}]
    - processors: [{mutation: root.c = 1}]
"""
    async with processors(text) as opened:
        batches = await opened.run('{"n":2}', '{"n":1}')
    assert shown(batches) == [['{"c":1,"n":2}', '{"a":1,"b":1,"n":1}']]


async def test_continue_lets_later_cases_look_at_what_came_out():
    text = """
- switch:
    - check: this.n == 1
      continue: true
      processors: [{mutation: root.n = 2}]
    - check: this.n == 2
      processors: [{mutation: root.seen = true}]
"""
    async with processors(text) as opened:
        batches = await opened.run('{"n":3}', '{"n":1}', '{"n":2}')
    assert shown(batches) == [['{"n":3}', '{"n":2,"seen":true}', '{"n":2,"seen":true}']]


async def test_fallthrough_and_continue_together_are_refused():
    text = "- switch: [{fallthrough: true, continue: true, processors: [{noop: {}}]}]"
    with pytest.raises(ConfigError, match="both fallthrough and continue"):
        async with processors(text):
            pass


async def test_messages_multiplied_in_a_case_stay_at_their_place():
    text = """
- switch:
    - check: content().has_prefix("[")
      processors: [{unarchive: {format: json_array}}]
"""
    async with processors(text) as opened:
        batches = await opened.run("0", "[1,2]", "3")
    assert shown(batches) == [["0", "1", "2", "3"]]
    assert [one.origin for one in batches[0]] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ("{}", [1, 1, 1, 1, 1]),
        ("{size: 2}", [2, 2, 1]),
        ("{size: 0}", [5]),
        ("{size: 9}", [5]),
        ("{size: 0, byte_size: 5}", [2, 2, 1]),
        ("{size: 1, byte_size: 5}", [1, 1, 1, 1, 1]),
        ("{size: 3, byte_size: 1}", [1, 1, 1, 1, 1]),
    ],
)
async def test_split_cuts_batches_in_order(fields, sizes):
    async with processors(f"- split: {fields}") as opened:
        batches = await opened.run("aa", "bb", "cc", "dd", "ee")
    assert [len(batch) for batch in batches] == sizes
    assert [one for batch in shown(batches) for one in batch] == ["aa", "bb", "cc", "dd", "ee"]


async def test_each_request_is_answered_with_its_own_messages_though_they_share_a_batch():
    first, second = ResponseStore(), ResponseStore()
    async with processors("- sync_response: {}") as opened:
        batches = await opened.run_batch(
            [message("1", context=first), message("2", context=second), message("3", context=first)]
        )
    assert shown(batches) == [["1", "2", "3"]]
    assert (shown(first.batches), shown(second.batches)) == ([["1", "3"]], [["2"]])


async def test_a_response_where_nobody_waits_is_nothing():
    async with processors("- sync_response: {}\n- noop: {}") as opened:
        assert shown(await opened.run("1")) == [["1"]]

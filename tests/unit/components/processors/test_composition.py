"""try, for_each, parallel, while, group_by, group_by_value, branch, retry, resource."""

import pytest

from kit.chains import errors, message, processors, shown
from openmeter_collector.api import ResponseStore


async def test_try_skips_the_rest_for_a_message_that_failed_and_for_no_other():
    text = "- try:\n    - mutation: root.a = this.a.uppercase()\n    - mutation: root.done = true"
    async with processors(text) as opened:
        batches = await opened.run('{"a":"x"}', '{"a":5}', '{"a":"y"}')
    assert shown(batches) == [['{"a":"X","done":true}', '{"a":5}', '{"a":"Y","done":true}']]
    assert [one is None for one in errors(batches)] == [True, False, True]


async def test_try_passes_by_what_comes_flagged():
    async with processors("- try: [{mapping: root = deleted()}]") as opened:
        batches = await opened.run_batch([message("1", error=ValueError("old")), message("2")])
    assert shown(batches) == [["1"]]


async def test_for_each_gives_every_message_a_batch_of_its_own():
    async with processors("- for_each: [{mapping: root = batch_size()}, {noop: {}}]") as opened:
        assert shown(await opened.run("a", "b")) == [["1", "1"]]
        assert opened.chain.sync


@pytest.mark.parametrize("inner", ["{mapping: root = batch_size()}", "{sleep: {duration: 1s}}"])
async def test_parallel_keeps_the_order(inner):
    async with processors(f"- parallel: {{cap: 2, processors: [{inner}]}}") as opened:
        batches = await opened.run("1", "1", "1", "1", "1")
        assert shown(batches) == [["1"] * 5]
        assert [one.origin for one in batches[0]] == [0, 1, 2, 3, 4]
        assert opened.slept == ([] if opened.chain.sync else [1.0] * 5)


async def test_while_runs_as_long_as_its_check_gives_true():
    text = "- while: {check: this.n > 0, processors: [{mutation: root.n = this.n - 1}]}"
    async with processors(text) as opened:
        assert shown(await opened.run('{"n":3}')) == [['{"n":0}']]
        assert errors(await opened.run('{"n":"x"}'))[0].startswith("failed to test check: ")


@pytest.mark.parametrize(("options", "n"), [("max_loops: 4", 4), ("at_least_once: true", 1)])
async def test_while_has_bounds(options, n):
    check = "'true'" if "max" in options else "'false'"
    text = (
        f"- while: {{check: {check}, {options}, processors: [{{mutation: root.n = this.n + 1}}]}}"
    )
    async with processors(text) as opened:
        assert shown(await opened.run('{"n":0}')) == [[f'{{"n":{n}}}']]


async def test_groups_are_batches_of_their_own():
    text = """
- group_by:
    - check: this.n == 1
      processors: [{archive: {format: lines}}]
    - check: this.n > 1
"""
    async with processors(text) as opened:
        batches = await opened.run('{"n":2}', '{"n":1}', '{"n":"x"}', '{"n":0}', '{"n":1}')
    assert shown(batches) == [['{"n":1}\n{"n":1}'], ['{"n":2}'], ['{"n":"x"}', '{"n":0}']]
    assert [one is not None for one in errors(batches)] == [False, False, True, False]


async def test_messages_with_the_same_value_are_one_batch():
    text = "- group_by_value: {value: '${! this.s.uppercase() }'}"
    async with processors(text) as opened:
        batches = await opened.run('{"s":"b"}', '{"s":"a"}', '{"s":1}', '{"s":"B"}')
    assert shown(batches) == [['{"s":"b"}', '{"s":"B"}'], ['{"s":"a"}'], ['{"s":1}']]
    assert errors(batches)[-1].startswith("group value interpolation error: ")


BRANCH = """
- branch:
    request_map: |
      root = if this.skip == true { deleted() } else { this.q.uppercase() }
      meta extra = "r"
    processors:
      - mapping: 'root.got = content().string() + "!"'
MORE
    result_map: |
      root.data.got = this.got
      meta got = this.got
"""


async def test_branch_puts_results_into_the_message_and_leaves_the_rest_alone():
    store = ResponseStore()
    async with processors(BRANCH.replace("MORE\n", "")) as opened:
        batches = await opened.run_batch(
            [
                message('{"q":"a","data":{"x":1}}', metadata={"k": "v"}, context=store),
                message('{"q":5}'),
                message('{ "q":"c","skip":true }'),
                message('{"q":"d"}'),
            ]
        )
    assert shown(batches) == [
        [
            '{"data":{"got":"A!","x":1},"q":"a"}',
            '{"q":5}',
            '{ "q":"c","skip":true }',
            '{"data":{"got":"D!"},"q":"d"}',
        ]
    ]
    assert errors(batches)[0] is None
    assert errors(batches)[1].startswith("request mapping failed: ")
    first = batches[0][0]
    assert (first.metadata, first.origin, first.context) == ({"k": "v", "got": "A!"}, 0, store)


async def test_what_fails_on_the_side_flags_the_message_as_it_was():
    more = '      - mapping: root = if this.got == "A!" { throw("no") } else { this }'
    async with processors(BRANCH.replace("MORE", more)) as opened:
        batches = await opened.run('{"q":"a"}', '{"q":"b"}')
    assert shown(batches) == [['{"q":"a"}', '{"data":{"got":"B!"},"q":"b"}']]
    assert "no" in errors(batches)[0]


async def test_a_branch_that_loses_messages_flags_all_that_went_in():
    more = '      - mapping: root = if this.got == "A!" { deleted() }'
    async with processors(BRANCH.replace("MORE", more)) as opened:
        batches = await opened.run('{"q":"a"}', '{"q":"b"}', '{ "skip":true }')
    assert shown(batches) == [['{"q":"a"}', '{"q":"b"}', '{ "skip":true }']]
    assert ["count mismatch" in (one or "") for one in errors(batches)] == [True, True, False]


async def test_retry_begins_again_with_the_message_as_it_came():
    text = """
- retry:
    backoff: {initial_interval: 1s, max_elapsed_time: 10m}
    processors:
      - mutation: root.tries = count("%s")
      - mapping: root = if this.tries < 3 { throw("not yet") } else { this }
"""
    async with processors(text.replace("%s", "retry_test_a")) as opened:
        batches = await opened.run('{"a":1}')
        assert shown(batches) == [['{"a":1,"tries":3}']]
        assert errors(batches) == [None]
        assert len(opened.slept) == 2
        assert 0.5 <= opened.slept[0] <= 1.5


@pytest.mark.parametrize("bound", ["max_retries: 2", "backoff: {max_elapsed_time: 3s}"])
async def test_retry_gives_up_with_the_flag_on(bound):
    text = f'- retry: {{{bound}, processors: [{{mapping: root = throw("no")}}]}}'
    async with processors(text) as opened:
        batches = await opened.run("1")
    assert "no" in errors(batches)[0]
    assert 1 <= len(opened.slept) <= 10


async def test_a_resource_runs_wherever_it_is_named():
    resources = """
processor_resources:
  - label: outer
    for_each: [{resource: later}]
  - label: later
    mapping: root.n = this.n + 1
"""
    async with processors("- resource: outer\n- resource: later", resources) as opened:
        assert shown(await opened.run('{"n":1}')) == [['{"n":3}']]


async def test_retry_in_parallel_keeps_the_order_and_lets_nobody_wait_for_another():
    text = """
- retry:
    parallel: true
    max_retries: 5
    processors:
      - mapping: root = if this.n > 1 && count("retry_test_p") < 4 { throw("no") } else { this }
"""
    async with processors(text) as opened:
        batches = await opened.run('{"n":2}', '{"n":1}', '{"n":3}')
    assert shown(batches) == [['{"n":2}', '{"n":1}', '{"n":3}']]
    assert errors(batches) == [None] * 3


async def test_processors_are_one_list_over_the_whole_batch():
    text = (
        "- label: group\n  processors: [{mapping: root = batch_size()}, {archive: {format: lines}}]"
    )
    async with processors(text) as opened:
        assert opened.chain.sync
        assert shown(await opened.run("a", "b")) == [["2\n2"]]

"""workflow: order, accounts, what is skipped, resources."""

import json

import pytest

from kit.chains import errors, message, processors, shown
from openmeter_collector.errors import ConfigError

TWO = """
- workflow:
    meta_path: META
    branches:
      second:
        request_map: root = this.a.first
        processors: [{mapping: root = this + 1}]
        result_map: root.second = this
      first:
        request_map: root = this.n
        processors: [{mapping: root = this * 10}]
        result_map: root.a.first = this
"""


def one(batches):
    ((text,),) = shown(batches)
    return json.loads(text)


async def test_a_branch_runs_after_those_that_give_what_it_reads():
    async with processors(TWO.replace("META", "meta.workflow")) as opened:
        assert opened.chain.sync
        assert one(await opened.run('{"n":1}')) == {
            "a": {"first": 10},
            "meta": {"workflow": {"succeeded": ["first", "second"]}},
            "n": 1,
            "second": 11,
        }


async def test_metadata_orders_branches_as_well():
    text = """
- workflow:
    meta_path: ""
    branches:
      a: {request_map: 'root = meta("k")', processors: [], result_map: root.seen = content().string()}
      b: {processors: [], result_map: 'meta k = "given"'}
"""
    async with processors(text) as opened:
        assert one(await opened.run("{}"))["seen"] == "given"


async def test_branches_of_a_tier_run_at_the_same_time_on_the_message_as_it_was():
    text = """
- workflow:
    meta_path: ""
    order: [[a, b]]
    branches:
      a: {request_map: root = this, processors: [{sleep: {duration: 1s}}], result_map: root.a = this.b}
      b: {request_map: root = this, processors: [{sleep: {duration: 1s}}], result_map: root.b = this.a}
"""
    async with processors(text) as opened:
        assert not opened.chain.sync
        assert one(await opened.run('{"a":1,"b":2}')) == {"a": 2, "b": 1}


async def test_what_failed_or_was_left_out_is_noted_and_nothing_is_flagged():
    text = """
- workflow:
    branches:
      bad: {request_map: root = this.n, processors: [{mapping: 'root = throw("no")'}]}
      left: {request_map: root = deleted(), processors: []}
      good: {request_map: root = this.n, processors: [], result_map: root.good = this}
"""
    async with processors(text) as opened:
        batches = await opened.run('{"n":1}')
        account = one(batches)["meta"]["workflow"]
    assert errors(batches) == [None]
    assert (account["succeeded"], account["skipped"]) == (["good"], ["left"])
    assert "no" in account["failed"]["bad"]


async def test_without_a_meta_path_the_message_is_flagged_and_keeps_its_form():
    text = (
        "- workflow: {meta_path: '', branches: {x: {processors: [{mapping: 'root = throw(1)'}]}}}"
    )
    async with processors(text.replace("throw(1)", 'throw("no")')) as opened:
        batches = await opened.run("plain", '{"n":1}')
        assert shown(batches) == [["plain", '{"n":1}']]
        assert errors(batches) == ["workflow branches failed: [x]"] * 2


ACCOUNT = """
- workflow:
    meta_path: w
    branches:
      a: {request_map: 'root = ""', processors: [], result_map: root.ran.a = true}
      b: {request_map: 'root = ""', processors: [], result_map: root.ran.b = true}
      c: {request_map: 'root = ""', processors: [], result_map: root.ran.c = true}
"""


@pytest.mark.parametrize(
    ("account", "ran"),
    [
        ({"succeeded": ["a"], "skipped": ["b"], "failed": {"c": "no"}}, {"c"}),
        ({"apply": ["b"]}, {"b"}),
        ({"apply": ["a", "b"], "succeeded": ["b"]}, {"a"}),
        ({"apply": []}, {"a", "b", "c"}),
        ({"succeeded": ["unknown"]}, {"a", "b", "c"}),
        ("no account", {"a", "b", "c"}),
    ],
)
async def test_a_message_that_comes_again_is_worked_on_where_it_failed(account, ran):
    async with processors(ACCOUNT) as opened:
        made = one(await opened.run(json.dumps({"w": account})))
    assert set(made["ran"]) == ran
    assert made["w"]["previous"] == account
    assert set(made["w"].get("succeeded", [])) == ran


async def test_messages_of_a_batch_are_judged_one_by_one():
    async with processors(ACCOUNT) as opened:
        (batch,) = await opened.run('{"w":{"apply":["a"]}}', "no json", '{"w":{"apply":["b"]}}')
    first, broken, last = batch
    assert set(first.structured()["ran"]) == {"a"}
    assert set(last.structured()["ran"]) == {"b"}
    assert broken.content == b"no json"
    assert broken.error is not None


RESOURCES = """
processor_resources:
  - label: shared
    branch: {request_map: root = this.n, processors: [], result_map: root.shared = this}
  - label: other
    noop: {}
"""


@pytest.mark.parametrize("how", ["order: [[shared], [own]]", "branch_resources: [shared]"])
async def test_branches_may_be_resources(how):
    own = "own: {request_map: root = this.shared, processors: [], result_map: root.own = this}"
    text = f"- workflow: {{meta_path: '', {how}, branches: {{{own}}}}}"
    async with processors(text, RESOURCES) as opened:
        assert one(await opened.run('{"n":1}')) == {"n": 1, "own": 1, "shared": 1}


BRANCH = "{request_map: root = this.%s, processors: [], result_map: root.%s = this}"


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (f"branches: {{a: {BRANCH % ('b', 'a')}, b: {BRANCH % ('a', 'b')}}}", "a, b wait for each"),
        ("order: [[a], [a]], branches: {a: {processors: []}}", "'a' is twice in the order"),
        ("order: [[a], []], branches: {a: {processors: []}}", "tier 1 of the order is empty"),
        ("order: [[a]], branches: {a: {processors: []}, b: {processors: []}}", "in the order: b"),
        ("order: [[nowhere]]", "no branch and no processor resource 'nowhere'"),
        ("order: [[other]]", "'other' is a noop; a branch is expected"),
        ("branch_resources: [shared], branches: {shared: {processors: []}}", "rename one"),
        ("branches: {'a b': {processors: []}}", "'a b' contains invalid characters"),
    ],
)
async def test_an_order_that_cannot_be_is_refused_at_the_start(fields, fault):
    with pytest.raises(ConfigError, match=fault):
        async with processors(f"- workflow: {{{fields}}}", RESOURCES):
            pass


async def test_flags_a_message_came_with_stay():
    async with processors(ACCOUNT) as opened:
        batches = await opened.run_batch([message("{}", error=ValueError("old"))])
    assert errors(batches) == ["old"]


async def test_what_is_decided_by_one_tier_is_done_by_the_next():
    text = """
- workflow:
    meta_path: ""
    branches:
      pro:
        request_map: root = if this.plan != "pro" { deleted() }
        processors: [{mapping: root = 10}]
        result_map: root.rate.value = this
      free:
        request_map: root = if this.plan == "pro" { deleted() }
        processors: [{mapping: root = 0}]
        result_map: root.rate.value = this
      price:
        request_map: root = this.n * this.rate.value
        processors: []
        result_map: root.price = this
"""
    async with processors(text) as opened:
        (batch,) = await opened.run('{"plan":"pro","n":3}', '{"plan":"free","n":3}')
    assert [message.structured()["price"] for message in batch] == [30, 0]

"""fallback, retry, reject_errored, sync_response, resource, cache and file."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from kit.pipes import (
    REGISTRY,
    SCRIPTS,
    WRITTEN,
    Uncounted,
    messages,
    opened_output,
    surroundings,
)
from openmeter_collector.api import (
    BatchFailed,
    Disconnected,
    Message,
    Rejected,
    ResponseStore,
    Retryable,
)
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, open_resources
from openmeter_collector.testing.clock import virtual_time

TWO = "[{scripted: {name: one}}, {scripted: {name: two}}]"


def failing(*errors):
    left = list(errors)

    async def script(contents):
        if left:
            raise left.pop(0)

    return script


@virtual_time
async def test_fallback_hands_on_only_what_failed_and_says_why():
    async with opened_output(f"output: {{fallback: {TWO}}}") as opened:
        SCRIPTS["one"] = failing(BatchFailed({1: Retryable("away")}))
        await opened.write("a", "b", "c")
        assert WRITTEN == {"one": [["a", "b", "c"]], "two": [["b"]]}


@virtual_time
async def test_fallback_sets_metadata():
    text = """
output:
  fallback:
    - scripted: {name: one}
    - switch:
        cases:
          - check: meta("fallback_error") == "away"
            output: {scripted: {name: two}}
"""
    async with opened_output(text) as opened:
        SCRIPTS["one"] = failing(Retryable("away"))
        await opened.write("a")
        assert WRITTEN["two"] == [["a"]]


@virtual_time
async def test_fallback_reports_what_all_failed_on():
    async with opened_output(f"output: {{fallback: {TWO}}}") as opened:
        SCRIPTS["one"] = failing(BatchFailed({0: Retryable("x"), 2: Retryable("y")}))
        SCRIPTS["two"] = failing(BatchFailed({1: Retryable("last")}))
        with pytest.raises(BatchFailed) as caught:
            await opened.write("a", "b", "c")
        assert {index: str(error) for index, error in caught.value.errors.items()} == {2: "last"}


@virtual_time
async def test_retry_repeats_what_failed_until_it_is_delivered():
    async with opened_output("output: {retry: {output: {scripted: {name: one}}}}") as opened:
        SCRIPTS["one"] = failing(BatchFailed({1: Retryable("away")}), Retryable("away"))
        await opened.write("a", "b")
        assert WRITTEN["one"] == [["a", "b"], ["b"], ["b"]]


@virtual_time
async def test_retry_gives_up_after_so_many():
    text = "output: {retry: {max_retries: 2, output: {scripted: {name: one}}}}"
    async with opened_output(text) as opened:
        SCRIPTS["one"] = failing(*[Retryable("away")] * 9)
        with pytest.raises(Retryable, match="away"):
            await opened.write("a")
        assert WRITTEN["one"] == [["a"]] * 3


@virtual_time
async def test_retry_gives_up_after_so_long():
    text = (
        "output: {retry: {backoff: {initial_interval: 1s, max_interval: 1s, max_elapsed_time: 5s},"
        " output: {scripted: {name: one}}}}"
    )
    async with opened_output(text) as opened:
        SCRIPTS["one"] = failing(*[Retryable("away")] * 99)
        with pytest.raises(Retryable, match="away"):
            await opened.write("a")
        assert 3 < asyncio.get_running_loop().time() <= 5


@virtual_time
async def test_reject_errored_refuses_flagged_messages_with_their_reason():
    async with opened_output("output: {reject_errored: {scripted: {name: one}}}") as opened:
        flagged = Message(b"b").with_error(ValueError("no such field"))
        with pytest.raises(BatchFailed) as caught:
            await opened.write("a", flagged, "c")
        ((index, error),) = caught.value.errors.items()
        assert (index, type(error), str(error)) == (1, Rejected, "no such field")
        assert WRITTEN["one"] == [["a", "c"]]


@virtual_time
async def test_each_request_gets_its_own_messages_as_its_answer():
    async with opened_output("output: {sync_response: {}}") as opened:
        first, second = ResponseStore(), ResponseStore()
        contexts = [first, second, None, first]
        batch = [Message(b"%d" % at, context=one) for at, one in enumerate(contexts)]
        await opened.output.write(batch)
        assert [m.content for stored in first.batches for m in stored] == [b"0", b"3"]
        assert [m.content for stored in second.batches for m in stored] == [b"1"]


@virtual_time
async def test_resources_are_shared_and_may_refer_to_each_other():
    text = """
input: {resource: in}
output: {resource: first}
input_resources:
  - label: in
    generate: {mapping: root = "x", count: 2, interval: ""}
output_resources:
  - label: first
    resource: second
  - label: second
    scripted: {name: one}
processor_resources: []
"""
    WRITTEN.clear()
    SCRIPTS.clear()
    config = load(text, REGISTRY, env={})
    around = surroundings()
    async with AsyncExitStack() as stack:
        resources = await open_resources(config, around, stack)
        env = ComponentEnv(around, resources, config.output)
        output = await stack.enter_async_context(env.output(config.output))
        await output.write(messages("a"))
        got = []

        class Intake(Uncounted):
            async def put(self, delivery):
                got.extend(message.content for message in delivery.batch)
                delivery.settle(None)

        async with env.input(config.input) as opened:
            await opened.run(Intake())
        assert got == [b"x", b"x"]
    assert WRITTEN == {"one": [["a"]]}


@virtual_time
async def test_a_child_that_lost_its_connection_is_opened_again_alone():
    async with opened_output(f"output: {{broker: {{outputs: {TWO}}}}}") as opened:
        SCRIPTS["one"] = failing(Disconnected("gone"))
        await opened.write("a")
        assert WRITTEN == {"one": [["a"], ["a"]], "two": [["a"]]}


@virtual_time
async def test_a_child_that_lost_its_connection_does_not_take_its_parent_along():
    text = "output: {switch: {cases: [{output: {scripted: {name: one}}}]}}"
    async with opened_output(text) as opened:
        SCRIPTS["one"] = failing(Disconnected("gone"))
        with pytest.raises(Retryable, match="gone"):
            await opened.write("a")
        await opened.write("a")


async def test_file_appends_lines_by_path(tmp_path):
    text = f"output: {{file: {{path: '{tmp_path}/sub/${{! meta(\"kind\") }}.txt'}}}}"
    async with opened_output(text) as opened:
        await opened.write("a", "b", kind="x")
        await opened.write("c", kind="x")
        await opened.write("d", kind="y")
    assert (tmp_path / "sub/x.txt").read_bytes() == b"a\nb\nc\n"
    assert (tmp_path / "sub/y.txt").read_bytes() == b"d\n"


async def test_a_file_that_cannot_be_written_is_tried_again(tmp_path):
    (tmp_path / "folder").mkdir()
    async with opened_output(f"output: {{file: {{path: '{tmp_path}/folder'}}}}") as opened:
        with pytest.raises(Retryable, match="folder"):
            await opened.write("a")


@virtual_time
async def test_batches_of_a_child_end_where_its_check_says():
    text = """
output:
  drop_on:
    output:
      scripted:
        name: one
        batching: {count: 100, period: 1h, check: 'content() == "end"'}
"""
    async with opened_output(text) as opened:
        await asyncio.gather(opened.write("a", "b"), opened.write("end"))
        assert WRITTEN["one"] == [["a", "b", "end"]]
        assert asyncio.get_running_loop().time() == 0

"""The generate input."""

import asyncio

from kit.pipes import REGISTRY, surroundings
from openmeter_collector.api import Retryable
from openmeter_collector.components.inputs.generate import Generate
from openmeter_collector.config import load
from openmeter_collector.engine.child_input import ChildInput
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.testing.clock import virtual_time


async def taken(fields, most=1000, settle=lambda delivery: delivery.settle(None), start=0.0):
    """(seconds since the start, contents) of what the input made."""
    text = "input:\n  generate:\n" + "\n".join(f"    {line}" for line in fields.splitlines())
    config = load(text, REGISTRY, env={})
    lines = []
    around = surroundings(lines)
    loop_time = around.monotonic
    around = surroundings(lines, now=lambda: start + loop_time())
    env = ComponentEnv(around, Resources(), config.input)
    got = []

    class Enough(Exception):
        pass

    class Intake:
        async def put(self, delivery):
            got.append((loop_time(), [message.content.decode() for message in delivery.batch]))
            settle(delivery)
            if len(got) >= most:
                raise Enough

    async with env.input(config.input) as opened:
        assert isinstance(opened, ChildInput)
        try:
            await opened.run(Intake())
        except* Enough:
            pass
    return got, lines


@virtual_time
async def test_the_first_message_comes_at_once_and_the_others_at_intervals():
    got, _ = await taken('mapping: root = "x"\ninterval: 500ms\ncount: 3')
    assert got == [(0, ["x"]), (0.5, ["x"]), (1, ["x"])]


@virtual_time
async def test_count_counts_messages_and_cuts_the_last_batch():
    got, _ = await taken('mapping: root = count("n1")\ninterval: ""\ncount: 5\nbatch_size: 2')
    assert [contents for _, contents in got] == [["1", "2"], ["3", "4"], ["5"]]


@virtual_time
async def test_a_cron_expression_waits_for_its_first_time():
    got, _ = await taken('mapping: root = "x"\ninterval: "*/5 * * * *"', most=2, start=60.0)
    assert [at for at, _ in got] == [240, 540]


@virtual_time
async def test_metadata_is_made_too():
    text = 'mapping: |\n  root.id = 1\n  meta kind = "k"\ncount: 1\n'
    kinds = []
    await taken(text, settle=lambda d: (kinds.append(d.batch[0].metadata), d.settle(None)))
    assert kinds == [{"kind": "k"}]


@virtual_time
async def test_deleted_and_failing_mappings_make_no_message():
    got, _ = await taken("mapping: root = deleted()\ncount: 3\ninterval: 1ms")
    assert got == []
    got, lines = await taken('mapping: root = throw("why")\ncount: 1')
    assert got == []
    assert any("the mapping failed" in line and "why" in line for line in lines)


@virtual_time
async def test_what_fails_comes_again_unless_told_not_to():
    fates = [Retryable("no"), Retryable("no"), None, None]
    fields = 'mapping: root = count("n2")\ncount: 2\ninterval: ""'
    got, _ = await taken(fields, settle=lambda delivery: delivery.settle(fates.pop(0)))
    assert sorted(contents for _, contents in got) == [["1"], ["1"], ["2"], ["2"]]
    got, _ = await taken(
        fields + "\nauto_replay_nacks: false", settle=lambda d: d.settle(Retryable("no"))
    )
    assert [contents for _, contents in got] == [["1"], ["2"]]


@virtual_time
async def test_the_input_does_not_end_before_all_is_delivered():
    late = []
    task = asyncio.ensure_future(
        taken('mapping: root = "x"\ncount: 1\ninterval: ""', settle=late.append)
    )
    await asyncio.sleep(60)
    assert not task.done()
    late[0].settle(Retryable("once more"))
    await asyncio.sleep(60)
    assert not task.done()
    late[1].settle(None)
    got, _ = await task
    assert len(got) == 2


def test_an_interval_that_is_none_is_refused():
    lint = Generate.__spec__.fields["interval"].lint
    assert "five fields" in lint("a b")
    assert "more than 0" in lint("0s")
    assert lint("@every 5m") is None

"""Whatever lets an event go, the books hear which rule it was."""

import asyncio
from pathlib import Path

import pytest

from kit.pipes import REGISTRY, SCRIPTS, WRITTEN, surroundings
from openmeter_collector.config import load
from openmeter_collector.engine.run import Control, Pipeline
from openmeter_collector.errors import Rejected, Retryable
from openmeter_collector.storage import audit, ledger
from openmeter_collector.storage.visit import reading

CONFIG = """
input:
  generate:
    count: 6
    interval: ""
    mapping: |
      root.id = counter().string()
      root.source = "gen"
      root.type = "t"
INPUT
buffer:
  sqlite:
    path: PATH/buffer.db
    min_free_bytes: 0
BUFFER
pipeline:
  processors: [PIPELINE]
output:
OUTPUT
"""
TO_CHILD = "  scripted: {name: child}\n"
SECOND = 'mapping: "root = if this.id == \\"2\\" { deleted() }"'
EACH_SECOND = 'mapping: "root = if this.id.number() % 2 == 0 { deleted() }"'


async def books(tmp_path, *, input_="", buffer="", pipeline="", output=TO_CHILD):
    """Run a pipeline to its end; what the books say of it."""
    text = CONFIG.replace("PATH", str(tmp_path)).replace("INPUT", input_).replace("BUFFER", buffer)
    text = text.replace("PIPELINE", pipeline).replace("OUTPUT", output)
    SCRIPTS.setdefault("child", None)
    WRITTEN.clear()
    config = load(text, REGISTRY, env={})
    await Pipeline(config, surroundings()).run(Control())
    with reading(Path(tmp_path) / "buffer.db") as connection:
        lines = audit.audited(connection)
    assert all(line.balance == 0 for line in lines)
    whole = ledger.total(lines)
    counts = {name: count for name, count in whole.counts.items() if count}
    return counts, whole.dropped_by


@pytest.fixture(autouse=True)
def no_script():
    SCRIPTS.clear()


async def test_a_filter_of_the_input(tmp_path):
    counts, rules = await books(tmp_path, input_=f"  processors: [{{{SECOND}}}]\n")
    assert counts == {"received": 6, "dropped": 1, "delivered": 5}
    assert rules == {"root.input.processors.0 (mapping)": 1}


@pytest.mark.parametrize("when", ["pre", "post"])
async def test_a_filter_of_the_buffer(tmp_path, when):
    counts, rules = await books(tmp_path, buffer=f"    {when}_processors: [{{{SECOND}}}]\n")
    assert counts == {"received": 6, "dropped": 1, "delivered": 5}
    assert rules == {f"root.buffer.sqlite.{when}_processors.0 (mapping)": 1}


async def test_a_filter_of_the_pipeline_is_known_by_its_label(tmp_path):
    counts, rules = await books(tmp_path, pipeline=f"{{label: evens, {EACH_SECOND}}}")
    assert counts == {"received": 6, "dropped": 3, "delivered": 3}
    assert rules == {"evens (mapping)": 3}


async def test_of_nested_processors_the_innermost_is_named(tmp_path):
    inner = f"{{label: inner, {SECOND}}}"
    pipeline = f'{{label: outer, switch: [{{check: "true", processors: [{inner}]}}]}}'
    _, rules = await books(tmp_path, pipeline=pipeline)
    assert rules == {"inner (mapping)": 1}


async def test_what_is_joined_is_not_dropped(tmp_path):
    counts, rules = await books(tmp_path, pipeline="{archive: {format: json_array}}")
    assert counts == {"received": 6, "delivered": 6}
    assert rules == {}


async def test_the_drop_output(tmp_path):
    counts, rules = await books(tmp_path, output="  drop: {}\n")
    assert counts == {"received": 6, "dropped": 6}
    assert rules == {"root.output (drop)": 6}


async def test_drop_on_drops_the_refused_one_and_delivers_its_neighbours(tmp_path):
    async def refuses(contents):
        if any('"3"' in one for one in contents):
            raise Rejected("400")

    SCRIPTS["child"] = refuses
    output = "  drop_on: {error: true, output: {scripted: {name: child}}}\n"
    counts, rules = await books(tmp_path, output=output)
    assert counts == {"received": 6, "dropped": 1, "delivered": 5}
    assert rules == {"root.output (drop_on)": 1}


async def test_a_case_that_drops_and_a_message_without_a_case(tmp_path):
    output = """  switch:
    cases:
      - check: this.id == "1"
        output: {label: away, drop: {}}
      - check: this.id != "2"
        output: {scripted: {name: child}}
"""
    counts, rules = await books(tmp_path, output=output)
    assert counts == {"received": 6, "dropped": 2, "delivered": 4}
    assert rules == {"away (drop)": 1, "root.output (switch: no case matched)": 1}


async def test_an_event_that_one_of_several_outputs_took_is_delivered(tmp_path):
    output = "  broker: {outputs: [{drop: {}}, {scripted: {name: child}}]}\n"
    counts, rules = await books(tmp_path, output=output)
    assert (counts, rules) == ({"received": 6, "delivered": 6}, {})


async def test_what_a_fallback_lets_go_is_not_handed_on_to_the_next(tmp_path):
    async def fails(contents):
        raise Retryable("away")

    SCRIPTS["child"] = fails
    output = """  fallback:
    - scripted: {name: child}
    - label: second
      drop: {}
    - scripted: {name: third}
"""
    counts, rules = await books(tmp_path, output=output)
    assert (counts, rules) == ({"received": 6, "dropped": 6}, {"second (drop)": 6})
    assert "third" not in WRITTEN


async def test_without_a_journal_a_sender_is_told_that_what_was_dropped_is_done(tmp_path):
    config = load(
        "input: {fed: {}}\noutput: {drop: {}}\n",
        REGISTRY.with_(fed_by(told := [])),
        env={},
    )
    await Pipeline(config, surroundings()).run(Control())
    assert told == [None]


def fed_by(told):
    from contextlib import asynccontextmanager  # noqa: PLC0415

    from openmeter_collector.api import Delivery, Message, input  # noqa: PLC0415

    @input("fed")
    class Fed:
        """Gives one message."""

        @asynccontextmanager
        async def open(self, env):
            yield self

        async def run(self, intake):
            done = asyncio.Event()

            def settle(failure):
                told.append(failure)
                done.set()

            intake.offer(Delivery([Message(b"a")], settle))
            await done.wait()

    return Fed


ONCE = "{label: once, dedupe: {cache: seen, key: '${! this.id.number() % 2 }'}}"
SEEN = "\ncache_resources: [{label: seen, memory: {init_values: {'0': t, '1': t}}}]\n"


@pytest.mark.parametrize("place", ["input_", "pipeline"])
async def test_what_dedupe_drops_is_a_duplicate_as_well(tmp_path, place):
    placed = f"  processors: [{ONCE}]\n" if place == "input_" else ONCE
    counts, rules = await books(tmp_path, output=TO_CHILD + SEEN, **{place: placed})
    assert counts == {"received": 6, "dropped": 6, "duplicates": 6}
    assert rules == {"once (dedupe)": 6}


async def test_with_detect_conflicts_duplicates_were_counted_when_they_were_stored(tmp_path):
    buffer = "    detect_conflicts: 1h\n"
    counts, _ = await books(tmp_path, output=TO_CHILD + SEEN, pipeline=ONCE, buffer=buffer)
    assert counts == {"received": 6, "dropped": 6}  # their ids are all different


async def test_what_dedupe_drops_because_it_cannot_tell_is_no_duplicate(tmp_path):
    lost = "{label: once, dedupe: {cache: seen, key: '${! throw(\"x\") }', drop_on_err: true}}"
    counts, rules = await books(tmp_path, output=TO_CHILD + SEEN, pipeline=lost)
    assert counts == {"received": 6, "dropped": 6}
    assert rules == {"once (dedupe): drop_on_err": 6}

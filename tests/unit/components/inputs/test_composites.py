"""broker, sequence, batched, read_until and inproc inputs."""

import asyncio

import pytest

from kit.pipes import REGISTRY, Uncounted, surroundings
from openmeter_collector.api import (
    BatchFailed,
    DeadLetter,
    Message,
    Rejected,
    Retryable,
    Undeliverable,
)
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.testing.clock import virtual_time


class Intake(Uncounted):
    """Takes deliveries and settles them as it is told."""

    def __init__(self, fates=()):
        self.fates = list(fates)
        self.batches = []

    async def put(self, delivery):
        self.batches.append([message.content.decode() for message in delivery.batch])
        delivery.settle(self.fates.pop(0) if self.fates else None)

    @property
    def contents(self):
        return [content for batch in self.batches for content in batch]


async def run(text, fates=()):
    config = load(text, REGISTRY, env={})
    env = ComponentEnv(surroundings(), Resources(), config.input)
    intake = Intake(fates)
    async with env.input(config.input) as opened:
        await opened.run(intake)
    return intake


def generate(content, count, interval='""', more=""):
    return (
        f"generate: {{mapping: 'root = \"{content}\"', count: {count}, interval: {interval}}}{more}"
    )


@virtual_time
async def test_broker_joins_inputs_and_ends_with_the_last():
    one, two = generate("a", 2), generate("b", 3, "1s")
    intake = await run(f"input:\n  broker:\n    inputs:\n      - {one}\n      - {two}\n")
    assert sorted(intake.contents) == ["a", "a", "b", "b", "b"]


@virtual_time
async def test_broker_batches_across_its_inputs():
    one, two = generate("a", 2), generate("b", 2)
    intake = await run(
        f"input:\n  broker:\n    batching: {{count: 4, period: 1s}}\n    inputs:\n"
        f"      - {one}\n      - {two}\n"
    )
    assert [sorted(batch) for batch in intake.batches] == [["a", "a", "b", "b"]]


@virtual_time
async def test_processors_of_a_child_run():
    text = """
input:
  sequence:
    inputs:
      - generate: {mapping: root = "a", count: 1}
        processors: [mapping: 'root = content().uppercase()']
      - generate: {mapping: root = "b", count: 1}
"""
    assert (await run(text)).contents == ["A", "b"]


@virtual_time
async def test_batched_collects_and_hands_over_the_rest_at_the_end():
    text = f"input:\n  batched:\n    policy: {{count: 2, period: 10s}}\n    child: {{{generate('a', 5)}}}\n"
    assert [len(batch) for batch in (await run(text)).batches] == [2, 2, 1]


UNTIL = """
input:
  read_until:
    check: 'this == 3'
    input:
      generate: {mapping: root = count("until%s"), interval: 1s}
"""


@virtual_time
async def test_read_until_ends_after_the_message_that_says_so():
    assert (await run(UNTIL % "1")).contents == ["1", "2", "3"]


@virtual_time
async def test_read_until_repeats_what_failed_before_it_ends():
    intake = await run(UNTIL % "2", [None, None, Retryable("no"), Retryable("no")])
    assert intake.contents == ["1", "2", "3", "3", "3"]


@virtual_time
async def test_read_until_ends_when_nothing_comes():
    text = """
input:
  read_until:
    idle_timeout: 5s
    input:
      sequence:
        inputs:
          - generate: {mapping: root = "a", count: 2, interval: 1s}
          - generate: {mapping: root = "b", interval: "0 0 1 1 *"}
"""
    assert (await run(text)).contents == ["a", "a"]


class Ends:
    """Both ends of an inproc name."""

    def __init__(self, fates):
        config = load("input: {inproc: x}\noutput: {inproc: x}", REGISTRY, env={})
        self.config = config
        self.env = ComponentEnv(surroundings(), Resources(), config.input)
        self.intake = Intake(fates)

    async def write(self, *contents):
        env = self.env
        async with (
            env.output(self.config.output) as output,
            env.input(self.config.input) as taker,
        ):
            taking = asyncio.ensure_future(taker.run(self.intake))
            try:
                await output.write([Message(one.encode()) for one in contents])
            finally:
                taking.cancel()
                await asyncio.wait({taking})


@virtual_time
async def test_inproc_carries_messages_over_and_verdicts_back():
    await Ends([None]).write("a", "b")
    with pytest.raises(BatchFailed) as caught:
        await Ends([BatchFailed({1: Retryable("away")})]).write("a", "b")
    assert list(caught.value.errors) == [1]


@virtual_time
async def test_a_dead_letter_behind_inproc_is_a_refusal_before_it():
    letter = DeadLetter(Message(b"x"), "not like this", "answer", 1, 0.0, 0.0, "out")
    with pytest.raises(Rejected, match="not like this"):
        await Ends([Undeliverable(letter)]).write("a")


@virtual_time
async def test_inproc_waits_until_somebody_takes():
    ends = Ends([])
    async with ends.env.output(ends.config.output) as output:
        writing = asyncio.ensure_future(output.write([Message(b"a")]))
        await asyncio.sleep(60)
        assert not writing.done()
        writing.cancel()
        await asyncio.wait({writing})
    # What nobody took and nobody offers any more does not come out later.
    await ends.write("b")
    assert ends.intake.contents == ["b"]

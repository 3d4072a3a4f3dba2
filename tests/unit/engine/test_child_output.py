"""An output inside another: whole batches that are refused cost only what is refused."""

from kit.pipes import REGISTRY, SCRIPTS, WRITTEN, messages, surroundings
from openmeter_collector.api import BatchFailed, Overloaded, Rejected, Retryable
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.testing.clock import virtual_time

ARCHIVED = """
output:
  scripted:
    name: one
    batching:
      count: 8
      processors:
        - archive: {format: json_array}
"""


async def written(text, script, *contents):
    SCRIPTS.clear()
    WRITTEN.clear()
    SCRIPTS["one"] = script
    config = load(text, REGISTRY, env={})
    env = ComponentEnv(surroundings(), Resources(), config.output)
    async with env.output(config.output) as output:
        try:
            await output.write(messages(*contents))
        except Exception as error:  # noqa: BLE001 - what it is, is the question
            return error


@virtual_time
async def test_a_batch_made_one_message_is_taken_apart_when_it_is_refused():
    async def refuses(contents):
        if any("5" in content for content in contents):
            raise Rejected("no fives")

    failure = await written(ARCHIVED, refuses, *"12345678")
    assert isinstance(failure, BatchFailed)
    ((index, error),) = failure.errors.items()
    assert (index, str(error)) == (4, "no fives")
    taken = [content for (content,) in WRITTEN["one"] if "5" not in content]
    assert sorted("".join(taken).replace("[", "").replace("]", "").replace(",", "")) == list(
        "1234678"
    )


@virtual_time
async def test_trouble_on_the_way_is_not_taken_apart_and_stays_what_it_is():
    for error in (Retryable("reset"), Overloaded("slow down", 9.0)):

        async def fails(contents, error=error):
            raise error

        assert await written(ARCHIVED, fails, *"1234") is error
        assert WRITTEN["one"] == [["[1,2,3,4]"]]

"""dedupe: what is marked, and when."""

import asyncio
from types import SimpleNamespace

import pytest

from kit.chains import errors, message, processors, shown
from openmeter_collector.api import BatchFailed, Retryable

CACHE = "cache_resources: [{label: seen, memory: {default_ttl: 1h}}]"
TEXT = "- dedupe: {cache: seen, key: '${! this.id.string() }'}"


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_was_delivered_before_is_dropped_and_acknowledged():
    async with processors(TEXT, CACHE) as opened:
        (first,), verdicts = await opened.deliver('{"id":"1"}', '{"id":"2"}')
        first.settle(None)
        await settled()
        (second,), _ = await opened.deliver('{"id":"1"}', '{"id":"3"}')
        assert verdicts == [None]
        assert shown([second.batch]) == [['{"id":"3"}']]
        second.settle(None)
        await settled()
        made, verdicts = await opened.deliver('{"id":"3"}')
        assert (made, verdicts) == ([], [None])


async def test_what_failed_is_no_duplicate_when_it_comes_again():
    async with processors(TEXT, CACHE) as opened:
        (first,), _ = await opened.deliver('{"id":"1"}', '{"id":"2"}')
        assert await opened.caches["seen"].get("1") is None
        first.settle(BatchFailed({1: Retryable("no")}))
        await settled()
        (second,), _ = await opened.deliver('{"id":"1"}', '{"id":"2"}')
        assert shown([second.batch]) == [['{"id":"2"}']]


@pytest.mark.parametrize("fails", [True, False])
async def test_a_second_one_waits_for_what_becomes_of_the_first(fails):
    async with processors(TEXT, CACHE) as opened:
        (first,), _ = await opened.deliver('{"id":"1"}')
        later = asyncio.create_task(opened.deliver('{"id":"1"}'))
        await settled()
        assert not later.done()
        first.settle(Retryable("no") if fails else None)
        made, verdicts = await later
        if fails:
            assert shown([made[0].batch]) == [['{"id":"1"}']]
            made[0].settle(None)
        else:
            assert (made, verdicts) == ([], [None])


async def test_two_in_one_batch_become_one_and_fail_together():
    async with processors(TEXT, CACHE) as opened:
        (made,), verdicts = await opened.deliver('{"id":"1"}', '{"id":"2"}', '{"id":"1"}')
        assert shown([made.batch]) == [['{"id":"1"}', '{"id":"2"}']]
        made.settle(BatchFailed({0: Retryable("no")}))
    ((failed,),) = [[one.errors] for one in verdicts]
    assert set(failed) == {0, 2}


async def test_batches_with_the_same_keys_in_another_order_do_not_wait_for_ever():
    async with processors(TEXT, CACHE) as opened:

        async def one(*ids):
            made, _ = await opened.deliver(*(f'{{"id":"{i}"}}' for i in ids))
            for delivery in made:
                delivery.settle(None)
            return sum(len(delivery.batch) for delivery in made)

        async with asyncio.timeout(5):
            counts = await asyncio.gather(*(one("1", "2", "3"), one("3", "2", "1"), one("2", "4")))
    assert sum(counts) == 4


class Broken:
    async def get(self, key):
        raise Retryable("away")

    set = get


@pytest.mark.parametrize(("options", "passed"), [("", 2), (", drop_on_err: true", 0)])
async def test_when_the_cache_fails_messages_pass_flagged_unless_told_otherwise(
    options, passed, monkeypatch
):
    text = TEXT.replace("}'}", f"}}'{options}}}")
    async with processors(text, CACHE) as opened:
        opened.chain._steps[0].processor._cache = Broken()
        batches = await opened.run('{"id":"1"}', '{"id":"2"}')
        assert sum(map(len, batches)) == passed
        assert all("cache: away" in one for one in errors(batches))
        await opened.run('{"id":"1"}')
    assert len(opened.lines) == 1


async def test_without_a_key_a_message_passes_flagged():
    async with processors(TEXT, CACHE) as opened:
        batches = await opened.run("{nope", '{"id":"1"}')
    assert shown(batches) == [["{nope", '{"id":"1"}']]
    assert errors(batches)[0].startswith("key interpolation error: ")
    assert errors(batches)[1] is None


async def test_on_its_own_without_a_delivery_it_marks_at_once():
    async with processors(TEXT, CACHE) as opened:
        assert shown(await opened.run('{"id":"1"}')) == [['{"id":"1"}']]
        assert await opened.run('{"id":"1"}') == []


async def test_a_full_buffer_does_not_keep_a_key_for_ever():
    """What was refused was never under way: the sender that tries again is not made to wait."""
    from openmeter_collector.api import Delivery, Overloaded  # noqa: PLC0415
    from openmeter_collector.engine.input_loop import BufferIntake  # noqa: PLC0415
    from openmeter_collector.engine.state import PipelineState  # noqa: PLC0415

    class Buffer:
        full = True

        def __init__(self):
            self.written = []

        def write(self, delivery):
            if self.full:
                raise Overloaded("full")
            self.written.append(delivery)

    async with processors(TEXT, CACHE) as opened, asyncio.TaskGroup() as tasks:
        buffer, verdicts = Buffer(), []
        intake = BufferIntake(
            SimpleNamespace(metrics=opened.metrics.scope(), sleep=asyncio.sleep),
            opened.chain,
            buffer,
            tasks,
            PipelineState(),
        )
        for full in (True, False):
            buffer.full = full
            intake.offer(Delivery([message('{"id":"1"}')], verdicts.append))
            async with asyncio.timeout(5):
                while not (verdicts if full else buffer.written):
                    await asyncio.sleep(0)
        buffer.written[0].settle(None)
    assert [type(one) for one in verdicts] == [Overloaded, type(None)]

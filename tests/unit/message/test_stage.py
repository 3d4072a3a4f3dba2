"""Who is told what became of a message, on its way through processors."""

import asyncio

import pytest

from openmeter_collector.errors import BatchFailed, Overloaded, Retryable
from openmeter_collector.message import Delivery, Message
from openmeter_collector.message.settlement import Stage, when_settled


def delivery(count):
    settled = []
    return Delivery([Message(b"%d" % n) for n in range(count)], settled.append), settled


def watched(stage, told):
    for message in stage.batch:
        assert when_settled(message, lambda failure, at=message.origin: told.append((at, failure)))


def test_each_is_told_its_own_verdict_before_the_source_is():
    given, settled = delivery(3)
    told = []
    with Stage(given) as stage:
        watched(stage, told)
        results = [stage.batch[:1], stage.batch[1:2]]
    first, second = stage.deliveries(results)
    error = Retryable("no")
    first.settle(error)
    assert told == []
    second.settle(None)
    assert told == [(0, error), (1, None), (2, None)]
    assert settled[0].errors == {0: error}


def test_what_was_joined_is_told_when_any_of_it_failed():
    given, _ = delivery(3)
    told = []
    with Stage(given) as stage:
        when_settled(stage.batch[0].at((0, 2)), told.append)
    (one,) = stage.deliveries([stage.batch])
    one.settle(BatchFailed({2: Retryable("no")}))
    assert [str(failure) for failure in told] == ["no"]


def test_what_rules_dropped_altogether_is_dealt_with():
    given, settled = delivery(1)
    told = []
    with Stage(given) as stage:
        watched(stage, told)
    assert stage.deliveries([]) == []
    assert told == [(0, None)]
    assert [str(one) for one in settled] == ["dropped by a processor"]


def test_what_is_not_handed_on_is_told_once_and_settles_nothing():
    given, settled = delivery(1)
    told = []
    with Stage(given) as stage:
        watched(stage, told)
    full = Overloaded("full")
    stage.abandon(full)
    stage.abandon(full)
    assert (told, settled) == ([(0, full)], [])


async def test_a_stage_that_is_cancelled_or_fails_lets_go():
    given, _ = delivery(1)
    told = []

    async def work():
        with Stage(given) as stage:
            watched(stage, told)
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(told) == 1
    assert told[0][1] is not None


def test_stages_within_stages_do_not_mix():
    outer, _ = delivery(1)
    inner, _ = delivery(1)
    told = []
    with Stage(outer) as first:
        with Stage(inner) as second:
            when_settled(second.batch[0], lambda failure: told.append("inner"))
        when_settled(first.batch[0], lambda failure: told.append("outer"))
    second.deliveries([second.batch])[0].settle(None)
    assert told == ["inner"]
    first.deliveries([first.batch])[0].settle(None)
    assert told == ["inner", "outer"]
    assert not when_settled(first.batch[0], told.append)

import asyncio
import json
import re
import time

import pytest

from kit.waiting import eventually
from openmeter_collector.testing.sandbox import Sandbox
from openmeter_collector.testing.sandbox import faults as fault
from openmeter_collector.testing.seeder import Seed, Seeder, UsageEvents, retry_after


@pytest.fixture
async def running():
    async with Sandbox(tokens=["t"]).serve() as made:
        yield made


def seed(running, **changes):
    return Seed(**{"url": running.url, "token": "t", "rate": 0, "seed": 1, **changes})


async def test_everything_accepted_arrives_byte_for_byte(running):
    ledger = await Seeder(seed(running, count=300, batch=7, awkward=0.3)).run()
    assert len(ledger.issued) == len(ledger.accepted) == 300
    assert {e.id: e.raw for e in running.events} == ledger.issued
    assert sum(ledger.by_type.values()) == 300
    assert any(b"1.50" in raw for raw in ledger.issued.values())


async def test_all_content_types_are_used(running):
    await Seeder(seed(running, count=60)).run()
    kinds = {request.header("content-type") for request in running.requests}
    assert kinds == {
        "application/json",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        fault.Status(status=503, retry_after=0, times=5),
        fault.Status(status=429, retry_after="date:0", times=5),
        fault.Status(status=500, times=2),
        fault.Reset(times=3),
        fault.Partial(times=2),
        fault.Late(seconds=30, times=2),
    ],
)
async def test_what_is_not_answered_well_is_sent_again_with_the_same_bytes(running, wrong):
    running.set_faults(wrong)
    ledger = await Seeder(seed(running, count=30, batch=3, timeout=0.3)).run()
    assert {e.id: e.raw for e in running.events} == ledger.issued
    assert not ledger.unresolved
    assert running.stats()["conflicts"] == 0
    assert ledger.attempts > 10


async def test_retry_after_is_obeyed(running):
    running.set_faults(fault.Status(status=503, retry_after=1, times=1))
    await Seeder(seed(running, count=1)).run()
    assert running.requests[1].at - running.requests[0].at >= 1


async def test_a_refusal_is_final_and_recorded(running):
    running.set_faults(fault.Refuse(status=400, type="tokens", detail="no meter"))
    ledger = await Seeder(seed(running, count=50)).run()
    assert ledger.accepted.isdisjoint(ledger.refused)
    assert len(ledger.accepted) + len(ledger.refused) == 50
    assert all("no meter" in text for text in ledger.refused.values())
    assert len(running.requests) == 50


async def test_an_outage_is_waited_out(running):
    seeder = Seeder(seed(running, count=20, connections=2))
    async with running.outage():
        sending = asyncio.create_task(seeder.run())
        await eventually(lambda: seeder.ledger.answers[0] >= 3)
    ledger = await sending
    assert len(ledger.accepted) == 20


async def test_stop_leaves_what_was_not_answered_as_unresolved(running):
    running.set_faults(fault.Status(status=503))
    seeder = Seeder(seed(running, count=100, connections=4))
    sending = asyncio.create_task(seeder.run())
    await running.wait_until(lambda: len(running.requests) >= 4)
    seeder.stop()
    ledger = await asyncio.wait_for(sending, 5)
    assert not ledger.accepted
    assert ledger.unresolved == set(ledger.issued)


async def test_the_rate_is_kept(running):
    began = time.monotonic()
    await Seeder(seed(running, count=21, rate=100)).run()
    assert 0.2 <= time.monotonic() - began < 3


def test_events_look_like_usage_and_repeat_by_seed():
    made = [UsageEvents(3, seed=5) for _ in range(2)]
    for _ in range(200):
        (id_, type_, subject, raw), other = made[0].next(), made[1].next()
        assert id_ == other[0]
        event = json.loads(raw)
        assert re.fullmatch("[0-9a-f-]{36}", id_)
        assert (event["id"], event["type"], event["subject"]) == (id_, type_, subject)
        assert event["data"]
    assert UsageEvents(3).next()[0] != UsageEvents(3).next()[0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("", None), ("soon", None), ("3", 3.0), ("Thu, 01 Jan 1970 00:00:10 GMT", 5.0),
     ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)  # fmt: skip
def test_retry_after_in_both_forms(text, seconds):
    assert retry_after(text, now=5.0) == seconds

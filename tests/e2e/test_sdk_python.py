"""The official Python SDK, unchanged, synchronous and asynchronous.

Against the sandbox: what it does on every answer a server can give, which is why our ingest answers
as it does. Against the collector: that events arrive, and that it is put off in the way it understands.
"""

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from corehttp.exceptions import (
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from openmeter import Client
from openmeter.aio import Client as AsyncClient
from openmeter.models import Event

from kit.waiting import eventually
from openmeter_collector.testing.sandbox import faults as fault

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def event(id_="1", **changes):
    return Event(
        **{
            "id": id_,
            "source": "sdk-test",
            "specversion": "1.0",
            "type": "request",
            "subject": "customer-1",
            "time": WHEN,
            "data": {"path": "/", "amount": 1.5, "name": "café"},
            **changes,
        }
    )


class Sync:
    """The synchronous client, called from a thread so that the server can answer meanwhile."""

    def __init__(self, client):
        self._client = client

    async def call(self, name, body):
        return await asyncio.to_thread(getattr(self._client.events, name), body)


class Async:
    def __init__(self, client):
        self._client = client

    async def call(self, name, body):
        return await getattr(self._client.events, name)(body)


@pytest.fixture(params=["sync", "async"])
def connect(request):
    """To open a client on a target."""

    @asynccontextmanager
    async def opened(target, **options):
        options = {"endpoint": target.url, "token": target.token, **options}
        if request.param == "sync":
            client = Client(**options)
            try:
                yield Sync(client)
            finally:
                client.close()
        else:
            client = AsyncClient(**options)
            try:
                yield Async(client)
            finally:
                await client.close()

    return opened


QUICK = {"retry_backoff_factor": 0.01}
"""The SDK's own setting, so that its waits between tries do not add up to minutes here."""


@pytest.mark.parametrize(
    ("name", "content_type", "count"),
    [
        ("ingest_event", "application/cloudevents+json", 0),
        ("ingest_events", "application/cloudevents-batch+json", 3),
        ("ingest_events_json", "application/json", 3),
    ],
)
async def test_events_arrive(target, connect, name, content_type, count):
    body = [event(str(number)) for number in range(count)] if count else event("0")
    async with connect(target) as sdk:
        assert await sdk.call(name, body) is None
    arrived = await target.arrived(count or 1)
    assert [one["id"] for one in arrived] == [str(number) for number in range(count or 1)]
    assert arrived[0] == {
        "id": "0",
        "source": "sdk-test",
        "specversion": "1.0",
        "type": "request",
        "subject": "customer-1",
        "time": "2026-01-02T03:04:05.678901Z",
        "data": {"path": "/", "amount": 1.5, "name": "café"},
    }
    if target.collector is None:
        [request] = target.sandbox.requests
        assert request.header("content-type") == content_type


async def test_an_event_without_a_time_gets_one(target, connect):
    async with connect(target) as sdk:
        await sdk.call("ingest_event", event(time=None))
    [arrived] = await target.arrived(1)
    if target.collector is not None:
        assert datetime.now(UTC) - datetime.fromisoformat(arrived["time"]) < (
            datetime.now(UTC) - WHEN
        )
    assert target.sandbox.events[0].time


async def test_a_bad_event_is_a_400_with_the_reason_and_is_not_sent_again(target, connect):
    async with connect(target) as sdk:
        with pytest.raises(HttpResponseError) as caught:
            await sdk.call("ingest_events", [event("1"), event("2", source="")])
    assert caught.value.status_code == 400
    assert "1" in caught.value.response.json()["detail"]
    assert "source" in caught.value.response.json()["detail"]
    assert caught.value.response.headers["content-type"] == "application/problem+json"
    assert not target.sandbox.events
    if target.collector is None:
        assert len(target.sandbox.requests) == 1


async def test_a_wrong_token_is_a_401(target, connect):
    async with connect(target, token="wrong") as sdk:
        with pytest.raises(HttpResponseError) as caught:
            await sdk.call("ingest_event", event())
    assert caught.value.status_code == 401
    assert caught.value.response.json()["status"] == 401


async def test_connection_refused_is_raised_and_not_tried_again(sandbox, connect):
    async with sandbox.sandbox.outage(), connect(sandbox, **QUICK) as sdk:
        with pytest.raises(ServiceRequestError):
            await sdk.call("ingest_event", event())
    assert not sandbox.sandbox.requests


async def test_a_connection_cut_after_sending_is_not_tried_again(sandbox, connect):
    """So the sender does not know; it may send the same id again, which is a duplicate."""
    sandbox.sandbox.set_faults(fault.Reset(times=1, bytes=0))
    async with connect(sandbox, **QUICK) as sdk:
        with pytest.raises((ServiceResponseError, ServiceRequestError)):
            await sdk.call("ingest_event", event())
        await sdk.call("ingest_event", event())
    assert len(sandbox.sandbox.requests) == 2
    assert sandbox.sandbox.stats()["duplicates"] == 1


@pytest.mark.parametrize(
    ("answers", "requests", "status"),
    [
        (fault.Status(status=400), 1, 400),
        (fault.Status(status=401), 1, 401),
        (fault.Status(status=403), 1, 403),
        (fault.Status(status=404), 1, 404),
        (fault.TooLarge(bytes=10), 1, 413),
        (fault.Status(status=408), 1, 408),
        (fault.Status(status=429), 1, 429),
        (fault.Status(status=502), 1, 502),
        (fault.Status(status=500), 4, 500),
        (fault.Status(status=503), 4, 503),
        (fault.Status(status=504), 4, 504),
        (fault.Status(status=307, headers={"location": "/elsewhere"}), 1, 307),
        # Success is 204 and nothing else.
        (fault.Status(status=200, body=""), 1, 200),
        (fault.Status(status=202, body=""), 1, 202),
        (fault.Junk(), 1, 200),
    ],
)
async def test_what_it_does_on_each_answer(sandbox, connect, answers, requests, status):
    sandbox.sandbox.set_faults(answers)
    async with connect(sandbox, **QUICK) as sdk:
        with pytest.raises(HttpResponseError) as caught:
            await sdk.call("ingest_event", event())
    assert caught.value.status_code == status
    assert isinstance(caught.value, ResourceNotFoundError) == (status == 404)
    assert len(sandbox.sandbox.requests) == requests
    assert not sandbox.sandbox.events


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["1", "date:1"])
async def test_retry_after_is_obeyed_and_the_event_arrives_once(sandbox, connect, status, form):
    sandbox.sandbox.set_faults(fault.Status(status=status, retry_after=form, times=2))
    async with connect(sandbox, **QUICK) as sdk:
        await sdk.call("ingest_event", event())
    assert [request.status for request in sandbox.sandbox.requests] == [status, status, 204]
    times = [request.at for request in sandbox.sandbox.requests]
    if form == "1":
        assert times[2] - times[1] >= 1
    assert len({request.body for request in sandbox.sandbox.requests}) == 1


async def test_retry_after_without_end_gives_up_after_four(sandbox, connect):
    sandbox.sandbox.set_faults(fault.Status(status=503, retry_after=0))
    async with connect(sandbox, **QUICK) as sdk:
        with pytest.raises(HttpResponseError):
            await sdk.call("ingest_event", event())
    assert len(sandbox.sandbox.requests) == 4


async def test_an_error_after_partial_ingest_is_sent_again_and_needs_dedupe(sandbox, connect):
    sandbox.sandbox.set_faults(fault.Partial(keep=2, times=1))
    async with connect(sandbox, **QUICK) as sdk:
        await sdk.call("ingest_events", [event(str(number)) for number in range(3)])
    stats = sandbox.sandbox.stats()
    assert (stats["accepted"], stats["duplicates"]) == (3, 2)


@pytest.mark.slow
async def test_its_own_waits_between_tries(sandbox, connect):
    """As it comes: at once, then 1.6 s, then 3.2 s. An overload longer than that loses the event
    unless the answer names a time.
    """
    sandbox.sandbox.set_faults(fault.Status(status=503))
    async with connect(sandbox) as sdk:
        with pytest.raises(HttpResponseError):
            await sdk.call("ingest_event", event())
    times = [request.at for request in sandbox.sandbox.requests]
    at_once, second, third = (later - earlier for earlier, later in pairwise(times))
    assert at_once < 1
    assert second >= 1.6
    assert third >= 3.2


# The collector, where it puts a sender off.


async def test_the_collector_refuses_what_is_too_large_with_a_problem(start_collector, connect):
    async with start_collector() as target, connect(target) as sdk:
        with pytest.raises(HttpResponseError) as caught:
            await sdk.call("ingest_event", event(data={"x": "y" * 70_000}))
    assert caught.value.status_code == 413
    assert caught.value.response.json()["status"] == 413


async def test_the_collector_over_its_rate_limit_is_waited_for(start_collector, connect):
    async with start_collector(rate_limit="few") as target, connect(target) as sdk:
        began = time.monotonic()
        for number in range(5):
            await sdk.call("ingest_event", event(str(number)))
        assert time.monotonic() - began >= 0.9
        assert {one["id"] for one in await target.arrived(5)} == set("01234")


async def test_a_full_collector_is_waited_for_and_nothing_is_lost(start_collector, connect):
    """The buffer fills while OpenMeter is away; the SDK is told when to come back, and does."""
    async with (
        start_collector(max_bytes=20_000, sandbox_up=False) as target,
        connect(target, retry_total=100, retry_status=100) as sdk,
    ):
        number = 0
        accepted = []

        async def send():
            nonlocal number
            while number < 40:
                number += 1
                id_ = str(number)
                await sdk.call("ingest_event", event(id_, data={"x": "y" * 2000}))
                accepted.append(id_)

        sending = asyncio.create_task(send())
        await eventually(lambda: target.metric("cloudevents_put_off"))
        assert 5 <= len(accepted) < 40
        await target.sandbox.up()
        await asyncio.wait_for(sending, 120)
        arrived = await target.arrived(40)
        assert {one["id"] for one in arrived} == set(accepted)

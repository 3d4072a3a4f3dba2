"""The official JavaScript SDK, unchanged, driven by a Node.js process per test."""

import asyncio
import json
import re

import pytest

from kit.needs import ROOT, require
from openmeter_collector.testing.sandbox import faults as fault

EVENT = {
    "id": "1",
    "source": "sdk-test",
    "type": "request",
    "subject": "customer-1",
    "time": "2026-01-02T03:04:05.678Z",
    "data": {"path": "/", "amount": 1.5, "name": "café"},
}


@pytest.fixture
async def ingest():
    """Calls `client.events.ingest(events)` and gives back what it returned or raised."""
    driver = ROOT / "tests" / "e2e" / "js" / "driver.mjs"
    process = await asyncio.create_subprocess_exec(
        require("Node.js"), driver, require("@openmeter/sdk"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def call(target, events, token=None):
        asked = {"url": target.url, "token": token or target.token, "events": events}
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        answer = await asyncio.wait_for(process.stdout.readline(), 60)
        assert answer, "node ended"
        return json.loads(answer)

    yield call
    process.stdin.close()
    assert await process.wait() == 0


async def test_one_event_and_several_arrive(target, ingest):
    assert await ingest(target, EVENT) == {"ok": True, "result": None}
    several = [{**EVENT, "id": str(number)} for number in range(2, 5)]
    assert (await ingest(target, several))["ok"]
    arrived = await target.arrived(4)
    assert [one["id"] for one in arrived] == ["1", "2", "3", "4"]
    assert arrived[0] == {**EVENT, "specversion": "1.0"}
    if target.collector is None:
        kinds = {request.header("content-type") for request in target.sandbox.requests}
        assert kinds == {"application/cloudevents-batch+json"}


async def test_it_fills_in_what_is_missing(target, ingest):
    assert (await ingest(target, {"type": "request", "subject": "customer-1"}))["ok"]
    [arrived] = await target.arrived(1)
    assert arrived["source"] == "@openmeter/sdk"
    assert re.fullmatch(r"[0-9a-f-]{36}", arrived["id"])
    assert arrived["time"].endswith("Z")


async def test_a_bad_event_is_a_400_with_the_reason(target, ingest):
    result = await ingest(target, [EVENT, {**EVENT, "id": "2", "subject": ""}])
    assert (result["ok"], result["name"], result["status"]) == (False, "HTTPError", 400)
    assert result["title"] == "Bad Request"
    assert "1" in result["message"]
    assert "subject" in result["message"]
    assert not target.sandbox.events


async def test_a_wrong_token_is_a_401(target, ingest):
    result = await ingest(target, EVENT, token="wrong")
    assert (result["ok"], result["status"]) == (False, 401)
    assert "token" in result["message"]


async def test_connection_refused_is_raised(sandbox, ingest):
    async with sandbox.sandbox.outage():
        result = await ingest(sandbox, EVENT)
    assert not result["ok"]
    assert result["cause"] == "ECONNREFUSED"


@pytest.mark.parametrize(
    "wrong",
    [
        *(fault.Status(status=status) for status in (400, 401, 403, 404, 408, 429)),
        *(fault.Status(status=status) for status in (500, 502, 503, 504)),
        fault.Status(status=429, retry_after=1),
        fault.Status(status=503, retry_after=1),
        fault.TooLarge(bytes=10),
    ],
)
async def test_an_error_is_raised_after_one_request_whatever_it_says(sandbox, ingest, wrong):
    """It never tries again by itself, not even where `Retry-After` asks it to."""
    sandbox.sandbox.set_faults(wrong)
    result = await ingest(sandbox, EVENT)
    assert not result["ok"]
    assert result["status"] == sandbox.sandbox.requests[0].status
    assert f"[{result['status']}]" in result["message"]
    assert len(sandbox.sandbox.requests) == 1


async def test_a_connection_that_is_cut_is_raised(sandbox, ingest):
    sandbox.sandbox.set_faults(fault.Reset(bytes=0))
    result = await ingest(sandbox, EVENT)
    assert not result["ok"]
    assert len(sandbox.sandbox.requests) == 1


@pytest.mark.parametrize("status", [200, 202])
async def test_any_2xx_is_success_for_it(sandbox, ingest, status):
    sandbox.sandbox.set_faults(fault.Status(status=status, body="", content_type="text/plain"))
    assert (await ingest(sandbox, EVENT))["ok"]


async def test_a_redirect_turns_into_a_get_and_loses_the_event(sandbox, ingest):
    """Why our ingest never answers one: the SDK reports success and nothing was stored."""
    moved = {"location": "/api/v1/events"}
    sandbox.sandbox.set_faults(fault.Status(status=301, body="", headers=moved, times=1))
    assert (await ingest(sandbox, EVENT))["ok"]
    assert [request.method for request in sandbox.sandbox.requests] == ["POST", "GET"]
    assert not sandbox.sandbox.events


async def test_the_collector_refuses_what_is_too_large(start_collector, ingest):
    async with start_collector() as target:
        result = await ingest(target, {**EVENT, "data": {"x": "y" * 70_000}})
    assert (result["ok"], result["status"]) == (False, 413)
    assert "64" in result["message"] or "65" in result["message"]

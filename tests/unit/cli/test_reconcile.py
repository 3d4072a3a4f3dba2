"""`reconcile` against the local OpenMeter, by each of its lists."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.reconcile import reconcile
from openmeter_collector.errors import CollectorError
from openmeter_collector.message import Message
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.testing.sandbox import Sandbox

DAY = "2026-03-01"


def event(number, data=1, second=None):
    at = f"{DAY}T10:{number // 60 % 60:02}:{number % 60:02}.5Z" if second is None else second
    return json.dumps(
        {
            "specversion": "1.0", "id": f"e{number}", "source": "shop", "type": "request",
            "subject": "c", "time": at, "data": {"n": data, "text": "é"},
        }
    ).encode()  # fmt: skip


async def keep(path, *contents):
    async with Journal.open(JournalOptions(path, min_free_bytes=0, keep_sent=3600)) as journal:
        for start in range(0, len(contents), 100):
            journal.sent([Message(one) for one in contents[start : start + 100]])
        journal._writer.nudge()


@pytest.fixture
async def sandbox(monkeypatch):
    monkeypatch.setenv("OPENMETER_TOKEN", "right")
    async with Sandbox(tokens=["right"]).serve() as running:
        yield running


async def post(sandbox, *contents):
    from openmeter_collector.engine.http_client import open_http_client  # noqa: PLC0415

    async with open_http_client() as client:
        for start in range(0, len(contents), 100):
            answer = await client.request(
                "POST",
                f"{sandbox.url}/api/v1/events",
                headers={"Content-Type": "application/json", "Authorization": "Bearer right"},
                body=b"[" + b",".join(contents[start : start + 100]) + b"]",
            )
            assert answer.status == 204, answer.body


async def run(path, url, *arguments):
    words = ["-j", str(path), "--url", url, "--from", DAY, "--to", "2026-03-02", *arguments]
    return await asyncio.to_thread(CliRunner().invoke, reconcile, words, standalone_mode=False)


def address(sandbox, api):
    return sandbox.url if api != "v3" else f"{sandbox.url}/api/v3/openmeter"


@pytest.fixture
def recent(monkeypatch):
    """v1 looks back 32 days only; the events of this test are of a fixed day."""
    from openmeter_collector.testing.sandbox import listing  # noqa: PLC0415

    monkeypatch.setattr(listing, "_REACH", 1e10)


@pytest.mark.parametrize("api", ["v1", "v2", "v3"])
async def test_what_agrees_agrees_and_each_difference_is_told(sandbox, tmp_path, api, recent):
    path = tmp_path / "buffer.db"
    events = [event(number) for number in range(250)]
    await keep(path, *events, event(999, second="2026-02-01T00:00:00Z"))
    await post(sandbox, *events)
    done = await run(path, address(sandbox, api), "--api", api)
    assert done.return_value == 0, (done.output, done.exception)
    assert done.output.split()[1::2][:5] == ["250", "250", "0", "0", "0"]
    async with Sandbox(tokens=["right"]).serve() as other:
        last = event(5000, second=f"{DAY}T23:59:59Z")
        await post(other, *events[1:7], event(7, data=2), *events[8:], last)
        done = await run(path, address(other, api), "--api", api, "--json")
    assert done.return_value == 1
    told = json.loads(done.output)
    assert told["missing"] == [{"source": "shop", "id": "e0"}]
    assert told["extra"] == [{"source": "shop", "id": "e5000"}]
    assert told["different"] == [{"source": "shop", "id": "e7", "fields": ["data"]}]


async def test_what_is_missing_is_sent_again_with_its_bytes(sandbox, tmp_path):
    path = tmp_path / "buffer.db"
    await keep(path, event(1), event(2))
    await post(sandbox, event(2))
    done = await run(path, sandbox.url, "--resend")
    assert done.return_value == 1, "there was a difference"
    assert "sent again           1" in done.output
    assert [one.raw for one in sandbox.events] == [event(2), event(1)]
    assert (await run(path, sandbox.url)).return_value == 0


async def test_others_may_deliver_there_too(sandbox, tmp_path):
    path = tmp_path / "buffer.db"
    await keep(path, event(1))
    await post(sandbox, event(1), event(2))
    assert (await run(path, sandbox.url)).return_value == 1
    assert (await run(path, sandbox.url, "--ignore-extra")).return_value == 0


async def test_v1_says_when_it_cannot_tell_all(sandbox, tmp_path, recent):
    path = tmp_path / "buffer.db"
    events = [event(number, second=f"{DAY}T00:00:01Z") for number in range(120)]
    await keep(path, *events)
    await post(sandbox, *events)
    done = await run(path, sandbox.url, "--api", "v1")
    with pytest.raises(CollectorError, match="use --api v2"):
        raise done.exception
    assert (await run(path, sandbox.url, "--api", "v2")).return_value == 0


async def test_without_a_record_it_says_what_to_set(sandbox, tmp_path):
    path = tmp_path / "buffer.db"
    async with Journal.open(JournalOptions(path, min_free_bytes=0)):
        pass
    with pytest.raises(CollectorError, match="keep_sent"):
        raise (await run(path, sandbox.url)).exception


async def test_a_refusal_of_the_destination_is_told_without_the_token(
    sandbox, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENMETER_TOKEN", "wrong-secret")
    path = tmp_path / "buffer.db"
    await keep(path, event(1))
    done = await run(path, sandbox.url)
    with pytest.raises(CollectorError, match="answered 401") as caught:
        raise done.exception
    assert "wrong-secret" not in str(caught.value)

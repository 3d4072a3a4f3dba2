"""The sandbox seen from a socket: answers byte for byte, and each fault as a client meets it."""

import asyncio
import contextlib
import gzip
import json
import socket
import time

import aiohttp
import pytest

from openmeter_collector.testing.sandbox import Sandbox
from openmeter_collector.testing.sandbox import faults as fault

V1 = "/api/v1/events"
V3 = "/api/v3/openmeter/events"
SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def event(id_="1", **changes):
    made = {"specversion": "1.0", "id": id_, "source": "s", "type": "request", "subject": "c"}
    return json.dumps({**made, **changes}).encode()


def batch(*ids):
    return b"[" + b",".join(event(id_) for id_ in ids) + b"]"


@pytest.fixture
async def running():
    async with Sandbox().serve() as made:
        yield made


class Reply:
    def __init__(self, raw):
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split(" ")[1]) if first else 0
        self.headers = dict(line.lower().split(": ", 1) for line in lines)

    @property
    def problem(self):
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)


async def talk(running, raw, *, timeout=5.0):
    """Send bytes, give back all bytes until the server closes or `timeout`, and how it ended."""
    reader, writer = await asyncio.open_connection(running.host, running.port)
    writer.write(raw)
    got = b""
    try:
        async with asyncio.timeout(timeout):
            while piece := await reader.read(65536):
                got += piece
        end = "closed"
    except TimeoutError:
        end = "open"
    except ConnectionResetError:
        end = "reset"
    finally:
        writer.close()
    return got, end


def request(body, content_type=SINGLE, path=V1, *headers):
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


async def post(running, body, content_type=SINGLE, path=V1, *headers):
    raw, end = await talk(running, request(body, content_type, path, *headers))
    assert end == "closed"
    return Reply(raw)


async def get(running, path, method="GET", body=b"", headers=()):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [*headers, f"Content-Length: {len(body)}", "", ""]
    raw, _ = await talk(running, "\r\n".join(lines).encode() + body)
    reply = Reply(raw)
    if "chunked" in reply.headers.get("transfer-encoding", ""):
        rest, whole = reply.body, b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            whole += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        reply.body = whole
    return reply


# Answers.


@pytest.mark.parametrize("kind", [SINGLE, BATCH, "application/json"])
async def test_v1_answers_204_without_a_body(running, kind):
    body = batch("1") if kind == BATCH else event()
    reply = await post(running, body, kind)
    assert (reply.status, reply.body) == (204, b"")
    assert "content-length" not in reply.headers
    assert running.stats()["accepted"] == 1


async def test_v3_answers_202_and_reads_parameters(running):
    reply = await post(running, event(), f"{SINGLE}; charset=utf-8", V3)
    assert (reply.status, reply.body) == (202, b"")


async def test_a_bad_event_refuses_the_whole_batch_as_a_problem(running):
    reply = await post(running, b"[" + event() + b"," + event("") + b"]", BATCH)
    assert reply.status == 400
    assert reply.problem == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "request body has an error: doesn't match schema: "
        'Error at "/1/id": minimum string length is 1',
        "instance": "urn:request:sandbox/000001",
    }
    assert not running.events


async def test_v3_problems_have_the_shape_of_v3(running):
    reply = await post(running, b"[]", "application/json", V3)
    assert reply.problem == {
        "type": "https://kongapi.info/konnect/bad-request",
        "status": 400,
        "title": "Bad Request",
        "instance": "urn:request:sandbox/000001",
        "detail": "invalid event: no events found",
    }


async def test_gzip_bodies_are_read(running):
    packed = gzip.compress(batch("1", "2"))
    reply = await post(running, packed, BATCH, V1, "Content-Encoding: gzip")
    assert reply.status == 204
    assert [e.raw for e in running.events] == [event("1"), event("2")]
    assert running.requests[0].body == packed
    for broken in (packed[:-5], b"plain"):
        reply = await post(running, broken, BATCH, V1, "Content-Encoding: gzip")
        assert reply.status == 400


async def test_tokens_are_asked_for_and_never_kept():
    async with Sandbox(tokens=["one", "two"]).serve() as running:
        for header in ((), ("Authorization: Bearer three",), ("Authorization: Basic one",)):
            reply = await post(running, event(), SINGLE, V1, *header)
            assert reply.status == 401
            assert reply.problem["title"] == "Unauthorized"
        reply = await post(running, event(), SINGLE, V1, "Authorization: Bearer two")
        assert reply.status == 204
        shown = (await get(running, "/sandbox/requests")).body
        assert b"three" not in shown
        assert b"two" not in shown
        assert running.requests[3].header("authorization") == "Bearer (3 characters)"


async def test_unknown_paths_and_methods(running):
    assert (await post(running, event(), SINGLE, "/api/v1/event")).status == 404
    assert (await get(running, V1, "DELETE")).status == 405


async def test_light_answers_the_same():
    async with Sandbox(light=True).serve() as running:
        assert (await post(running, event())).status == 204
        assert (await post(running, event())).status == 204
        assert (await post(running, event("2") * 2)).status == 400
        assert (await post(running, batch(*map(str, range(2000))), BATCH)).status == 204
        packed = gzip.compress(batch("a", "b"))
        assert (await post(running, packed, BATCH, V1, "Content-Encoding: gzip")).status == 204
        stats = running.stats()
    assert (stats["accepted"], stats["duplicates"], stats["requests"]) == (2002, 2, 5)
    assert stats["by_status"] == {"204": 4, "400": 1}
    assert not running.events


async def test_light_asks_for_tokens_and_plays_faults():
    async with Sandbox(light=True, tokens=["t"]).serve() as running:
        assert (await post(running, event())).status == 401
    async with Sandbox(light=True, faults=[fault.Status(times=1)]).serve() as running:
        assert (await post(running, event())).status == 503
        assert (await post(running, event())).status == 204


# What is kept.


async def test_it_keeps_exact_bytes_order_and_attempts(running):
    odd = event("2").replace(b'"c"}', b'"c",\n "data": {"n": 1.50}}')
    await post(running, event("1"))
    await post(running, b"[" + odd + b"]", BATCH)
    await post(running, event("1"))
    assert [(e.number, e.request, e.id, e.deliveries) for e in running.events] == [
        (1, 1, "1", 2),
        (2, 2, "2", 1),
    ]
    assert running.events[1].raw == odd
    assert running.sandbox.store.attempts["s", "1"] == 2
    lines = (await get(running, "/sandbox/events")).body.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["1", "2"]
    meta = (await get(running, "/sandbox/events?meta=true")).body.splitlines()
    assert json.loads(meta[0])["deliveries"] == 2


async def test_attempts_count_refused_events_too(running):
    running.set_faults(fault.Status(times=1))
    await post(running, event("1"))
    await post(running, b"[" + event("1") + b"," + event("") + b"]", BATCH)
    await post(running, event("1"))
    assert running.sandbox.store.attempts["s", "1"] == 3


async def test_a_duplicate_with_another_payload_is_a_conflict(running):
    await post(running, event("1", data={"n": 1}))
    await post(running, event("1", data={"n": 1}))
    await post(running, event("1", data={"n": 2}))
    stats = running.stats()
    assert (stats["accepted"], stats["duplicates"], stats["conflicts"]) == (1, 2, 1)


async def test_identity_is_source_and_id_together(running):
    await post(running, b"[" + event("1", source="a") + b"," + event("1", source="b") + b"]", BATCH)
    assert running.stats()["accepted"] == 2


async def test_dedupe_can_be_off_or_forget():
    now = [100.0]
    async with Sandbox(dedupe=False).serve() as running:
        await post(running, batch("1", "1"), BATCH)
        assert running.stats()["accepted"] == 2
    async with Sandbox(window=60, clock=lambda: now[0]).serve() as running:
        for at in (100.0, 160.0, 161.0):
            now[0] = at
            await post(running, event())
        assert (running.stats()["accepted"], running.stats()["duplicates"]) == (2, 1)


async def test_a_missing_time_is_the_moment_of_arrival():
    async with Sandbox(clock=lambda: 1_800_000_000.0).serve() as running:
        await post(running, event())
        assert running.events[0].time == "2027-01-15T08:00:00Z"


async def test_bounded_keeps_the_newest():
    async with Sandbox(keep=2).serve() as running:
        for number in range(4):
            await post(running, event(str(number)))
        assert [e.id for e in running.events] == ["2", "3"]
        assert len(running.requests) == 2
        assert running.stats()["accepted"] == 4


async def test_stats_and_clear(running):
    await post(running, batch("1", "2"), BATCH)
    stats = json.loads((await get(running, "/sandbox/stats")).body)
    assert stats["by_type"] == {"request": 2}
    assert stats["by_subject"] == {"c": 2}
    assert stats["bytes"] == len(event()) * 2
    assert (await get(running, "/sandbox/events", "DELETE")).status == 204
    assert running.stats()["accepted"] == 0
    await post(running, event("1"))
    assert running.stats()["accepted"] == 1


async def test_a_store_file_survives_a_restart(tmp_path):
    file = tmp_path / "deep" / "store.sqlite"
    async with Sandbox(store=file).serve() as running:
        await post(running, batch("1", "2"), BATCH)
    async with Sandbox(store=file).serve() as running:
        assert [e.raw for e in running.events] == [event("1"), event("2")]
        await post(running, batch("2", "3"), BATCH)
        stats = running.stats()
        assert (stats["accepted"], stats["duplicates"], stats["conflicts"]) == (3, 1, 0)


async def test_wait_for_events_wakes_up(running):
    waiting = asyncio.create_task(running.wait_for_events(2, timeout=5))
    await post(running, event("1"))
    assert not waiting.done()
    await post(running, event("2"))
    await waiting
    with pytest.raises(TimeoutError):
        await running.wait_for_events(3, timeout=0.01)


# Lists.


@pytest.fixture
async def listed():
    async with Sandbox(clock=lambda: 1_800_000_000.0).serve() as running:
        events = [
            event(
                f"e{n}", subject=f"c{n % 2}", time=f"2027-01-1{n}T00:00:00.75+01:00", data={"n": n}
            )
            for n in range(1, 5)
        ]
        await post(running, b"[" + b",".join(events) + b"]", BATCH)
        yield running


async def ids(running, query):
    reply = await get(running, f"{V1}{query}")
    assert reply.status == 200, reply.body
    return [entry["event"]["id"] for entry in json.loads(reply.body)]


async def test_v1_list_has_the_shape_of_the_real_one(listed):
    reply = await get(listed, f"{V1}?limit=1")
    assert json.loads(reply.body) == [
        {
            "event": {
                "specversion": "1.0",
                "id": "e4",
                "source": "s",
                "type": "request",
                "subject": "c0",
                "time": "2027-01-13T23:00:00Z",
                "datacontenttype": "application/json",
                "data": {"n": 4},
            },
            "ingestedAt": "2027-01-15T08:00:00Z",
            "storedAt": "2027-01-15T08:00:00Z",
        }
    ]


async def test_v1_list_filters(listed):
    assert await ids(listed, "") == ["e4", "e3", "e2", "e1"]
    assert await ids(listed, "?subject=c1") == ["e3", "e1"]
    assert await ids(listed, "?subject=c") == []
    assert await ids(listed, "?id=3") == ["e3"]
    assert await ids(listed, "?from=2027-01-12T00:00:00Z") == ["e4", "e3"]
    assert await ids(listed, "?to=2027-01-12T23:00:00Z") == ["e2", "e1"]
    assert await ids(listed, "?to=2027-01-12T23:00:01Z") == ["e3", "e2", "e1"]
    assert await ids(listed, "?ingestedAtFrom=2027-01-15T08:00:00Z") == ["e4", "e3", "e2", "e1"]
    assert await ids(listed, "?ingestedAtTo=2027-01-15T08:00:00Z") == []


@pytest.mark.parametrize(
    "query",
    ["?limit=0", "?limit=101", "?limit=x", "?from=yesterday", "?from=2020-01-01T00:00:00Z",
     "?from=2027-01-12T00:00:00Z&to=2027-01-11T00:00:00Z"],
)  # fmt: skip
async def test_v1_list_refuses_bad_parameters(listed, query):
    assert (await get(listed, f"{V1}{query}")).status == 400


async def test_v2_list_pages_by_cursor(listed):
    first = json.loads((await get(listed, "/api/v2/events?limit=3")).body)
    assert [i["event"]["id"] for i in first["items"]] == ["e4", "e3", "e2"]
    rest = (await get(listed, f"/api/v2/events?limit=3&cursor={first['nextCursor']}")).body
    assert [i["event"]["id"] for i in json.loads(rest)["items"]] == ["e1"]
    assert "nextCursor" not in json.loads(rest)
    assert (await get(listed, "/api/v2/events?cursor=!")).status == 400


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('{"id":{"$eq":"e1"}}', ["e1"]),
        ('{"id":{"$in":["e1","e4"]}}', ["e4", "e1"]),
        ('{"subject":{"$ne":"c1"}}', ["e4", "e2"]),
        ('{"id":{"$like":"%253"}}', ["e3"]),
        ('{"id":{"$ilike":"E_"}}', ["e4", "e3", "e2", "e1"]),
        ('{"id":{"$nlike":"e_"}}', []),
        ('{"time":{"$and":[{"$gte":"2027-01-11T00:00:00Z"},{"$lt":"2027-01-13T00:00:00Z"}]}}',
         ["e3", "e2"]),
        ('{"type":{"$or":[{"$eq":"x"},{"$eq":"request"}]},"source":{"$eq":"s"}}',
         ["e4", "e3", "e2", "e1"]),
    ],
)  # fmt: skip
async def test_v2_list_filters(listed, condition, expected):
    reply = await get(listed, f"/api/v2/events?filter={condition.replace(' ', '+')}")
    assert reply.status == 200, reply.body
    assert [i["event"]["id"] for i in json.loads(reply.body)["items"]] == expected


async def test_v3_list(listed):
    reply = await get(listed, f"{V3}?filter[subject][eq]=c1&page[size]=1")
    answer = json.loads(reply.body)
    assert [i["event"]["id"] for i in answer["data"]] == ["e3"]
    after = answer["meta"]["page"]["next"]
    reply = await get(listed, f"{V3}?filter[subject]=c1&page[size]=2&page[after]={after}")
    assert [i["event"]["id"] for i in json.loads(reply.body)["data"]] == ["e1"]
    assert json.loads(reply.body)["meta"]["page"]["next"] is None


# Faults.


async def test_down_refuses_connections_and_comes_back_on_the_same_port(running):
    reader, writer = await asyncio.open_connection(running.host, running.port)
    async with running.outage():
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(running.host, running.port)
        with contextlib.suppress(ConnectionResetError):  # an orderly end is as good
            assert await reader.read() == b""
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind((running.host, running.port))
    writer.close()
    assert (await post(running, event())).status == 204


async def test_down_is_set_over_http_and_ends_by_itself(running):
    reply = await get(
        running, "/sandbox/faults", "PUT", b'{"faults":[{"fault":"down","seconds":0.2}]}'
    )
    assert reply.status == 200
    assert not running.is_up
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(running.host, running.port)
    await asyncio.wait_for(running.until_up(), 5)
    assert (await post(running, event())).status == 204


async def test_down_ends_requests_that_are_under_way(running):
    running.set_faults(fault.Hang())
    asking = asyncio.create_task(talk(running, request(event())))
    await running.wait_until(lambda: len(running.requests) == 1)
    running.down()
    got, end = await asking
    assert got == b""
    assert end in ("reset", "closed")


async def test_slow_answers_late_and_otherwise_as_usual(running):
    running.set_faults(fault.Slow(seconds=0.1))
    began = time.monotonic()
    assert (await post(running, event())).status == 204
    assert time.monotonic() - began >= 0.1


async def test_hang_never_answers_and_ingests_nothing(running):
    running.set_faults(fault.Hang())
    got, end = await talk(running, request(event()), timeout=0.2)
    assert (got, end) == (b"", "open")
    assert not running.events


async def test_hang_for_a_while_closes_without_an_answer(running):
    running.set_faults(fault.Hang(seconds=0.05, ingest=True))
    assert await talk(running, request(event())) == (b"", "closed")
    assert len(running.events) == 1


async def test_reset_cuts_the_answer_after_ingesting(running):
    running.set_faults(fault.Reset(), fault.Reset(ingest=False, bytes=0))
    _, end = await talk(running, request(event()))
    assert end == "reset"
    assert len(running.events) == 1
    running.set_faults(fault.Reset(ingest=False, bytes=0))
    assert await talk(running, request(event("2"))) == (b"", "reset")
    assert len(running.events) == 1


@pytest.mark.parametrize("status", [400, 422])
async def test_refuse_takes_the_whole_batch_down_for_one_event(running, status):
    running.set_faults(fault.Refuse(status=status, id="^poison", detail="no such meter"))
    reply = await post(running, batch("1", "poison-1", "2"), BATCH)
    assert reply.status == status
    assert reply.problem["detail"] == 'request body has an error: Error at "/1": no such meter'
    assert (await post(running, batch("1", "2"), BATCH)).status == 204
    assert len(running.events) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502, 503])
async def test_status_answers_a_problem_before_anything(running, status):
    running.set_faults(fault.Status(status=status, times=1))
    reply = await post(running, event())
    assert reply.status == status
    assert reply.problem["status"] == status
    assert ("detail" in reply.problem) == (status != 500)
    assert "retry-after" not in reply.headers
    assert not running.events
    assert (await post(running, event())).status == 204


async def test_retry_after_as_seconds_and_as_a_date():
    async with Sandbox(clock=lambda: 1_800_000_000.0).serve() as running:
        running.set_faults(fault.Status(status=429, retry_after=2, times=1))
        assert (await post(running, event())).headers["retry-after"] == "2"
        running.set_faults(fault.Status(status=429, retry_after="date:2"))
        reply = await post(running, event())
        assert reply.headers["retry-after"] == "fri, 15 jan 2027 08:00:02 gmt"


async def test_status_with_a_body_and_headers_of_ones_own(running):
    running.set_faults(
        fault.Status(status=301, body="moved", headers={"Location": "http://elsewhere/"})
    )
    reply = await post(running, event())
    assert (reply.status, reply.body) == (301, b"moved")
    assert reply.headers["location"] == "http://elsewhere/"


async def test_too_large_counts_bytes_on_the_wire(running):
    running.set_faults(fault.TooLarge(bytes=len(event())))
    assert (await post(running, event())).status == 204
    reply = await post(running, batch("1"), BATCH)
    assert reply.status == 413
    assert reply.problem["title"] == "Request Entity Too Large"


async def test_partial_ingests_the_first_and_answers_5xx(running):
    running.set_faults(fault.Partial(keep=2, times=1))
    assert (await post(running, batch("1", "2", "3"), BATCH)).status == 500
    assert [e.id for e in running.events] == ["1", "2"]
    assert (await post(running, batch("1", "2", "3"), BATCH)).status == 204
    assert running.stats()["duplicates"] == 2


async def test_late_has_ingested_when_the_client_gives_up(running):
    running.set_faults(fault.Late(seconds=30))
    got, end = await talk(running, request(event()), timeout=0.2)
    assert (got, end) == (b"", "open")
    assert len(running.events) == 1


async def test_late_answers_in_the_end(running):
    running.set_faults(fault.Late(seconds=0.05))
    assert (await post(running, event())).status == 204


async def test_junk_is_a_2xx_that_ingested_nothing(running):
    running.set_faults(fault.Junk(times=1), fault.Junk(status=204, body="", ingest=True))
    reply = await post(running, event())
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html")
    assert b"hotel" in reply.body
    assert not running.events


async def test_drip_sends_byte_by_byte(running):
    running.set_faults(fault.Drip(seconds=0.002))
    began = time.monotonic()
    reply = await post(running, event())
    assert reply.status == 204
    assert time.monotonic() - began > 0.002 * (len(reply.raw) - 1)


async def test_wrong_length_promises_more_than_it_sends(running):
    running.set_faults(fault.WrongLength(extra=100))
    reply = await post(running, event())
    assert reply.headers["content-length"] == str(len(reply.body) + 100)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            async with session.post(
                running.url + V1, data=event("2"), headers={"content-type": SINGLE}
            ) as answer:
                await answer.read()
    assert len(running.events) == 2


async def test_faults_are_set_read_and_removed_over_http(running):
    body = b'{"seed":3,"faults":[{"fault":"status","status":503,"retry_after":1,"times":1}]}'
    assert (await get(running, "/sandbox/faults", "PUT", body)).status == 200
    assert (await post(running, event())).headers["retry-after"] == "1"
    shown = json.loads((await get(running, "/sandbox/faults")).body)
    assert shown["seed"] == 3
    assert (shown["faults"][0]["matched"], shown["faults"][0]["fired"]) == (1, 1)
    assert running.requests[0].faults == ["status"]
    assert (await get(running, "/sandbox/faults", "DELETE")).status == 204
    assert json.loads((await get(running, "/sandbox/faults")).body)["faults"] == []


@pytest.mark.parametrize(
    "body", [b"", b'{"faults":[{"fault":"x"}]}', b'{"faults":[{"fault":"refuse"}]}', b'{"fault":1}']
)
async def test_bad_faults_change_nothing(running, body):
    running.set_faults(fault.Status())
    assert (await get(running, "/sandbox/faults", "PUT", body)).status == 400
    assert (await post(running, event())).status == 503


async def test_every_header_is_logged_in_order(running):
    await post(running, event(), SINGLE, V1, "X-B: 2", "X-A: 1", "X-B: 3")
    logged = running.requests[0].headers
    assert [h for h in logged if h[0].startswith("x-")] == [
        ("x-b", "2"),
        ("x-a", "1"),
        ("x-b", "3"),
    ]
    assert running.requests[0].status == 204

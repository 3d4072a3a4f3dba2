"""The ingest API: what is taken, what is refused and in which words, and that nothing else happens."""

import asyncio
import gzip
import hashlib
import json
import sys
import zlib
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import openmeter_collector
from openmeter_collector.components.inputs.cloudevents import CloudEvents
from openmeter_collector.errors import Overloaded, Retryable
from openmeter_collector.message import Delivery
from openmeter_collector.testing.clock import run_virtual
from openmeter_collector.testing.env import FakeEnv, ask
from openmeter_collector.values.units import Duration

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

V1, V3 = "/api/v1/events", "/api/v3/openmeter/events"
SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"


def event(**changes):
    made = {
        "id": "1",
        "source": "s",
        "specversion": "1.0",
        "type": "t",
        "subject": "c",
        "time": "2026-01-01T00:00:00Z",
        "data": {"n": 1},
    }
    return {k: v for k, v in (made | changes).items() if v is not ...}


@pytest.fixture(params=[True, False], ids=["short way", "application"], autouse=True)
def way(request, monkeypatch):
    """Whatever is said here is true of both ways in."""
    monkeypatch.setattr(FakeEnv, "short_ways", request.param)


class Intake:
    def __init__(self, verdict=None):
        self.taken = []
        self.messages = []
        self.verdict = verdict
        self.turned_away = []

    def refused(self, contents, reason):
        self.turned_away += [(content, reason) for content in contents]

    def offer(self, delivery: Delivery):
        if isinstance(self.verdict, Overloaded):
            raise self.verdict
        self.messages += delivery.batch
        self.taken += [message.content for message in delivery.batch]
        if self.verdict != "silent":
            delivery.settle(self.verdict)


@asynccontextmanager
async def serving(intake, **config):
    env = FakeEnv()
    env.intake = intake
    async with CloudEvents(**config).open(env) as server:
        running = asyncio.ensure_future(server.run(intake))
        while not env.apps:
            await asyncio.sleep(0)
        yield next(iter(env.apps.values()))
        running.cancel()


def post(body, kind=JSON, path=V1, query="", verdict=None, headers=None, **config):
    """One request; returns what was said and what was taken."""

    async def main():
        intake = Intake(verdict)
        async with serving(intake, **config) as app:
            given = {"content-type": kind} if kind is not None else {}
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            said = await ask(app, "POST", path, content, given | (headers or {}), query)
        return said, intake.taken

    return run_virtual(main())


def problem(said):
    assert said.headers["content-type"] == "application/problem+json"
    found = json.loads(said.body)
    assert found["status"] == said.status
    return found


@pytest.mark.parametrize(("path", "status"), [(V1, 204), (V3, 202)])
@pytest.mark.parametrize(
    ("kind", "body", "count"),
    [
        (SINGLE, event(), 1),
        (SINGLE + "; charset=utf-8", event(), 1),
        (SINGLE.upper() + ";charset=UTF-8", event(), 1),
        (BATCH, [event(), event(id="2")], 2),
        (BATCH + " ; x=y", [event()], 1),
        (BATCH, [], 0),
        (JSON, event(), 1),
        (JSON, [event(), event(id="2")], 2),
    ],
)
def test_what_is_right_is_stored_and_answered_with_the_routes_code(path, status, kind, body, count):
    said, taken = post(body, kind, path)
    assert (said.status, said.body) == (status, b"")
    assert len(taken) == count


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (None, event(), "invalid content type"),
        ("text/plain", event(), "invalid content type"),
        ("application/jsonp", event(), "invalid content type"),
        (SINGLE, b"", "not a JSON object"),
        (BATCH, b"", "not JSON"),
        (JSON, b"", "not a JSON object"),
        (JSON, [], "no events found"),
        (SINGLE, [event()], "not a JSON object"),
        (BATCH, event(), "not a JSON array"),
        (JSON, b"{", "not JSON"),
        (JSON, b"\xff{}", "not UTF-8"),
        (JSON, b'{"id":"\xff"}', "not UTF-8"),
        (JSON, b"[" * 100_000, "nested too deeply"),
        (JSON, json.dumps(event()).encode().replace(b'{"n": 1}', b"[" * 5000 + b"]" * 5000), ""),
        (JSON, event(data=[1]), "event.data: is an array"),
        (JSON, event(data="x"), "event.data: is a string"),
        (JSON, event(id=""), "event.id: is empty"),
        (JSON, event(id=5), "event.id: is a number"),
        (JSON, event(id=...), "event.id: is missing"),
        (JSON, event(subject=...), "event.subject: is missing"),
        (JSON, event(source="a b"), "event.source: 'a b' is not a URI reference"),
        (JSON, event(time="yesterday"), "event.time: 'yesterday' is not an RFC 3339 time"),
        (JSON, event(time="2026-02-30T00:00:00Z"), "event.time"),
        (JSON, event(time="2026-01-01 00:00:00Z"), "event.time"),
        (JSON, event(time="2026-01-01T00:00:00"), "event.time"),
        (JSON, event(dataschema="relative"), "event.dataschema"),
    ],
)
def test_what_is_wrong_is_refused_with_the_place_and_stores_nothing(kind, body, text):
    said, taken = post(body, kind)
    assert said.status == 400
    assert text in problem(said)["detail"]
    assert taken == []


def test_every_bad_event_of_a_batch_is_named_and_none_is_stored():
    batch = [event(id=str(n)) for n in range(10)]
    batch[3] = event(source="a b", type=...)
    batch[7] = 5
    said, taken = post(batch)
    assert taken == []
    found = [(one["index"], one["field"]) for one in problem(said)["errors"]]
    assert found == [(3, "type"), (3, "source"), (7, "")]
    assert "events[3].source: 'a b'" in problem(said)["detail"]


@pytest.mark.parametrize("how", ["query", "field"])
def test_with_partial_the_good_ones_are_stored_and_the_bad_ones_listed(how):
    batch = [event(id="0"), event(id=""), event(id="2")]
    asked = {"query": "partial=true"} if how == "query" else {"partial": True}
    said, taken = post(batch, **asked)
    assert said.status == 200
    answer = json.loads(said.body)
    assert (answer["accepted"], answer["refused"]) == (2, 1)
    assert [one["index"] for one in answer["errors"]] == [1]
    assert [json.loads(one)["id"] for one in taken] == ["0", "2"]


@pytest.mark.parametrize("query", ["", "partial=false", "nopartial=true", "x=partial=true"])
def test_partial_has_to_be_asked_for(query):
    said, taken = post([event(), event(id="")], query=query)
    assert said.status == 400
    assert taken == []


def test_faults_without_end_are_not_listed_without_end():
    said, taken = post(b"[" + b",".join([b"1"] * 2_000_000) + b"]", query="partial=true")
    assert said.status == 400
    assert len(said.body) < 1_000_000
    assert taken == []
    said, _ = post([1] * 50_000)
    assert said.status == 400
    assert len(said.body) < 1_000_000


def test_an_event_keeps_its_bytes():
    text = b'{ "id":"1","source":"s" ,"specversion":"1.0","type":"t","subject":null,\n'
    text += b'"time":"2026-01-01T00:00:00.123456789+01:00","x":1e400,"data":{"n":'
    text += b'12345678901234567890123.450,"u":"\\u00e9\xc3\xa9", "a" :[ ]} }'
    for body, kind in ((text, JSON), (b"  " + text + b"\n", SINGLE), (b"[ " + text + b" ]", BATCH)):
        said, taken = post(body, kind)
        assert said.status == 204, said.body
        assert taken == [text]


@pytest.mark.parametrize("time", [..., None])
def test_an_event_without_time_gets_that_of_its_receipt_and_keeps_its_data(time):
    data = b'{"n": 1.10, "b":[1,  2]}'
    body = json.dumps(event(time=time, data="DATA")).encode().replace(b'"DATA"', data)
    said, (stored,) = post(body)
    assert said.status == 204
    assert data in stored
    assert json.loads(stored)["time"].endswith("Z")
    assert list(json.loads(stored)).count("time") == 1


def test_the_quick_and_the_thorough_check_agree():
    """An event that the fast path lets through must be one that the rules let through."""
    from openmeter_collector.values import cloudevent  # noqa: PLC0415

    times = st.sampled_from(
        ["2026-01-01T00:00:00Z", "2026-01-01t00:00:00z", "2026-01-01 00:00:00Z", "2026-1-1T00:00:00Z",
         "2026-01-01T00:00:60Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00+0100",
         "2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00,1Z",
         "2026-01-01T00:00Z", "20260101T000000Z", "", "0000-01-01T00:00:00Z", None, 5]
    )  # fmt: skip
    texts = st.sampled_from(["a", "", "a b", "%zz", "a#b#c", "http://x/é", "\u0000", None, 5, []])
    events = st.fixed_dictionaries(
        {"id": texts, "source": texts, "specversion": texts, "type": texts, "subject": texts},
        optional={
            "time": times,
            "data": st.sampled_from([{}, None, [], 1, "x", True]),
            "dataschema": texts,
            "datacontenttype": texts,
        },
    )

    @given(events)
    @settings(max_examples=200, deadline=None)
    def agree(value):
        part = json.dumps(value).encode()
        stored = cloudevent.parse_single(part, lambda: "2026-01-01T00:00:00Z")
        assert bool(stored.events) == (not cloudevent._faults(part)), value

    agree()


def flated(body, window):
    stream = zlib.compressobj(1, zlib.DEFLATED, window)
    return stream.compress(body) + stream.flush()


ONE = json.dumps(event()).encode()
PACKED = {
    "gzip": gzip.compress(ONE),
    "x-gzip": gzip.compress(ONE[:20]) + gzip.compress(ONE[20:]),
    "deflate": flated(ONE, 15),
    " Deflate ": flated(ONE, -15),
    "zstd": zstd.compress(ONE),
    "ZSTD": zstd.compress(ONE[:20]) + zstd.compress(ONE[20:]),
    "identity": ONE,
}


@pytest.mark.parametrize("encoding", PACKED)
def test_compressed_bodies_are_opened(encoding):
    said, taken = post(PACKED[encoding], headers={"content-encoding": encoding})
    assert said.status == 204, said.body
    assert taken == [ONE]


@pytest.mark.parametrize("encoding", [e for e in PACKED if e != "identity"])
def test_a_compressed_body_that_was_cut_is_refused(encoding):
    for cut in (1, 5, len(PACKED[encoding]) - 1):
        said, taken = post(PACKED[encoding][:cut], headers={"content-encoding": encoding})
        assert said.status == 400
        assert taken == []


@pytest.mark.parametrize("packing", ["gzip", "zlib", "deflate", "zstd"])
def test_a_bomb_is_refused_with_413(packing):
    bomb = b"[" + b" " * (40 << 20) + b"]"
    encoding, body = {
        "gzip": lambda: ("gzip", gzip.compress(bomb, 1, mtime=0)),
        "zlib": lambda: ("deflate", flated(bomb, 15)),
        "deflate": lambda: ("deflate", flated(bomb, -15)),
        "zstd": lambda: ("zstd", zstd.compress(bomb)),
    }[packing]()
    said, _ = post(body, headers={"content-encoding": encoding})
    assert said.status == 413
    assert "32" in problem(said)["detail"] or "33554432" in problem(said)["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_of_very_many_empty_parts_does_not_keep_us_busy(encoding):
    part = gzip.compress(b"") if encoding == "gzip" else zstd.compress(b"")
    said, _ = post(part * 300_000, headers={"content-encoding": encoding})
    assert said.status == 400


def test_a_zstd_body_may_not_ask_for_more_memory_than_http_allows():
    options = {zstd.CompressionParameter.window_log: 27}
    stream = zstd.ZstdCompressor(options=options)
    body = stream.compress(ONE) + stream.flush()
    said, _ = post(body, headers={"content-encoding": "zstd"})
    assert said.status == 400


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "x"])
def test_an_unknown_encoding_is_answered_415_with_those_that_are_known(encoding):
    said, _ = post(event(), headers={"content-encoding": encoding})
    assert said.status == 415
    assert "gzip" in said.headers["accept-encoding"]


def test_a_body_over_the_bound_is_answered_413():
    said, taken = post(event(data={"x": "y" * 2000}), max_body_bytes=1000)
    assert said.status == 413
    assert taken == []


def test_what_is_turned_away_is_counted_with_the_reason_and_nothing_else_is():
    good, bad = (json.dumps(event(id=one)).encode() for one in ("1", ""))
    seen = []

    async def main():
        for body, headers, config in (
            (good, {}, {}),
            (b"[%b,%b]" % (good, bad), {}, {}),
            (b"[%b,%b]" % (good, bad), {}, {"partial": True}),
            (good, {"content-type": "text/odd"}, {}),
            (good, {}, {"tokens": ["secret"]}),
            (good, {}, {"max_body_bytes": 10}),
        ):
            intake = Intake()
            async with serving(intake, **config) as app:
                await ask(app, "POST", V1, body, {"content-type": JSON} | headers)
            seen.append(intake.turned_away)

    run_virtual(main())
    rule = "an event of the request breaks a rule"
    assert seen == [
        [],
        [(bad, rule), (good, rule)],
        [(bad, rule)],
        [(b"", "unreadable request")],
        [(b"", "no valid token")],
        [(b"", "body too large")],
    ]


HASHED = "sha256:" + hashlib.sha256(b"second").hexdigest()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer first", 204),
        ("bearer second", 204),
        ("Bearer third", 401),
        ("Bearer " + HASHED, 401),
        ("Basic first", 401),
        ("first", 401),
        ("Bearer", 401),
        ("", 401),
        (None, 401),
    ],
)
def test_a_token_is_asked_for_and_several_are_known(header, status):
    headers = {} if header is None else {"authorization": header}
    said, taken = post(event(), headers=headers, tokens=["first", HASHED])
    assert said.status == status
    assert len(taken) == (status == 204)
    if status == 401:
        assert said.headers["www-authenticate"].startswith("Bearer")
        assert b"first" not in said.body


def test_neither_token_nor_any_header_is_in_the_message():
    async def main():
        intake = Intake()
        async with serving(intake, tokens=["sesame"]) as app:
            headers = {"authorization": "Bearer sesame", "content-type": JSON}
            await ask(app, "POST", V1, ONE, headers)
        (message,) = intake.messages
        assert message.content == ONE
        assert not message.metadata
        assert message.context is None

    run_virtual(main())


@pytest.mark.parametrize(
    "verdict", [Overloaded("full", 7.0), Retryable("the disk stalls"), KeyError("a defect")]
)
def test_no_room_and_every_trouble_of_ours_is_answered_503_with_retry_after(verdict):
    said, _ = post(event(), verdict=verdict)
    assert said.status == 503
    assert int(said.headers["retry-after"]) >= 1
    problem(said)


def test_a_buffer_that_does_not_answer_is_answered_for_in_time():
    said, _ = post(event(), verdict="silent", timeout=Duration("3s"))
    assert said.status == 503
    assert said.headers["retry-after"] == "1"


def test_large_bodies_that_are_on_their_way_are_bounded_together():
    async def main():
        intake = Intake()
        async with serving(intake) as app:

            async def slow(number):
                said = []

                async def receive():
                    await asyncio.sleep(10)
                    return {"type": "http.disconnect"}

                async def send(message):
                    said.append(message)

                headers = [(b"content-type", b"application/json"), (b"content-length", b"8000000")]
                scope = {"path": V1, "method": "POST", "headers": headers, "query_string": b""}
                await app(scope, receive, send)
                return said[0]["status"]

            statuses = await asyncio.gather(*(slow(n) for n in range(100)))
            assert statuses.count(503) > 60
            assert (await ask(app, "POST", V1, ONE, {"content-type": JSON})).status == 204

    run_virtual(main())


@pytest.mark.parametrize(("method", "path", "status"), [("GET", V1, 405), ("PUT", V3, 405), ("POST", "/", 404), ("POST", V1 + "/", 404), ("HEAD", "/x", 404)])  # fmt: skip
def test_other_paths_and_methods(method, path, status):
    async def main():
        async with serving(Intake()) as app:
            return await ask(app, method, path)

    said = run_virtual(main())
    assert said.status == status
    problem(said)
    if status == 405:
        assert said.headers["allow"] == "POST"


OPENAPI = Path(openmeter_collector.__file__).parent / "presets/http-server/openapi.yaml"
DOCUMENT = yaml.safe_load(OPENAPI.read_text())
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
events = st.dictionaries(
    st.sampled_from([*event(), "dataschema", "datacontenttype", "data_base64", "ext"]), junk
)
bodies = st.one_of(
    st.binary(),
    events.map(lambda value: json.dumps(value).encode()),
    st.lists(events | st.just(event())).map(lambda value: json.dumps(value).encode()),
    st.just(ONE).flatmap(
        lambda one: st.tuples(st.integers(0, len(one) - 1), st.binary(max_size=3)).map(
            lambda cut: one[: cut[0]] + cut[1] + one[cut[0] + 1 :]
        )
    ),
)
kinds = st.sampled_from([SINGLE, BATCH, JSON, JSON + ";a=b", "", "text/plain"]) | st.text(
    "abc/;", max_size=9
)
encodings = st.sampled_from(["", "", "", "gzip", "deflate", "zstd", "identity", "br"])


def judge(said, path):
    operation = DOCUMENT["paths"][path]["post"]["responses"]
    assert str(said.status) in operation, (said.status, said.body)
    assert said.status < 500 or said.status == 503
    if said.status >= 400:
        problem(said)
    elif said.status in {202, 204}:
        assert said.body == b""


@given(
    bodies,
    kinds,
    encodings,
    st.sampled_from([V1, V3]),
    st.sampled_from(["", "partial=true", "%ff"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_body_whatever_brings_forth_anything_that_is_not_documented(
    body, kind, encoding, path, query
):
    headers = {"content-encoding": encoding} if encoding else {}
    said, taken = post(body, kind, path, query, headers=headers)
    judge(said, path)
    if said.status >= 400:
        assert taken == []


SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.mark.parametrize("path", [V1, V3])
def test_what_the_openapi_document_calls_valid_is_stored(path):
    operation = SCHEMA[path]["POST"]

    @given(operation.as_strategy())
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    def valid(case):
        query = "partial=true" if (case.query or {}).get("partial") == "true" else ""
        said, taken = post(json.dumps(case.body).encode(), case.media_type, path, query)
        judge(said, path)
        count = len(case.body) if isinstance(case.body, list) else 1
        assert said.status in {202, 204}, (said.body, case.body)
        assert len(taken) == count

    valid()

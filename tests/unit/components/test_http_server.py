"""The http_server input, through a real socket."""

import asyncio
import gzip
import hashlib
import hmac
from contextlib import asynccontextmanager

import aiohttp
import pytest

from openmeter_collector.api import (
    Batch,
    BatchFailed,
    ConfigError,
    Output,
    Rejected,
    Retryable,
    output,
    processor,
    respond,
)
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.ledger import total
from openmeter_collector.storage.visit import reading
from openmeter_collector.testing.env import FakeEnv
from openmeter_collector.testing.running import free_port, running

PATHS = ["/events/{tenant}"]


@pytest.fixture(autouse=True, params=["/events/{tenant}", "/events/t1"])
def path(request):
    """A path with a parameter in it goes to the application; one without may go the short way."""
    PATHS[0] = request.param
    return request.param


class Sink:
    """What the output of a test got, and what it is told to do with it."""

    def __init__(self):
        self.messages: Batch = []
        self.failure: Exception | None = None
        self.hold: asyncio.Event | None = None


def registry_with(sink: Sink):
    @output("collect")
    class Collect:
        """Keeps what it gets."""

        @asynccontextmanager
        async def open(self, env):
            yield _Collect()

    class _Collect(Output):
        async def write(self, batch: Batch) -> None:
            if sink.hold is not None:
                await sink.hold.wait()
            if sink.failure is not None:
                raise sink.failure
            sink.messages += batch

    @processor("answer")
    class Answer:
        """Responds with the metadata key `answer`, or the content turned around."""

        @asynccontextmanager
        async def open(self, env):
            yield self

        def process(self, batch: Batch) -> list[Batch]:
            respond([message.with_content(message.content[::-1]) for message in batch])
            return [batch]

    return standard_registry().with_(Collect, Answer)


@asynccontextmanager
async def server(fields: str = "", processors: str = "", rate_limit: str = "", **sink_options):
    sink = Sink()
    for name, value in sink_options.items():
        setattr(sink, name, value)
    port = free_port()
    config = f"""
http: {{enabled: false}}
input:
  http_server:
    address: 127.0.0.1:{port}
    path: {PATHS[0]}
{fields}
{processors}
output:
  collect: {{}}
{rate_limit}
shutdown_timeout: 1s
"""
    async with (
        running(config, registry_with(sink)) as pipeline,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        await pipeline.until_connected()
        while True:
            try:
                async with client.get("/"):
                    break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)
        yield sink, client


async def test_a_body_is_one_message_and_is_answered_200_when_delivered():
    async with server() as (sink, client):
        async with client.post("/events/t1", data=b"hello") as answer:
            assert answer.status == 200
            assert await answer.read() == b""
        assert [message.content for message in sink.messages] == [b"hello"]


async def test_metadata_has_request_headers_parameters_and_cookies(path):
    async with server() as (sink, client):
        headers = {"content-type": "text/plain", "X-Custom-Name": "v", "Cookie": "c=1"}
        async with client.post("/events/t1?q=2&q=3", data=b"x", headers=headers):
            pass
        found = sink.messages[0].metadata
        assert found["Content-Type"] == "text/plain"
        assert found["X-Custom-Name"] == "v"
        assert (found["q"], found["c"]) == ("2", "1")
        assert found.get("tenant") == ("t1" if "{" in path else None)
        assert found["http_server_verb"] == "POST"
        assert found["http_server_request_path"] == "/events/t1"
        assert found["http_server_remote_ip"] == "127.0.0.1"


async def test_no_parameter_of_a_client_replaces_a_header_or_our_own_keys(path):
    """A query parameter that could steer `switch` checks and responses is an attack."""
    async with server() as (sink, client):
        query = "?Content-Type=evil&http_server_verb=evil" + "&tenant=evil" * ("{" in path)
        headers = {"content-type": "text/plain", "Cookie": "http_server_remote_ip=evil"}
        async with client.post("/events/t1" + query, data=b"x", headers=headers):
            pass
        found = sink.messages[0].metadata
        assert "evil" not in found.values()


async def test_the_short_way_knows_as_much_of_a_request_as_the_long_one(path):
    async with server() as (sink, client):
        headers = {"content-type": "text/plain", "X-A": "1", "Cookie": "c=1"}
        for query in ("", "?q=1"):
            async with client.post("/events/t1" + query, data=b"x", headers=headers):
                pass
        short, long = (dict(message.metadata) for message in sink.messages)
        assert long.pop("q") == "1"
        assert short == long


async def test_a_response_may_be_gzipped_and_its_headers_cannot_bring_others():
    fields = """
    sync_response:
      status: "201"
      metadata_headers: {include_patterns: [".*"]}
"""
    steps = r"""
  processors:
    - mapping: |
        root = "x" * 1
        meta "a\r\nX-Evil: 1" = "b"
        meta good = "c\r\nX-Evil: 1"
    - answer: {}
""".replace('"x" * 1', '"x"')
    async with server(fields, steps) as (_, client):
        async with client.post("/events/t1", data=b"abc") as answer:
            assert (answer.status, await answer.read()) == (201, b"x")
            assert answer.headers["Content-Encoding"] == "gzip"
            assert answer.headers["good"] == "c  X-Evil: 1"
            assert "X-Evil" not in answer.headers


async def test_authorization_is_not_in_the_metadata():
    async with server() as (sink, client):
        headers = {"Authorization": "Bearer planted", "Proxy-Authorization": "Basic planted"}
        async with client.post("/events/t1", data=b"x", headers=headers):
            pass
        assert "planted" not in repr(sink.messages[0].metadata)


async def test_multipart_gives_a_message_for_each_part():
    async with server() as (sink, client):
        form = aiohttp.MultipartWriter("mixed")
        form.append(b"one\r\n\r\n")
        form.append(b"\x00two--")
        async with client.post("/events/t1", data=form) as answer:
            assert answer.status == 200
        assert [message.content for message in sink.messages] == [b"one\r\n\r\n", b"\x00two--"]


@pytest.mark.parametrize(
    "content_type", ["multipart/mixed", "multipart/mixed; boundary=" + "x" * 71]
)
async def test_multipart_without_a_usable_boundary_is_refused(content_type):
    async with (
        server() as (_, client),
        client.post("/events/t1", data=b"--x", headers={"content-type": content_type}) as answer,
    ):
        assert answer.status == 400


async def test_a_method_that_is_not_allowed_is_told_which_are():
    async with (
        server("    allowed_verbs: [POST, PUT]") as (_, client),
        client.delete("/events/t1") as answer,
    ):
        assert answer.status == 405
        assert answer.headers["Allow"] == "POST, PUT"


async def test_other_paths_are_not_served_and_neither_is_the_websocket_path_nobody_asked_for():
    async with server() as (_, client):
        for path in ("/", "/events", "/events/t1/b", "/post", "/post/ws"):
            async with client.post(path, data=b"x") as answer:
                assert answer.status == 404, path
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await client.ws_connect("/post/ws")


async def test_a_failure_to_deliver_is_answered_503_with_retry_after():
    """502 and 408 would make the official SDKs give up."""
    async with (
        server(failure=Retryable("away")) as (_, client),
        client.post("/events/t1", data=b"x") as answer,
    ):
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await answer.json(content_type=None))["detail"] == "away"


async def test_data_that_is_refused_for_good_is_answered_400():
    async with (
        server(failure=BatchFailed({0: Rejected("not an event")})) as (_, client),
        client.post("/events/t1", data=b"x") as answer,
    ):
        assert answer.status == 400
        assert "not an event" in (await answer.json(content_type=None))["detail"]


async def test_no_acknowledgement_in_time_is_answered_503():
    hold = asyncio.Event()
    async with server("    timeout: 50ms", hold=hold) as (_, client):
        async with client.post("/events/t1", data=b"x") as answer:
            assert answer.status == 503
            assert "Retry-After" in answer.headers
        hold.set()


async def test_a_stored_response_is_sent_with_its_status_and_headers():
    fields = """
    sync_response:
      status: "201"
      headers: {Content-Type: text/plain, X-Made: by-us}
"""
    processors = "  processors: [{answer: {}}]"
    async with server(fields, processors) as (_, client):
        async with client.post("/events/t1", data=b"abc") as answer:
            assert (answer.status, await answer.read()) == (201, b"cba")
            assert answer.headers["X-Made"] == "by-us"


async def test_several_responses_are_sent_as_multipart():
    async with server("", "  processors: [{answer: {}}]") as (_, client):
        form = aiohttp.MultipartWriter("mixed")
        form.append(b"ab")
        form.append(b"cd")
        async with client.post("/events/t1", data=form) as answer:
            assert answer.content_type == "multipart/form-data"
            body = await answer.read()
            assert b"ba" in body
            assert b"dc" in body


async def test_the_rate_limit_answers_429_with_retry_after_of_a_second_at_least():
    resource = "rate_limit_resources: [{label: slow, local: {count: 1, interval: 1h}}]"
    async with server("    rate_limit: slow", "", resource) as (sink, client):
        async with client.post("/events/t1", data=b"a") as answer:
            assert answer.status == 200
        async with client.post("/events/t1", data=b"b") as answer:
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) >= 1
        assert len(sink.messages) == 1


async def test_tokens_are_asked_for():
    async with server("    tokens: [secret-1]") as (sink, client):
        async with client.post("/events/t1", data=b"a") as answer:
            assert answer.status == 401
        headers = {"Authorization": "Bearer secret-1"}
        async with client.post("/events/t1", data=b"a", headers=headers) as answer:
            assert answer.status == 200
        assert len(sink.messages) == 1


async def test_a_body_over_the_bound_is_refused():
    async with server("    max_body_bytes: 10") as (sink, client):
        async with client.post("/events/t1", data=b"x" * 11) as answer:
            assert answer.status == 413
        assert not sink.messages


@pytest.mark.parametrize(("decode", "expected"), [("false", gzip.compress), ("true", bytes)])
async def test_bodies_are_decompressed_only_when_asked(decode, expected):
    """Published configs see the compressed body, and may have a `decompress` processor for it."""
    body = gzip.compress(b"hello", mtime=0)
    async with server(f"    decode_body: {decode}") as (sink, client):
        headers = {"Content-Encoding": "gzip"}
        async with client.post("/events/t1", data=body, headers=headers) as answer:
            assert answer.status == 200
        wanted = b"hello" if expected is bytes else body
        assert sink.messages[0].content == wanted


async def test_cross_origin_requests_are_answered_for_allowed_origins_only():
    cors = "    cors: {enabled: true, allowed_origins: ['https://good.example']}"
    async with server(cors) as (_, client):
        headers = {"Origin": "https://good.example"}
        async with client.options("/events/t1", headers=headers) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == "https://good.example"
        async with client.options(
            "/events/t1", headers={"Origin": "https://bad.example"}
        ) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_websocket_frames_are_messages_when_a_path_is_set():
    fields = "    ws_path: /ws\n    ws_welcome_message: welcome"
    async with server(fields, "  processors: [{answer: {}}]") as (sink, client):
        async with client.ws_connect("/ws") as socket:
            assert await socket.receive_str() == "welcome"
            await socket.send_str("abc")
            assert await socket.receive_str() == "cba"
            await socket.send_bytes(b"\x00\x01")
            await socket.receive_str()
        assert [message.content for message in sink.messages] == [b"abc", b"\x00\x01"]


# ---- signatures ----------------------------------------------------------------------------------

KEY = b"top-secret"
SIGNED = """
    verify: {hmac: {header: X-Sig, secrets: [top-secret]}}
"""


def signature(body):
    return {"X-Sig": hmac.new(KEY, body, hashlib.sha256).hexdigest()}


async def test_what_is_signed_is_taken_and_nothing_else():
    async with server(SIGNED) as (sink, client):
        async with client.post("/events/t1", data=b"x", headers=signature(b"x")) as answer:
            assert answer.status == 200
        for headers in ({}, signature(b"y"), {"X-Sig": "no"}):
            async with client.post("/events/t1", data=b"z", headers=headers) as answer:
                assert answer.status == 401
                problem = await answer.json(content_type="application/problem+json")
                assert problem["title"] == "Unauthorized"
                assert "top-secret" not in str(problem)
    assert [message.content for message in sink.messages] == [b"x"]


async def test_a_signature_is_over_the_bytes_as_they_came():
    """Which are looked at before anybody opens them: a stranger gets nothing opened."""
    body = gzip.compress(b"hello")
    async with server(SIGNED + "    decode_body: true\n") as (sink, client):
        headers = {"Content-Encoding": "gzip"}
        async with client.post(
            "/events/t1", data=body, headers=headers | signature(body)
        ) as answer:
            assert answer.status == 200
        broken = body[:-4]
        async with client.post("/events/t1", data=broken, headers=headers) as answer:
            assert answer.status == 401
    assert [message.content for message in sink.messages] == [b"hello"]


async def test_strangers_do_not_use_up_the_rate_limit():
    limit = "rate_limit_resources: [{label: few, local: {count: 1, interval: 1h}}]"
    async with server(SIGNED + "    rate_limit: few\n", rate_limit=limit) as (_, client):
        for _ in range(3):
            async with client.post("/events/t1", data=b"x") as answer:
                assert answer.status == 401
        async with client.post("/events/t1", data=b"x", headers=signature(b"x")) as answer:
            assert answer.status == 200
        async with client.post("/events/t1", data=b"x", headers=signature(b"x")) as answer:
            assert answer.status == 429


async def test_a_websocket_beside_signatures_is_refused_at_the_start():
    text = "{path: /a, ws_path: /ws, verify: {github: {secrets: [a]}}}"
    config = load(f"input: {{http_server: {text}}}", standard_registry(), env={})
    with pytest.raises(ConfigError, match="frames of ws_path carry no signatures"):
        async with config.input.config.open(FakeEnv(config.input)):
            pass


# ---- the books -----------------------------------------------------------------------------------


@asynccontextmanager
async def counted(folder, fields, **more):
    """A server in front of a journal; what its books say, once the block is left."""
    path = folder / "buffer.db"
    found = {}
    buffer = f"buffer: {{sqlite: {{path: '{path}', min_free_bytes: 0}}}}"
    async with server(fields, buffer, **more) as (_, client):
        yield found, client
    with reading(path) as connection:
        lines = audited(connection)
    whole = total(lines)
    found.update(received=whole.counts["received"], rejected=whole.rejected_for)
    assert all(line.balance == 0 for line in lines)


@pytest.mark.parametrize(
    ("fields", "headers", "reason"),
    [
        ("    tokens: [t]", {}, "no valid token"),
        (SIGNED, {}, "no valid signature"),
        (SIGNED, {"X-Sig": "no"}, "no valid signature"),
        ("    max_body_bytes: 3", {}, "body too large"),
        ("    decode_body: true", {"Content-Encoding": "gzip"}, "unreadable request"),
        ("    decode_body: true", {"Content-Encoding": "own"}, "unknown encoding"),
        ("", {"Content-Type": "multipart/form-data"}, "unreadable request"),
    ],
)
async def test_what_is_turned_away_at_the_door_is_in_the_books(tmp_path, fields, headers, reason):
    async with counted(tmp_path, fields) as (found, client):
        for _ in range(2):
            async with client.post("/events/t1", data=b'{"a":1}', headers=headers) as answer:
                assert answer.status in {400, 401, 413, 415}
    assert found == {"received": 0, "rejected": {reason: 2}}


async def test_what_comes_again_or_is_no_event_is_not_in_the_books(tmp_path):
    limit = "rate_limit_resources: [{label: few, local: {count: 1, interval: 1h}}]"
    async with counted(tmp_path, "    rate_limit: few", rate_limit=limit) as (found, client):
        for method, path, status in (
            ("GET", "/events/t1", 405),
            ("POST", "/elsewhere", 404),
            ("POST", "/events/t1", 200),
            ("POST", "/events/t1", 429),
        ):
            async with client.request(method, path, data=b"x") as answer:
                assert answer.status == status
    assert found == {"received": 1, "rejected": {}}


async def test_a_websocket_frame_over_the_rate_is_in_the_books(tmp_path):
    limit = "rate_limit_resources: [{label: few, local: {count: 1, interval: 1h}}]"
    fields = "    rate_limit: few\n    ws_path: /ws\n    ws_rate_limit_message: slower"
    async with (
        counted(tmp_path, fields, rate_limit=limit) as (found, client),
        client.ws_connect("/ws") as socket,
    ):
        for frame in ("a", "b"):
            await socket.send_str(frame)
        assert await socket.receive_str() == "slower"
    assert found == {"received": 1, "rejected": {"more than the rate limit allows": 1}}

"""The http_client and openmeter outputs, against a server that answers by script."""

import asyncio
import base64
import hashlib
import hmac
import urllib.parse
from contextlib import asynccontextmanager

import orjson
import pytest

from kit.scripted import Script
from openmeter_collector.api import (
    BatchFailed,
    Message,
    Overloaded,
    Paused,
    Rejected,
    Retryable,
)
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.component.env import ListenOptions
from openmeter_collector.component.response import ResponseStore
from openmeter_collector.components.outputs.openmeter import ingest_url
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources, Surroundings
from openmeter_collector.server.listener import listen
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions


class Naps:
    """Sleeping, noted instead of done."""

    def __init__(self):
        self.taken = []

    async def __call__(self, seconds):
        self.taken.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def output(script, fields, name="http_client", path="/ingest", url=None):
    naps = Naps()
    lines = []
    async with listen(script, ListenOptions("127.0.0.1:0")) as listener:
        url = url or f"http://{listener.address}{path}"
        text = f"output:\n  {name}:\n    url: {url}\n{fields}"
        config = load(text, standard_registry(), env={})
        log = Log(LogOptions(level="debug", format="json"), lines.append)
        around = Surroundings(
            log, MetricStore(), listen=listen, mount=None, sleep=naps, random=lambda: 0.5
        )
        env = ComponentEnv(around, Resources(), config.output)
        async with config.output.config.open(env) as opened:
            opened.naps, opened.lines, opened.url = naps, lines, url
            yield opened


def batch(*contents):
    return [Message(content) for content in contents]


# ---- http_client --------------------------------------------------------------------------------


async def test_each_message_is_the_body_of_a_request():
    script = Script()
    async with output(script, "    headers: {Content-Type: text/plain, X-A: b}") as sender:
        await sender.write(batch(b"one", b"two"))
    assert script.bodies == [b"one", b"two"]
    method, path, headers, _ = script.requests[0]
    assert (method, path) == ("POST", "/ingest")
    assert (headers["content-type"], headers["x-a"]) == ("text/plain", "b")


async def test_without_a_content_type_octet_stream_is_sent():
    script = Script()
    async with output(script, "") as sender:
        await sender.write(batch(b"x"))
    assert script.requests[0][2]["content-type"] == "application/octet-stream"


async def test_it_tries_again_as_often_as_configured_and_then_says_why_not():
    script = Script((500, {}, b"oh no"))
    async with output(script, "    retries: 2\n    retry_period: 4s") as sender:
        with pytest.raises(Overloaded, match=r"unexpected response code \(500\).*oh no"):
            await sender.write(batch(b"x"))
        assert sender.naps.taken == [4.0, 4.0]
    assert len(script.requests) == 3


async def test_pauses_grow_after_statuses_in_backoff_on():
    script = Script((429, {}, b""), (429, {}, b""), (429, {}, b""), (204, {}, b""))
    async with output(script, "    retry_period: 1s\n    max_retry_backoff: 3s") as sender:
        await sender.write(batch(b"x"))
        assert sender.naps.taken == [1.0, 2.0, 3.0]


async def test_retry_after_is_waited_for():
    script = Script((503, {"retry-after": "7"}, b""), (204, {}, b""))
    async with output(script, "") as sender:
        await sender.write(batch(b"x"))
        assert sender.naps.taken == [7.0]


async def test_a_status_in_drop_on_is_not_tried_again_and_its_text_is_what_configs_look_for():
    script = Script((400, {}, b"no subject"))
    async with output(script, "    drop_on: [400]") as sender:
        with pytest.raises(Rejected) as refused:
            await sender.write(batch(b"x"))
        assert str(refused.value) == (
            f"{sender.url}: HTTP request returned unexpected response code (400): "
            "400 Bad Request, Error: no subject"
        )
    assert len(script.requests) == 1


async def test_a_status_in_successful_on_delivers():
    script = Script((409, {}, b""))
    async with output(script, "    successful_on: [409]") as sender:
        await sender.write(batch(b"x"))


async def test_only_what_failed_is_named_when_a_batch_is_sent_one_by_one():
    script = Script((204, {}, b""), (400, {}, b"bad"), (204, {}, b""))
    async with output(script, "    retries: 0") as sender:
        with pytest.raises(BatchFailed) as failed:
            await sender.write(batch(b"a", b"b", b"c"))
    errors = failed.value.errors
    assert sorted(errors) == [1, 2]
    assert isinstance(errors[1], Rejected)
    assert isinstance(errors[2], Retryable)


async def test_a_batch_can_be_one_multipart_request():
    script = Script()
    async with output(script, "    batch_as_multipart: true") as sender:
        await sender.write(batch(b"one", b"two"))
    assert len(script.requests) == 1
    assert b"one" in script.bodies[0]
    assert b"two" in script.bodies[0]
    assert script.requests[0][2]["content-type"].startswith("multipart/")


async def test_redirects_are_followed_unless_told_not_to():
    script = Script((307, {"location": "/elsewhere"}, b""), (204, {}, b""))
    async with output(script, "") as sender:
        await sender.write(batch(b"x"))
    assert [path for _, path, _, _ in script.requests] == ["/ingest", "/elsewhere"]
    assert script.bodies == [b"x", b"x"]


async def test_a_server_that_is_not_there_is_tried_again():
    script = Script()
    async with output(script, "    retries: 1", url="http://127.0.0.1:1/") as sender:
        with pytest.raises(Retryable, match=r"127\.0\.0\.1:1"):
            await sender.write(batch(b"x"))
        assert len(sender.naps.taken) == 1


async def test_basic_auth_is_sent():
    script = Script()
    async with output(
        script, "    basic_auth: {enabled: true, username: me, password: pw}"
    ) as sender:
        await sender.write(batch(b"x"))
    expected = "Basic " + base64.b64encode(b"me:pw").decode()
    assert script.requests[0][2]["authorization"] == expected


async def test_oauth2_fetches_a_token_once_and_again_after_401():
    token = orjson.dumps({"access_token": "t1", "expires_in": 3600})
    script = Script(
        (200, {}, token), (204, {}, b""), (204, {}, b""), (401, {}, b""), (200, {}, token)
    )
    async with output(script, "") as plain:
        fields = (
            "    retries: 0\n    oauth2: {enabled: true, client_key: k, client_secret: s, "
            f"token_url: '{plain.url}/token', scopes: [a, b]}}"
        )
        async with output(script, fields) as sender:
            await sender.write(batch(b"1"))
            await sender.write(batch(b"2"))
            with pytest.raises(Paused):
                await sender.write(batch(b"3"))
    paths = [path for _, path, _, _ in script.requests]
    assert paths == ["/ingest/token", "/ingest", "/ingest", "/ingest"]
    assert script.requests[1][2]["authorization"] == "Bearer t1"
    form = urllib.parse.parse_qs(script.bodies[0].decode())
    assert form == {"grant_type": ["client_credentials"], "scope": ["a b"]}


async def test_oauth1_signature_is_that_of_rfc_5849():
    script = Script()
    fields = (
        "    oauth: {enabled: true, consumer_key: ck, consumer_secret: cs, "
        "access_token: at, access_token_secret: ats}"
    )
    async with output(script, fields) as sender:
        await sender.write(batch(b"x"))
        url = sender.url
    header = script.requests[0][2]["authorization"].removeprefix("OAuth ")
    sent = {
        name: urllib.parse.unquote(value.strip('"'))
        for name, value in (part.split("=", 1) for part in header.split(", "))
    }
    signature = sent.pop("oauth_signature")
    quote = lambda text: urllib.parse.quote(text, safe="")  # noqa: E731
    parameters = "&".join(f"{quote(k)}={quote(v)}" for k, v in sorted(sent.items()))
    base = "&".join(["POST", quote(url), quote(parameters)])
    digest = hmac.new(b"cs&ats", base.encode(), hashlib.sha1).digest()
    assert signature == base64.b64encode(digest).decode()


async def test_the_answer_can_be_the_synchronous_response():
    store = ResponseStore()
    script = Script((200, {"x-kept": "v", "x-other": "w"}, b"answer"))
    fields = "    propagate_response: true\n    extract_headers: {include_prefixes: [x-k]}"
    async with output(script, fields) as sender:
        await sender.write([Message(b"x", context=store)])
    (message,) = store.batches[0]
    assert message.content == b"answer"
    assert message.metadata == {"http_status_code": "200", "x-kept": "v"}


async def test_the_request_log_holds_neither_headers_nor_bodies():
    script = Script((200, {}, b"planted-answer"))
    fields = "    dump_request_log_level: DEBUG\n    headers: {Authorization: Bearer planted-token}"
    async with output(script, fields) as sender:
        await sender.write(batch(b"planted-body"))
        assert any("request sent" in line for line in sender.lines)
        assert not any("planted" in line for line in sender.lines)


# ---- openmeter ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://openmeter.cloud", "https://openmeter.cloud/api/v1/events"),
        ("https://openmeter.cloud/", "https://openmeter.cloud/api/v1/events"),
        ("http://h:8888/prefix", "http://h:8888/prefix/api/v1/events"),
        ("https://us.api.konghq.com/v3/openmeter", "https://us.api.konghq.com/v3/openmeter/events"),
        ("http://h/api/v3/openmeter/", "http://h/api/v3/openmeter/events"),
        ("http://h/api/v1/events", "http://h/api/v1/events"),
    ],
)
def test_the_ingest_route_is_found_from_any_base_address(url, expected):
    assert ingest_url(url) == expected


async def test_a_batch_is_one_request_with_the_events_bytes_untouched():
    script = Script()
    async with output(script, "    token: secret", "openmeter", "") as sender:
        await sender.write(batch(b'{"id": "1", "n": 1.0}', b'{"id":"2","n":1e3}'))
    assert script.bodies == [b'[{"id": "1", "n": 1.0},{"id":"2","n":1e3}]']
    _, path, headers, _ = script.requests[0]
    assert path == "/api/v1/events"
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Bearer secret"


async def test_without_a_token_no_authorization_is_sent():
    script = Script()
    async with output(script, "    token: ''", "openmeter", "") as sender:
        await sender.write(batch(b"{}"))
    assert "authorization" not in script.requests[0][2]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (413, Rejected),
        (422, Rejected),
        (401, Paused),
        (403, Paused),
        (404, Paused),
        (307, Paused),
        (408, Overloaded),
        (429, Overloaded),
        (500, Overloaded),
        (503, Overloaded),
    ],
)
async def test_what_an_answer_means_is_said_by_the_type_of_the_error(status, kind):
    script = Script((status, {"location": "/other"}, b'{"detail":"because"}'))
    async with output(script, "", "openmeter", "") as sender:
        with pytest.raises(kind) as raised:
            await sender.write(batch(b"{}"))
    assert str(status) in str(raised.value)
    assert len(script.requests) == 1, "an output never repeats by itself, nor follows a redirect"
    if kind is Rejected:
        assert raised.value.response == '{"detail":"because"}'


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_every_2xx_delivers_whatever_its_body_says(status):
    body = b"" if status == 204 else b"not json at all"
    script = Script((status, {}, body))
    async with output(script, "", "openmeter", "") as sender:
        await sender.write(batch(b"{}"))


async def test_no_answer_in_time_is_tried_again():
    async def hang(scope, receive, send):
        await asyncio.Event().wait()

    async with output(hang, "    timeout: 100ms", "openmeter", "") as sender:
        with pytest.raises(Retryable, match=r"no complete answer within 0\.1 s"):
            await sender.write(batch(b"{}"))

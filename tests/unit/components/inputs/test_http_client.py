"""The http_client input: polling and streams."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from kit.pipes import REGISTRY
from openmeter_collector.api import EndOfInput, HttpResponse, Retryable, Unreadable
from openmeter_collector.config import load
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.engine.input_loop import PullInput
from openmeter_collector.testing.clock import virtual_time
from openmeter_collector.testing.env import FakeEnv


class Asking:
    """An opened input, and the server's answers."""

    def __init__(self, env, puller):
        self.env, self.puller = env, puller

    @property
    def asked(self):
        return self.env.http_script.requests

    async def contents(self):
        delivery = await self.puller.read()
        return [message.content.decode() for message in delivery.batch]


@asynccontextmanager
async def asking(fields, *answers):
    text = "input:\n  http_client:\n" + "".join(f"    {line}\n" for line in fields.splitlines())
    node = load(text, REGISTRY, env={}).input
    env = FakeEnv(node)
    left = list(answers)
    env.http_script.script = lambda request: left.pop(0) if len(left) > 1 else left[0]
    async with node.config.open(env) as puller:
        yield Asking(env, puller)


def answer(body, status=200, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, named, body)


@virtual_time
async def test_each_answer_is_a_message_and_the_next_request_follows():
    fields = "url: http://x/a\nextract_headers: {include_prefixes: [x-]}"
    async with asking(fields, answer(b"1", x_page="7"), answer(b"2", 201)) as it:
        first = await it.puller.read()
        assert first.batch[0].content == b"1"
        assert dict(first.batch[0].metadata) == {"http_status_code": 200, "x-page": "7"}
        assert (await it.puller.read()).batch[0].metadata["http_status_code"] == 201
        assert [(one.method, one.url, one.body) for one in it.asked] == [
            ("GET", "http://x/a", b"")
        ] * 2


@virtual_time
async def test_the_next_request_can_refer_to_the_message_read_last():
    fields = (
        'url: \'http://x/a${! ("?next="+this.next.not_null()) | "" }\'\n'
        'verb: POST\npayload: \'{"after":${! json("next") | 0 }}\'\n'
        "headers: {X-Seen: '${! @http_status_code.or(\"none\") }'}"
    )
    async with asking(fields, answer(b'{"next":"p2"}'), answer(b'{"next":null}')) as it:
        await it.puller.read()
        await it.puller.read()
        await it.puller.read()
        assert [one.url for one in it.asked] == ["http://x/a", "http://x/a?next=p2", "http://x/a"]
        assert [one.headers["X-Seen"] for one in it.asked] == ["none", "200", "200"]
        assert it.asked[1].body == b'{"after":p2}'


@virtual_time
async def test_empty_answers_are_no_messages_and_are_not_asked_for_in_haste():
    async with asking(
        "url: http://x", answer(b""), answer(b""), answer(b"", 204), answer(b"1")
    ) as it:
        assert await it.contents() == ["1"]
        assert asyncio.get_running_loop().time() > 0.5
    async with asking("url: http://x\ndrop_empty_bodies: false", answer(b"")) as it:
        assert await it.contents() == [""]


@virtual_time
async def test_an_answer_in_parts_is_a_batch():
    body = b"--b\r\nA: 1\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n"
    async with asking(
        "url: http://x", answer(body, content_type="multipart/mixed; boundary=b")
    ) as it:
        assert await it.contents() == ["one", "two"]
    async with asking(
        "url: http://x",
        answer(b"broken", content_type="multipart/mixed; boundary=b"),
        answer(b"1"),
    ) as it:
        assert await it.contents() == ["1"]
        assert any("no closing boundary" in line for line in it.env.lines)


@virtual_time
async def test_what_fails_is_asked_again_for_as_long_as_it_takes():
    refused = [answer(b"", 401)] * 40
    fields = "url: http://x\nretries: 0"
    async with asking(fields, *refused, Retryable("reset"), answer(b"1")) as it:
        assert await it.contents() == ["1"]
        assert len(it.asked) == 42
        assert it.env.store.total("input_connection_failed") == 41
        assert sum("a request failed" in line for line in it.env.lines) == 1
        assert sum("succeed again" in line for line in it.env.lines) == 1
        assert asyncio.get_running_loop().time() > 600


@virtual_time
async def test_a_server_that_says_when_is_not_asked_before():
    fields = "url: http://x\nretries: 0"
    async with asking(fields, answer(b"", 429, retry_after="100"), answer(b"1")) as it:
        assert await it.contents() == ["1"]
        assert asyncio.get_running_loop().time() >= 100


@virtual_time
async def test_an_answer_that_is_too_large_is_not_cut_but_said():
    fields = "url: http://x\nmax_response_bytes: 3B"
    async with asking(fields, answer(b"1234"), answer(b"123")) as it:
        assert await it.contents() == ["123"]
        assert any("larger than max_response_bytes (3)" in line for line in it.env.lines)


@virtual_time
async def test_a_failed_delivery_is_repeated_beside_new_requests():
    taken = []

    class Enough(Exception):
        pass

    class Intake:
        async def put(self, delivery):
            content = delivery.batch[0].content
            taken.append(content)
            delivery.settle(Retryable("no") if taken.count(content) == 1 else None)
            if taken.count(b"1") == 2:
                raise Enough

    async with asking("url: http://x", answer(b"1"), answer(b"2")) as it:
        try:
            await PullInput(it.env, it.puller).run(Intake())
        except* Enough:
            pass
    assert taken[:2] == [b"1", b"2"]
    assert taken.count(b"1") == 2


STREAM = "url: http://x\nstream: {enabled: true%s}\nmax_retry_backoff: 1s\nretries: 0"


@virtual_time
async def test_a_stream_is_cut_into_messages_and_asked_for_again_when_it_ends():
    async with asking(STREAM % "", answer(b"1\n\n\n2\n", 200, x_a="1"), answer(b"3\n")) as it:
        assert [await it.contents() for _ in range(3)] == [["1"], ["2"], ["3"]]
        assert len(it.asked) == 2


@virtual_time
async def test_a_stream_may_end_and_may_have_another_scanner():
    more = ", reconnect: false, scanner: {json_documents: {}}"
    async with asking(STREAM % more, answer(b'{"a":\n1}[2]')) as it:
        assert await it.contents() == ['{"a":\n1}']
        assert await it.contents() == ["[2]"]
        with pytest.raises(EndOfInput):
            await it.puller.read()


@virtual_time
async def test_empty_lines_of_a_stream_are_messages_when_wanted():
    async with asking(STREAM % "" + "\ndrop_empty_bodies: false", answer(b"\n1\n")) as it:
        assert [await it.contents() for _ in range(2)] == [[""], ["1"]]


@virtual_time
async def test_a_stream_that_is_refused_or_cannot_be_read_is_asked_for_again():
    more = ", scanner: {lines: {max_buffer_size: 3}}"
    answers = (answer(b"", 503), answer(b"1\n12345\n"), answer(b"2\n"))
    async with asking(STREAM % more, *answers) as it:
        assert [await it.contents(), await it.contents()] == [["1"], ["2"]]
        assert any(
            "http://x: record 2 at byte 2: the line is longer" in one for one in it.env.lines
        )
    more += ", reconnect: false"
    async with asking(STREAM % more, answer(b"12345\n")) as it:
        with pytest.raises(Unreadable):
            await it.puller.read()


async def test_a_real_stream_comes_piece_by_piece_and_a_lost_one_is_said():
    step = asyncio.Event()
    asked, ended = [], []

    async def serve(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nX-One: 1\r\nX-One: 2\r\nContent-Length: 10\r\n\r\n12")
        await writer.drain()
        await step.wait()
        writer.write(b"34")
        writer.close()
        ended.append(True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/feed"
    async with open_http_client() as client:
        async with client.stream("GET", url) as stream:
            assert (stream.status, stream.headers["x-one"]) == (200, "1")
            assert await anext(stream.chunks) == b"12"
            step.set()
            assert await anext(stream.chunks) == b"34"
            with pytest.raises(Retryable, match="GET http://127"):
                await anext(stream.chunks)
        step.clear()
        async with client.stream("GET", url, idle_timeout=0.05) as stream:
            assert await anext(stream.chunks) == b"12"
            with pytest.raises(Retryable, match=r"nothing came for 0\.05 s"):
                await anext(stream.chunks)
        server.close()
        step.set()
        while len(ended) < 2:
            await asyncio.sleep(0)
        with pytest.raises(Retryable, match="GET http://127"):
            async with client.stream("GET", url):
                pass
    assert asked == [b"GET /feed HTTP/1.1"] * 2

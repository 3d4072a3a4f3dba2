"""http: what is sent, what comes back, what failure means."""

import pytest

from kit.chains import errors, message, processors, shown
from kit.scripted import serving
from openmeter_collector.values.multipart import join_multipart, split_multipart

OK = (200, {"x-plan": "gold", "content-type": "application/json"}, b'{"plan":"gold"}')


async def run(url, fields, *batch):
    async with processors(
        f"- http: {{url: '{url}/a/${{! json(\"id\").or(0) }}', {fields}}}"
    ) as opened:
        batches = await opened.run_batch([message(one) for one in batch])
        return batches, opened


async def test_the_answer_replaces_the_message_and_is_described_in_metadata():
    async with serving(OK) as script:
        given = message('{"id":7}', metadata={"k": "v", "no": "x"})
        fields = "headers: {X-Id: '${! json(\"id\") }'}, metadata: {include_prefixes: [k]}, "
        batches, _ = await run(
            script.url, fields + "extract_headers: {include_patterns: [plan]}", given
        )
    ((made,),) = batches
    assert made.content == b'{"plan":"gold"}'
    assert made.metadata == {"k": "v", "no": "x", "x-plan": "gold", "http_status_code": 200}
    ((method, path, headers, body),) = script.requests
    assert (method, path, body) == ("POST", "/a/7", b'{"id":7}')
    assert (headers["x-id"], headers["k"]) == ("7", "v")
    assert "no" not in headers


async def test_an_empty_message_is_asked_without_a_body():
    async with serving(OK) as script:
        batches, _ = await run(script.url, "verb: GET", "")
    assert shown(batches) == [['{"plan":"gold"}']]
    assert script.requests[0][0] == "GET"
    assert script.bodies == [b""]


async def test_a_failure_flags_the_message_unchanged_with_the_status():
    async with serving((404, {"x-why": "gone"}, b"nobody")) as script:
        fields = "retries: 1, extract_headers: {include_prefixes: [x-]}"
        batches, opened = await run(script.url, fields, '{"id":1}')
    ((made,),) = batches
    assert made.content == b'{"id":1}'
    assert made.metadata == {"http_status_code": 404, "x-why": "gone"}
    assert "unexpected response code (404): 404 Not Found, Error: nobody" in errors(batches)[0]
    assert len(script.requests) == 2
    assert len(opened.slept) == 1


async def test_one_failure_costs_one_message():
    async with serving(OK, (400, {}, b"no"), OK) as script:
        batches, _ = await run(script.url, "drop_on: [400]", '{"id":1}', '{"id":2}', '{"id":3}')
    assert [one is None for one in errors(batches)] == [True, False, True]
    assert [path for _, path, _, _ in script.requests] == ["/a/1", "/a/2", "/a/3"]


async def test_what_is_refused_for_a_time_is_asked_again_not_before_retry_after():
    async with serving((429, {"retry-after": "7"}, b""), (503, {}, b""), OK) as script:
        batches, opened = await run(script.url, "retry_period: 100ms", "{}")
    assert errors(batches) == [None]
    assert opened.slept[0] >= 7 * 0.75
    assert opened.slept[1] < 1


async def test_nobody_there_is_a_failure_without_a_status():
    async with processors("- http: {url: 'http://127.0.0.1:1', retries: 0}") as opened:
        ((made,),) = await opened.run("x")
    assert "http_status_code" not in made.metadata
    assert "127.0.0.1:1" in str(made.error)


async def test_in_parallel_the_order_stays():
    async with serving(OK) as script:
        batches, _ = await run(script.url, "parallel: true", *[f'{{"id":{n}}}' for n in range(20)])
    assert [one.origin for one in batches[0]] == list(range(20))
    assert sorted(path for _, path, _, _ in script.requests) == sorted(f"/a/{n}" for n in range(20))


async def test_a_batch_may_be_one_multipart_request_and_its_answer_parts():
    kind, body = join_multipart([b"A", b"B", b"C"])
    async with serving((200, {"content-type": kind}, body)) as script:
        batches, _ = await run(script.url, "batch_as_multipart: true", "a", "b")
    assert shown(batches) == [["A", "B", "C"]]
    assert {one.origin for one in batches[0]} == {(0, 1)}
    ((_, _, headers, sent),) = script.requests
    boundary = headers["content-type"].partition("boundary=")[2]
    assert split_multipart(sent, boundary) == [b"a", b"b"]


async def test_an_answer_that_is_too_large_is_no_answer():
    async with serving((200, {}, b"x" * 2000), (200, {}, b"x" * 1000)) as script:
        batches, _ = await run(script.url, "max_response: 1KB", "a", "b")
    assert errors(batches) == ["the answer is larger than max_response (1000)", None]
    assert [len(one.content) for one in batches[0]] == [1, 1000]


async def test_an_address_that_cannot_be_made_is_a_failure_of_its_message():
    async with processors("- http: {url: 'http://x/${! json(\"id\").uppercase() }'}") as opened:
        batches = await opened.run('{"id":5}')
    assert "expected string value" in errors(batches)[0]
    assert shown(batches) == [['{"id":5}']]


@pytest.mark.parametrize("status", [304, 200])
async def test_in_a_branch_only_the_answer_is_put_into_the_message(status):
    text = """
- branch:
    request_map: root = ""
    processors:
      - http: {url: 'URL', verb: GET, successful_on: [304]}
    result_map: root.plan = if @http_status_code == 200 { this.plan } else { "old" }
"""
    answer = OK if status == 200 else (304, {}, b"")
    async with serving(answer) as script, processors(text.replace("URL", script.url)) as opened:
        batches = await opened.run('{"id":1}')
    plan = "gold" if status == 200 else "old"
    assert shown(batches) == [[f'{{"id":1,"plan":"{plan}"}}']]

"""The prometheus input: what is asked, what is made of the answer, which answers are not taken."""

import asyncio
import urllib.parse
from email.utils import formatdate

import orjson
import pytest

from kit.windows import START, Stored, WindowEnv, running
from openmeter_collector.api import HttpResponse
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.components.inputs.prometheus import filled, numbers_of
from openmeter_collector.config import load
from openmeter_collector.testing.clock import virtual_time
from openmeter_collector.values import json
from openmeter_collector.values.windows import Window

REGISTRY = standard_registry()
PUBLISHED = """\
input:
  prometheus:
    url: 'http://prometheus.test/base/'
    schedule: '0 * * * * *'
    query_offset: '1m'
    queries:
      - query:
          name: 'node_cpu_usage'
          promql: sum(increase(node_cpu_seconds_total{mode!='idle'}[1m])) by(instance)
"""
SAMPLE = {"metric": {"instance": "a:9100"}, "value": [1700000040.0, "12.50"]}


def vector(*samples, **more):
    body = {"status": "success", "data": {"resultType": "vector", "result": samples}, **more}
    return HttpResponse(200, {}, orjson.dumps(body))


async def run(text, script, seconds=125.0, offset=0.0):
    stored = Stored()
    node = load(text, REGISTRY, env={}).input
    env = WindowEnv(stored, node)
    env.offset = offset
    env.http_script.script = script
    async with node.config.open(env) as opened, running(opened, stored):
        await asyncio.sleep(seconds)
    return stored, env


def form_of(request):
    return dict(urllib.parse.parse_qsl(request.body.decode()))


@virtual_time
async def test_the_published_config_asks_and_answers_as_published():
    stored, env = await run(PUBLISHED, lambda _: vector(SAMPLE))
    asked = env.http_script.requests
    assert asked[0].method == "POST"
    assert asked[0].url == "http://prometheus.test/base/api/v1/query"
    # 22:13:20 is the start; the first window ends at 22:14:00, and is about a minute earlier.
    assert [form_of(one)["time"] for one in asked] == ["1699999980.000", "1700000040.000"]
    message = stored.messages[0]
    assert message.structured() == {
        "name": "node_cpu_usage",
        "query": "sum(increase(node_cpu_seconds_total{mode!='idle'}[1m])) by(instance)",
        "timestamp": "2023-11-14T22:13:00Z",
        "values": [SAMPLE],
    }
    assert message.metadata == {
        "scrape_time": "2023-11-14T22:14:00Z",
        "scrape_interval": "1m0s",
        "query_offset": "1m0s",
        "query_name": "node_cpu_usage",
        "window_start": "2023-11-14T22:12:00Z",
        "window_end": "2023-11-14T22:13:00Z",
    }


@virtual_time
async def test_an_empty_result_is_a_message_without_samples():
    stored, _ = await run(PUBLISHED, lambda _: vector(), 65)
    assert [one.structured()["values"] for one in stored.messages] == [[]]


@virtual_time
async def test_a_window_that_failed_is_asked_for_at_its_own_time():
    answers = [HttpResponse(503, {}, b"")] * 3
    stored, env = await run(PUBLISHED, lambda _: answers.pop() if answers else vector(SAMPLE))
    assert {form_of(one)["time"] for one in env.http_script.requests[:4]} == {"1699999980.000"}
    times = [one.structured()["timestamp"] for one in stored.messages]
    assert times == ["2023-11-14T22:13:00Z", "2023-11-14T22:14:00Z"]


@virtual_time
async def test_a_partial_answer_is_not_taken_for_a_whole_one():
    answers = [vector(warnings=["store 10.0.0.1 did not answer"])]
    stored, env = await run(PUBLISHED, lambda _: answers.pop() if answers else vector(SAMPLE), 65)
    assert [one.structured()["values"] for one in stored.messages] == [[SAMPLE]]
    assert any("partial" in line for line in env.lines)


@virtual_time
async def test_a_partial_answer_is_taken_when_that_was_asked_for():
    text = PUBLISHED + "    partial: take\n"
    stored, _ = await run(text, lambda _: vector(SAMPLE, warnings=["store away"]), 65)
    assert len(stored.messages) == 1


@virtual_time
async def test_remarks_on_an_expression_are_logged_once_and_hold_up_nothing():
    remark = 'PromQL info: metric might not be a counter: "x" (1:5)'
    stored, env = await run(PUBLISHED, lambda _: vector(SAMPLE, warnings=[remark]))
    assert len(stored.messages) == 2
    assert sum("remarked" in line for line in env.lines) == 1


@virtual_time
async def test_a_server_that_has_not_seen_the_end_of_the_window_is_not_believed():
    """Our clock is fast: the answer would lack what is still to come."""
    loop = asyncio.get_running_loop()

    def script(_):
        behind = formatdate(START + loop.time() - 90, usegmt=True)
        return HttpResponse(200, {"date": behind}, vector(SAMPLE).body)

    text = PUBLISHED.replace("'1m'\n", "'0s'\n")
    stored, env = await run(text, script, 100)
    assert stored.messages == []
    assert any("its clock is" in line for line in env.lines)
    stored, _ = await run(text, script, 500)
    assert stored.messages


@virtual_time
async def test_a_server_without_post_is_asked_with_get():
    def script(request):
        return vector(SAMPLE) if request.method == "GET" else HttpResponse(405, {}, b"")

    stored, env = await run(PUBLISHED, script)
    assert [one.method for one in env.http_script.requests] == ["POST", "GET", "GET"]
    assert "time=1699999980.000" in env.http_script.requests[1].url
    assert len(stored.messages) == 2


@virtual_time
async def test_a_password_in_the_address_is_sent_and_never_shown():
    text = PUBLISHED.replace("http://", "http://me:p%40ss@")
    _, env = await run(text, lambda _: HttpResponse(403, {}, b"no"), 65)
    request = env.http_script.requests[0]
    assert request.headers["Authorization"] == "Basic bWU6cEBzcw=="
    assert "p%40ss" not in request.url + "".join(env.lines)
    assert "cEBzcw" not in "".join(env.lines)


@virtual_time
async def test_a_token_file_is_read_for_each_request(tmp_path):
    token = tmp_path / "token"
    token.write_text("one\n")

    def script(request):
        token.write_text("two\n")
        return vector(SAMPLE)

    _, env = await run(PUBLISHED + f"    bearer_token_file: {token}\n", script)
    sent = [one.headers["Authorization"] for one in env.http_script.requests]
    assert sent == ["Bearer one", "Bearer two"]


@virtual_time
async def test_a_result_that_is_no_vector_is_named():
    scalar = orjson.dumps(
        {"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}
    )
    stored, env = await run(PUBLISHED, lambda _: HttpResponse(200, {}, scalar), 65)
    assert stored.messages == []
    assert any("the result is a scalar" in line for line in env.lines)


@virtual_time
async def test_series_are_messages_with_numbers():
    text = PUBLISHED + "    values: series\n"
    histogram = {
        "metric": {"le": "x"},
        "histogram": [1, {"count": "3", "sum": "1.5", "buckets": [[0, "0.5", "1", "3"]]}],
    }
    nothing = {"metric": {}, "value": [1, "NaN"]}
    stored, _ = await run(text, lambda _: vector(SAMPLE, histogram, nothing), 65)
    made = [json.loads(one.content) for one in stored.messages]
    assert b'"value":12.50' in stored.messages[0].content, "digit by digit"
    assert made[1]["histogram"] == {
        "count": 3,
        "sum": 1.5,
        "buckets": [{"boundaries": 0, "from": 0.5, "to": 1, "count": 3}],
    }
    assert made[2]["value"] is None
    assert made[2]["special"] == "NaN"


@pytest.mark.parametrize("text", ["+Inf", "-Inf", "NaN"])
def test_what_is_no_number_is_told_as_such(text):
    assert numbers_of({"value": [1, text]}) == {"metric": {}, "value": None, "special": text}


def test_an_expression_may_speak_of_its_window():
    window = Window(1_700_000_000_000, 1_700_000_060_000)
    text = "a[$__window] b[$__window_open] $__window_seconds @ $__start @ $__end"
    assert filled(text, window) == "a[60s] b[59999ms] 60 @ 1700000000 @ 1700000060"
    assert filled("[$__window]", Window(0, 1500)) == "[1500ms]"

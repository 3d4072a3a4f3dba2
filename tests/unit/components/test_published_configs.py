"""Published configs, end to end in one process: what their senders get, what OpenMeter gets."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from openmeter_collector.api import Batch, Output, output
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.testing.running import free_port, running

# The input and buffer of the published http-server preset, as they are but for addresses and paths.
HTTP_SERVER = """
http: {{enabled: false}}
input:
  http_server:
    address: 127.0.0.1:{port}
    path: /api/v1/events
    allowed_verbs:
      - POST
    timeout: 10s
    sync_response:
      status: '${{! meta("http_status_code").or("204") }}'
      headers:
        Content-Type: '${{! meta("content_type").or("application/json") }}'
  processors:
    - metric:
        type: counter
        name: openmeter_event_received
        value: 1
    - label: "validation"
      json_schema:
        schema_path: file://./cloudevents.spec.json
    - catch:
      - log:
          level: ERROR
          message: "schema validation failed due to: ${{!error()}}"
          fields_mapping: |-
            root = this
      - mapping: |
          meta http_status_code = "400"
          meta content_type = "application/problem+json"

          root = {{
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": "invalid event: %s".format(error()),
          }}
      - sync_response: {{}}
      - mapping: root = deleted()
    - mapping: |
        meta http_status_code = "204"
    - sync_response: {{}}
buffer:
  sqlite:
    path: "{buffer}"
    post_processors:
      - label: "buffer_split_batch"
        split:
          size: 100
output:
  label: "openmeter"
  collect:
    batching:
      count: 100
      period: 10ms
      processors:
        - metric:
            type: counter
            name: openmeter_events_sent
            value: 1
        - archive:
            format: json_array
"""
EVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "c", "data": {}}


def collecting(into: list[bytes]):
    """The registry with an output `collect` that batches as `http_client` does."""
    from openmeter_collector.api import BatchPolicy, field  # noqa: PLC0415

    @output("collect")
    class Collect:
        """Keeps what it gets."""

        batching: BatchPolicy = field(default_factory=BatchPolicy, doc="Batching.")

        @asynccontextmanager
        async def open(self, env):
            yield _Collect()

    class _Collect(Output):
        async def write(self, batch: Batch) -> None:
            into.extend(message.content for message in batch)

    return standard_registry().with_(Collect)


@pytest.fixture
async def preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    delivered: list[bytes] = []
    port = free_port()
    text = HTTP_SERVER.format(port=port, buffer=tmp_path / "buffer.db")
    async with running(text, collecting(delivered)) as collector, aiohttp.ClientSession() as client:
        await collector.until_connected()

        async def send(body):
            url = f"http://127.0.0.1:{port}/api/v1/events"
            async with client.post(url, data=body) as response:
                return response.status, response.headers.get("Content-Type"), await response.read()

        async def until_delivered(count):
            while sum(len(json.loads(one)) for one in delivered) < count:
                await asyncio.sleep(0.005)
            return [event for one in delivered for event in json.loads(one)]

        yield collector, send, until_delivered


async def test_a_valid_event_is_answered_204_and_delivered_as_it_was(preset):
    collector, send, until_delivered = preset
    body = json.dumps(EVENT)
    assert (await send(body))[::2] == (204, b"")
    other = json.dumps(EVENT | {"id": "2"})
    assert (await send(other))[::2] == (204, b"")  # a body after 204 would spoil the connection
    assert await until_delivered(2) == [EVENT, EVENT | {"id": "2"}]
    assert collector.metrics.total("openmeter_event_received") == 2
    assert collector.metrics.total("openmeter_events_sent") == 2


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        (
            {key: value for key, value in EVENT.items() if key != "subject"},
            "(root) subject is required",
        ),
        (EVENT | {"subject": ""}, "subject string length must be greater than or equal to 1"),
        ([EVENT], "(root) invalid type. expected: object, given: array"),
    ],
)
async def test_an_invalid_event_is_answered_400_and_goes_nowhere(preset, event, detail):
    collector, send, until_delivered = preset
    status, kind, body = await send(json.dumps(event))
    assert (status, kind) == (400, "application/problem+json")
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": f"invalid event: {detail}",
    }
    assert (await send(json.dumps(EVENT)))[0] == 204
    assert await until_delivered(1) == [EVENT]
    (line,) = [one for line in collector.lines if (one := json.loads(line))["level"] == "error"]
    assert line["msg"] == f"schema validation failed due to: {detail}"


async def test_what_is_no_json_is_answered_400_with_the_parse_error(preset):
    _, send, _ = preset
    status, kind, body = await send("{nope")
    assert (status, kind) == (400, "application/problem+json")
    assert json.loads(body)["detail"].startswith("invalid event: invalid character 'n'")


async def test_many_at_once_are_all_answered_and_delivered_once(preset):
    _, send, until_delivered = preset
    events = [EVENT | {"id": str(number)} for number in range(150)]
    answers = await asyncio.gather(*(send(json.dumps(event)) for event in events))
    assert {status for status, _, _ in answers} == {204}
    found = await until_delivered(150)
    assert sorted(int(event["id"]) for event in found) == list(range(150))

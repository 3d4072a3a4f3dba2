"""Published configs whose inputs, outputs and streams we have, in one process, against the sandbox."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import Config, Stream, read, resources_of
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.streams import Streams
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.testing.running import free_port, running
from openmeter_collector.testing.sandbox import Sandbox

# The output block that all pages share; only what belongs to the place is given by variables.
STANDARD_OUTPUT = """
output:
  label: 'openmeter'
  drop_on:
    error: false
    error_patterns:
      - Bad Request
    output:
      http_client:
        url: '${OPENMETER_URL:https://openmeter.cloud}/api/v1/events'
        verb: POST
        headers:
          Authorization: 'Bearer ${OPENMETER_TOKEN:}'
          Content-Type: 'application/json'
        timeout: 30s
        retry_period: 15s
        retries: 3
        max_retry_backoff: 1m
        max_in_flight: 64
        batch_as_multipart: false
        drop_on:
          - 400
        batching:
          count: 100
          period: 1s
          processors:
            - metric:
                type: counter
                name: openmeter_events_sent
                value: 1
            - archive:
                format: json_array
        dump_request_log_level: DEBUG
"""
GENERATED = """
http: {enabled: false}
input:
  generate:
    interval: ""
    count: ${COUNT}
    mapping: |
      let number = count("published")
      root = {
        "id": "event-%d".format($number),
        "specversion": "1.0",
        "type": "request",
        "source": "api-gateway",
        "subject": if $number % 10 == 7 { "${BAD_SUBJECT:}" } else { "customer-1" },
        "time": now(),
        "data": {"duration_ms": $number},
      }
"""


async def until_ended(collector):
    while not any("delivered" in line for line in collector.lines):
        await asyncio.sleep(0.01)


async def test_the_standard_output_delivers_all_but_the_refused_events():
    """One bad event of ten costs itself alone, although a batch is one request."""
    async with Sandbox().serve() as sandbox:
        env = {"OPENMETER_URL": sandbox.url, "COUNT": "200"}
        async with running(GENERATED + STANDARD_OUTPUT, standard_registry(), env) as collector:
            await sandbox.wait_for_events(180)
            while collector.metrics.total("drop_on_dropped") < 20:
                await asyncio.sleep(0.01)
        assert len(sandbox.events) == 180
        assert collector.metrics.total("drop_on_dropped") == 20


async def test_the_standard_output_is_not_serial():
    """One event a second was what the old engine did here: a batch waits for its period."""
    async with Sandbox().serve() as sandbox:
        env = {"OPENMETER_URL": sandbox.url, "COUNT": "3000", "BAD_SUBJECT": "x"}
        async with running(GENERATED + STANDARD_OUTPUT, standard_registry(), env):
            async with asyncio.timeout(20):
                await sandbox.wait_for_events(3000)
        assert sandbox.stats()["requests"] < 200


SEEDER = """
http:
  enabled: false
input:
  generate:
    count: ${SEEDER_COUNT:0}
    interval: "${SEEDER_INTERVAL:50ms}"
    # batch_size: 1
    mapping: |
      let max_subjects = ${SEEDER_MAX_SUBJECTS:10}

      let event_type = "request"
      let source = "api-gateway"
      let methods = ["GET", "POST"]

      let subject = "customer-%d".format(random_int(seed: timestamp_unix_nano()) % $max_subjects)
      let time = (now().ts_sub_iso8601("P3D").ts_unix() + random_int(min: 60, max: 60 * 60 * 24 * 3)).ts_format()
      let method = $methods.index(random_int(seed: timestamp_unix_nano()) % $methods.length())

      root = {
        "id": uuid_v4(),
        "specversion": "1.0",
        "type": $event_type,
        "source": $source,
        "subject": $subject,
        "time": $time,
        "data": {
          "method": $method,
        },
      }

output:
  switch:
    cases:
      - check: ""
        continue: true
        output:
          http_client:
            url: ${OPENMETER_URL:http://127.0.0.1:8888}/api/v1/events
            verb: POST
            headers:
              Content-Type: application/cloudevents+json
              Authorization: "Bearer ${OPENMETER_TOKEN:}"
            max_in_flight: 1

      - check: '"${SEEDER_LOG:false}" == "true"'
        output:
          stdout:
            codec: lines
"""


async def test_the_quickstarts_seeder_sends_what_it_was_told_to_and_ends():
    async with Sandbox().serve() as sandbox:
        env = {"OPENMETER_URL": sandbox.url, "SEEDER_COUNT": "20", "SEEDER_INTERVAL": "1ms"}
        async with running(SEEDER, standard_registry(), env) as collector:
            await sandbox.wait_for_events(20)
        assert collector.ended.delivered == 20
        assert len(sandbox.events) == 20


QUICKSTART_RESOURCES = """
cache_resources:
  - label: dedupe_cache
    memory:
      default_ttl: 1h
"""
QUICKSTART_INPUT = """
input:
  http_server:
    address: 127.0.0.1:${PORT}
    path: /api/v1/events
    sync_response:
      status: '${! meta("http_response_status").or("204") }'

pipeline:
  processors:
    - switch:
        - check: meta("Content-Type").lowercase() == "application/cloudevents-batch+json"
          processors:
            - unarchive:
                format: json_array
        - check: meta("Content-Type").lowercase() == "application/cloudevents+json"
          processors:
            - noop: {}
        - check: ""
          processors:
            - log:
                level: ERROR
                message: 'Unexpected Content-Type: ${!meta("Content-Type")}'
            - mapping: |
                meta http_response_status = "400"

                root = {
                  "type": "about:blank",
                  "title": "Bad Request",
                  "status": 400,
                  "detail":"request body has an error: header Content-Type has unexpected value \\"%s\\"".format(meta("Content-Type")),
                }
            - sync_response: {}
            - mapping: "root = deleted()"
DEDUPE
    - json_schema:
        schema_path: "file://./cloudevents.spec.json"
    - catch:
        - log:
            level: ERROR
            message: "Schema validation failed due to: ${!error()}"
        - mapping: |
            meta http_response_status = "400"

            root = {
              "type": "about:blank",
              "title": "Bad Request",
              "status": 400,
              "detail":"request body has an error: %s".format(error()),
            }
        - sync_response: {}
        - mapping: "root = deleted()"

output:
  switch:
    cases:
      - check: ""
        continue: true
        output:
          broker:
            pattern: fan_out
            outputs:
              - sync_response: {}
                processors:
                  - mapping: root = null
              # https://github.com/benthosdev/benthos/discussions/2324
              # https://github.com/benthosdev/benthos/issues/1946
              - inproc: openmeter

      - check: '"${DEBUG_INPUT:false}" == "true"'
        output:
          stdout:
            codec: lines
"""
DEDUPE = """    - dedupe:
        cache: "dedupe_cache"
        key: '${! content().hash("xxhash64") }'
        drop_on_err: false
"""
QUICKSTART_OUTPUT = """
input:
  inproc: openmeter

buffer:
  sqlite:
    path: ${FOLDER}/buffer.sqlite
    post_processors:
      - split: {}

output:
  openmeter:
    url: "${OPENMETER_URL:https://openmeter.cloud}"
    token: "${OPENMETER_TOKEN:}"
    batching:
      count: ${BATCH_SIZE:1}
      period: ${BATCH_PERIOD:30s}
"""
EVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "c", "data": {}}


@asynccontextmanager
async def streams_running(texts, env, shared="{}"):
    registry = standard_registry()
    config = read(shared, registry, Config, env=env).or_raise()
    known = list(resources_of(config))
    streams = {
        name: read(text, registry, Stream, env=env, known_resources=known).or_raise()
        for name, text in texts.items()
    }
    lines = []
    metrics = MetricStore()
    service = Service(metrics)
    around = Surroundings(
        Log(LogOptions(level="debug", format="json"), lines.append),
        metrics,
        listen=listen,
        mount=service.mount,
    )
    running_streams = Streams(config, around)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(running_streams.run(streams, stop))
        while len(running_streams.status) < len(streams) or not all(
            one.input.connected for one in running_streams.status.values()
        ):
            await asyncio.sleep(0.01)
            if task.done():
                break
        try:
            yield running_streams, lines, metrics
        finally:
            stop.set()
            await task


@pytest.fixture
async def quickstart(tmp_path):
    has_dedupe = standard_registry().has("processor", "dedupe")
    port = free_port()
    async with Sandbox().serve() as sandbox:
        env = {"PORT": str(port), "FOLDER": str(tmp_path), "OPENMETER_URL": sandbox.url}
        texts = {
            "input": QUICKSTART_INPUT.replace("DEDUPE\n", DEDUPE if has_dedupe else ""),
            "output": QUICKSTART_OUTPUT,
        }
        shared = QUICKSTART_RESOURCES if has_dedupe else "{}"
        async with (
            streams_running(texts, env, shared) as (_, lines, metrics),
            aiohttp.ClientSession() as client,
        ):

            async def send(body, kind="application/cloudevents+json"):
                url = f"http://127.0.0.1:{port}/api/v1/events"
                headers = {"Content-Type": kind}
                async with client.post(url, data=json.dumps(body), headers=headers) as response:
                    return response.status, await response.read()

            yield sandbox, send, lines, metrics


async def test_the_quickstart_takes_single_events_and_batches(quickstart):
    sandbox, send, _, metrics = quickstart
    assert (await send(EVENT))[0] == 204
    batch = [EVENT | {"id": str(number)} for number in range(2, 6)]
    assert (await send(batch, "application/cloudevents-batch+json"))[0] == 204
    await sandbox.wait_for_events(5)
    exposed = metrics.exposition().decode()
    assert 'stream="input"' in exposed
    assert 'stream="output"' in exposed


async def test_the_quickstart_answers_what_is_wrong(quickstart):
    sandbox, send, lines, _ = quickstart
    status, body = await send(EVENT, "text/plain")
    assert status == 400
    assert json.loads(body)["detail"] == (
        'request body has an error: header Content-Type has unexpected value "text/plain"'
    )
    status, body = await send({key: EVENT[key] for key in EVENT if key != "subject"})
    assert status == 400
    assert json.loads(body)["detail"] == "request body has an error: (root) subject is required"
    assert (await send(EVENT))[0] == 204
    await sandbox.wait_for_events(1)
    assert any("Unexpected Content-Type: text/plain" in line for line in lines)


async def test_each_request_gets_its_own_answer_when_many_are_under_way(quickstart):
    """Requests are put together on the way to the output; answers are not."""
    sandbox, send, _, _ = quickstart
    good = [send(EVENT | {"id": f"good-{number}"}) for number in range(30)]
    bad = [send({"id": f"bad-{number}"}) for number in range(10)]
    answers = await asyncio.gather(*good, *bad)
    assert [status for status, _ in answers] == [204] * 30 + [400] * 10
    await sandbox.wait_for_events(30)
    assert len(sandbox.events) == 30

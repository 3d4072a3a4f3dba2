"""The processors of the published quickstart, as they are."""

import json

import pytest

from kit.chains import message, processors, shown
from openmeter_collector.api import ResponseStore

QUICKSTART = r"""
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
              "detail":"request body has an error: header Content-Type has unexpected value \"%s\"".format(meta("Content-Type")),
            }
        - sync_response: {}
        - mapping: "root = deleted()"
- dedupe:
    cache: "dedupe_cache"
    key: '${! content().hash("xxhash64") }'
    drop_on_err: false
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
"""
CACHE = "cache_resources: [{label: dedupe_cache, memory: {default_ttl: 1h}}]"
EVENT = '{"specversion":"1.0","id":"%s","source":"s","type":"t","subject":"c"}'


@pytest.fixture
async def quickstart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with processors(QUICKSTART, CACHE) as opened:

        async def post(body, kind):
            store = ResponseStore()
            given = message(body, metadata={"Content-Type": kind}, context=store)
            return shown(await opened.run_batch([given])), store.batches

        yield post


async def test_batches_are_taken_apart_and_repeats_dropped(quickstart):
    body = f"[{EVENT % 1}, {EVENT % 2}, {EVENT % 1}]"
    passed, answered = await quickstart(body, "application/cloudevents-batch+json")
    assert (passed, answered) == ([[EVENT % 1, EVENT % 2]], [])
    passed, answered = await quickstart(EVENT % 2, "Application/CloudEvents+JSON")
    assert (passed, answered) == ([], [])


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        ("{}", "text/plain", 'header Content-Type has unexpected value "text/plain"'),
        ('{"id":1}', "application/cloudevents+json", "(root) source is required\n"),
    ],
)
async def test_what_is_wrong_is_answered_and_goes_nowhere(quickstart, body, kind, detail):
    passed, (answer,) = await quickstart(body, kind)
    assert passed == []
    (one,) = answer
    assert one.metadata["http_response_status"] == "400"
    said = json.loads(one.content)
    assert said["detail"].startswith(f"request body has an error: {detail}")
    assert said["status"] == 400

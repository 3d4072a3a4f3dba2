"""A refused archive costs only the event that was refused."""

import asyncio
import json

import apsw

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.component.env import ListenOptions
from openmeter_collector.server.listener import listen
from openmeter_collector.testing.running import running

CONFIG = """
http: {{enabled: false}}
input:
  generate:
    interval: ""
    count: 100
    batch_size: 100
    mapping: 'root = {{"id": counter(), "type": "usage"}}'
buffer:
  sqlite: {{path: {path}}}
output:
  http_client:
    url: http://{address}/events
    retries: 0
    batching:
      count: 100
      processors:
        - archive: {{format: json_array}}
"""


async def test_one_bad_event_of_an_archive_is_a_dead_letter_and_its_neighbours_arrive(tmp_path):
    arrived = []

    async def server(scope, receive, send):
        events = json.loads((await receive())["body"])
        bad = any(event["id"] == 42 for event in events)
        if not bad:
            arrived.extend(event["id"] for event in events)
        status = 400 if bad else 204
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    path = tmp_path / "buffer.db"
    async with listen(server, ListenOptions("127.0.0.1:0")) as listener:
        text = CONFIG.format(path=path, address=listener.address)
        async with running(text, standard_registry()) as pipeline:
            while pipeline.status.buffer().dead_letters == 0 or len(arrived) < 99:
                await asyncio.sleep(0.005)
    assert sorted(arrived) == [number for number in range(1, 101) if number != 42]
    assert pipeline.ended.left_events == 0
    (content,) = apsw.Connection(str(path)).execute("SELECT content FROM dead_letters").fetchall()
    assert json.loads(content[0])["id"] == 42

"""`error_handling.strict`: a failed message goes no further, and its neighbours are not touched."""

import asyncio
import json

import aiohttp
import pytest

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.testing.running import free_port, running

BUFFERED = "buffer: {sqlite: {path: b.db}}\n"
CONFIG = """
http: {enabled: false}
error_handling: {strict: STRICT}
input: {http_server: {address: '127.0.0.1:PORT', timeout: 10s}}
pipeline:
  processors:
    - unarchive: {format: json_array}
    - mapping: root.v = this.v.number()
    - catch: [{mapping: 'root.caught = true'}]
    - mapping: root.after = this.v + 1
output: {file: {path: out.txt}}
"""


@pytest.mark.parametrize("strict", [True, False])
async def test_a_failed_message_is_refused_and_its_neighbours_delivered(
    strict, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    port = free_port()
    text = CONFIG.replace("PORT", str(port)).replace("STRICT", str(strict).lower())
    async with running(text, standard_registry()) as collector, aiohttp.ClientSession() as client:
        await collector.until_connected()
        body = json.dumps([{"v": 1}, {"v": "x"}, {"v": 3}])
        async with client.post(f"http://127.0.0.1:{port}/post", data=body) as answer:
            status = answer.status
    written = [json.loads(line) for line in (tmp_path / "out.txt").read_text().splitlines()]
    if strict:
        assert status == 400
        assert written == [{"after": 2}, {"after": 4}]
    else:
        assert status == 200
        assert len(written) == 3


async def test_behind_a_durable_buffer_a_failed_message_becomes_a_dead_letter(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = """
http: {enabled: false}
error_handling: {strict: true}
input: {generate: {count: 3, interval: "", mapping: 'root.v = count("strict-dead")'}}
buffer: {sqlite: {path: b.db}}
pipeline:
  processors:
    - mapping: root = if this.v == 2 { throw("odd one") } else { this }
output: {switch: {cases: [{output: {file: {path: out.txt}}}]}}
"""
    async with running(text, standard_registry()) as collector:
        while collector.status.delivery.delivered < 2 or not collector.status.buffer().dead_letters:
            await asyncio.sleep(0.01)
    assert collector.ended.dead_letters == 1
    assert (tmp_path / "out.txt").read_text() == '{"v":1}\n{"v":3}\n'


async def test_what_fails_in_an_inputs_processors_is_told_to_the_sender(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    port = free_port()
    text = CONFIG.replace("PORT", str(port)).replace("STRICT", "true")
    text = text.replace("input: {", "input:\n  ").replace("10s}}", "10s}")
    text = text.replace("pipeline:\n", "").replace("output:", BUFFERED + "output:")
    async with running(text, standard_registry()) as collector, aiohttp.ClientSession() as client:
        await collector.until_connected()
        for body, status in (('[{"v": "x"}]', 400), ('[{"v": 1}]', 200)):
            async with client.post(f"http://127.0.0.1:{port}/post", data=body) as answer:
                assert answer.status == status, body
        while collector.status.delivery.delivered < 1:
            await asyncio.sleep(0.01)
    assert (tmp_path / "out.txt").read_text() == '{"after":2}\n'

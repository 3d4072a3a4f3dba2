"""`-w`, the streams API and `--dry-run`, as an operator meets them: processes, files, a port."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import aiohttp

from openmeter_collector.testing.running import free_port

TICKS = """
input: {generate: {interval: 20ms, mapping: 'root = "NAME"'}}
output: {file: {path: NAME.txt}}
"""
SHARED = "logger: {format: json}\nhttp: {address: '127.0.0.1:PORT'}\n"


@contextmanager
def collector(*arguments, cwd):
    command = [sys.executable, "-m", "openmeter_collector.cli.main", *arguments]
    log = (cwd / "log").open("w")
    process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (cwd / "log").read_text()
    finally:
        process.kill()
        process.wait()
        log.close()


async def until_written(path, text=""):
    async with asyncio.timeout(30):
        while not path.exists() or not path.read_text() or text not in path.read_text():
            await asyncio.sleep(0.02)


async def test_run_takes_up_changes_and_goes_on_with_the_old_when_the_new_is_bad(tmp_path):
    config = tmp_path / "config.yaml"
    shared = SHARED.replace("PORT", str(free_port()))
    (tmp_path / "map.blobl").write_text('root = "first"\n')
    mapped = "pipeline: {processors: [{mapping: 'file://./map.blobl'}]}\n"
    config.write_text(shared + TICKS.replace("NAME", "a") + mapped)
    with collector("run", "-w", "config.yaml", cwd=tmp_path):
        await until_written(tmp_path / "a.txt", "first")
        (tmp_path / "map.blobl").write_text('root = "second"\n')
        await until_written(tmp_path / "a.txt", "second")
        config.write_text(shared + TICKS.replace("NAME", "b") + "nonsense: 1\n")
        await until_written(tmp_path / "log", "no field 'nonsense'")
        assert not (tmp_path / "b.txt").exists()
        config.write_text(shared + TICKS.replace("NAME", "b"))
        await until_written(tmp_path / "b.txt")
    said = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (error,) = [line for line in said if line["level"] == "error"]
    assert error["msg"] == "the changed config is not valid, the old one goes on"
    assert error["error"].startswith("config.yaml:")


async def test_streams_take_up_new_changed_and_removed_files_and_serve_the_api(tmp_path):
    port = free_port()
    (tmp_path / "shared.yaml").write_text(SHARED.replace("PORT", str(port)))
    folder = tmp_path / "streams"
    folder.mkdir()
    (folder / "one.yaml").write_text(TICKS.replace("NAME", "one"))
    arguments = (
        "-c",
        "shared.yaml",
        "-r",
        "res*.yaml",
        "-w",
        "streams",
        "--allow-api",
        "files",
        "streams",
    )
    (tmp_path / "res.yaml").write_text("cache_resources: [{label: c, memory: {}}]\n")
    url = f"http://127.0.0.1:{port}"
    with collector(*arguments, cwd=tmp_path):
        await until_written(tmp_path / "one.txt")
        (folder / "two.yaml").write_text(TICKS.replace("NAME", "two"))
        (folder / "one.yaml").unlink()
        await until_written(tmp_path / "two.txt")
        async with aiohttp.ClientSession(url) as client:
            async with client.get("/streams") as answer:
                assert list(await answer.json()) == ["two"]
            async with client.post("/streams/three", data=TICKS.replace("NAME", "three")) as answer:
                assert answer.status == 200
            await until_written(tmp_path / "three.txt")
            (folder / "two.yaml").write_text("input: {nothing: {}}\n")
            await until_written(tmp_path / "log", "the changed stream cannot be started")
            async with client.get("/streams") as answer:
                assert sorted(await answer.json()) == ["three", "two"]
            async with client.get("/ready") as answer:
                assert (answer.status, await answer.text()) == (200, "OK")
            async with client.delete("/streams/three") as answer:
                assert answer.status == 200


SECRET = """
input: {generate: {interval: 20ms, mapping: 'root = "${LATE_TOKEN}"'}}
output: {file: {path: secret.txt}}
"""


async def until_offered(url, count):
    """Until the playground offers so many mappings; they and the events, as text."""
    async with asyncio.timeout(30), aiohttp.ClientSession(url) as client:
        while True:
            async with client.get("/ui/playground/mappings") as answer:
                mappings = await answer.text()
            async with client.get("/ui/playground/events") as answer:
                events = await answer.text()
            if mappings.count("SCRUBBED") == count and "SCRUBBED" in events:
                return mappings + events
            await asyncio.sleep(0.02)


async def test_a_secret_that_a_changed_config_brings_is_not_shown_either(tmp_path, monkeypatch):
    monkeypatch.setenv("LATE_TOKEN", "planted-canary")
    config, port = tmp_path / "config.yaml", free_port()
    shared = SHARED.replace("PORT", str(port))
    config.write_text(shared + TICKS.replace("NAME", "first"))
    with collector("run", "-w", "config.yaml", cwd=tmp_path):
        await until_written(tmp_path / "first.txt")
        config.write_text(shared + SECRET)
        await until_written(tmp_path / "secret.txt", "planted-canary")
        said = await until_offered(f"http://127.0.0.1:{port}", 1)
        assert "canary" not in said


async def test_a_secret_of_a_stream_that_comes_later_is_not_shown_either(tmp_path, monkeypatch):
    monkeypatch.setenv("LATE_TOKEN", "planted-canary")
    port = free_port()
    (tmp_path / "shared.yaml").write_text(SHARED.replace("PORT", str(port)))
    folder = tmp_path / "streams"
    folder.mkdir()
    (folder / "one.yaml").write_text(TICKS.replace("NAME", "one"))
    with collector("-c", "shared.yaml", "-w", "streams", "streams", cwd=tmp_path):
        await until_written(tmp_path / "one.txt")
        (folder / "two.yaml").write_text(SECRET)
        await until_written(tmp_path / "secret.txt", "planted-canary")
        said = await until_offered(f"http://127.0.0.1:{port}", 1)
        assert "canary" not in said


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(tmp_path):
    (tmp_path / "config.yaml").write_text("""
input:
  generate:
    count: 3
    interval: ""
    mapping: |
      root = {"specversion": "1.0", "id": count("dry").string(), "type": "request", "source": "s",
              "subject": "customer-1", "data": {"n": 1}}
buffer: {sqlite: {path: ./buffer.db}}
output:
  label: openmeter
  drop_on:
    error: false
    error_patterns: [Bad Request]
    output:
      http_client:
        url: http://127.0.0.1:1/events
        batching: {count: 100, period: 1h, processors: [{archive: {format: json_array}}]}
""")
    command = [sys.executable, "-m", "openmeter_collector.cli.main", "run", "--dry-run"]
    done = subprocess.run(
        [*command, "--format", "json", "config.yaml"], cwd=tmp_path, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert [event["id"] for event in events] == ["1", "2", "3"]
    assert "3 events would be sent; nothing was sent or acknowledged" in done.stderr
    assert os.listdir(tmp_path) == ["config.yaml"]  # noqa: PTH208 - no buffer was made
    done = subprocess.run(
        [*command, "--dry-run-count", "2", "config.yaml"], cwd=tmp_path, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["output", "type", "subject", "time", "id", "data"]
    assert [row.split()[1:3] for row in rows] == [["request", "customer-1"]] * 2


def test_a_dry_run_tells_no_source_that_its_events_are_safe(tmp_path):
    """A file that is deleted once it is delivered is still there; nor is one made."""
    (tmp_path / "usage.jsonl").write_text('{"id":"1"}\n{"id":"2"}\n')
    (tmp_path / "config.yaml").write_text("""
input: {file: {paths: [./usage.jsonl], delete_on_finish: true, scanner: {lines: {}}}}
output:
  switch:
    cases:
      - {check: this.id == "1", output: {file: {path: out.txt}}}
      - {output: {broker: {outputs: [{file: {path: out.txt}}, {drop: {}}]}}}
""")
    command = [sys.executable, "-m", "openmeter_collector.cli.main", "run", "--dry-run"]
    done = subprocess.run(
        [*command, "--format", "json", "config.yaml"], cwd=tmp_path, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["output"], one["event"]["id"]) for one in shown] == [
        ("root.output.switch.cases.0.output", "1"),
        ("root.output.switch.cases.1.output.broker.outputs.0", "2"),
    ]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["config.yaml", "usage.jsonl"]


def test_a_dry_run_beside_a_running_collector_says_in_a_line_what_is_in_its_way(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "config.yaml").write_text(
            f"input: {{http_server: {{address: '{address}'}}}}\noutput: {{drop: {{}}}}\n"
        )
        command = [sys.executable, "-m", "openmeter_collector.cli.main", "run", "--dry-run"]
        done = subprocess.run(
            [*command, "config.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"address '{address}' cannot be bound" in done.stderr

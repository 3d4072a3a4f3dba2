"""Published configs as their users start them: files, the command line, variables, probes."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs

import aiohttp
import pytest

from kit.aws import REGION, Aws, moto
from kit.pods import pod
from kit.run_ai import FakeRunAi
from openmeter_collector.component.env import ListenOptions
from openmeter_collector.server.listener import listen
from openmeter_collector.testing.kubernetes import FakeKubernetes
from openmeter_collector.testing.running import free_port
from openmeter_collector.testing.sandbox import Sandbox

PUBLISHED = Path(__file__).parents[1] / "published"
EVENT = {
    "specversion": "1.0", "id": "1", "source": "my-app", "type": "prompt",
    "subject": "customer-1", "data": {"tokens": "very-private-12345"},
}  # fmt: skip
JSON = {"Content-Type": "application/cloudevents+json", "Authorization": "Bearer sender-secret"}


@asynccontextmanager
async def collector(*arguments, cwd, env):
    command = [sys.executable, "-m", "openmeter_collector.cli.main", *arguments]
    with (cwd / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=cwd, stdout=log, stderr=log, env={**os.environ, **env}
        )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                code = await process.wait()
            assert code == 0, (cwd / "log").read_text()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def until_ready(port):
    async with asyncio.timeout(30), aiohttp.ClientSession() as client:
        while True:
            try:
                async with client.get(f"http://127.0.0.1:{port}/ready") as answer:
                    if answer.status == 200:
                        return await answer.text()
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)


async def test_the_http_server_preset(tmp_path):
    """Accepts, refuses, delivers, and says nothing of events and tokens at INFO."""
    ingest, service = free_port(), free_port()
    async with Sandbox(tokens=["our-secret"]).serve() as sandbox:
        env = {
            "OPENMETER_URL": sandbox.url, "OPENMETER_TOKEN": "our-secret", "LOG_LEVEL": "INFO",
            "BUFFER_PATH": str(tmp_path / "buffer.db"), "K8S_APP_INSTANCE": "pod-1",
        }  # fmt: skip
        async with collector(
            "--config", str(PUBLISHED / "preset-http-server.yaml"),
            "-s", f"input.http_server.address=127.0.0.1:{ingest}",
            "-s", f"http.address=127.0.0.1:{service}",
            cwd=tmp_path, env=env,
        ):  # fmt: skip
            assert '"connected":true' in await until_ready(service)
            url = f"http://127.0.0.1:{ingest}/api/v1/events"
            async with aiohttp.ClientSession() as client:
                async with client.post(url, data=json.dumps(EVENT), headers=JSON) as answer:
                    assert answer.status == 204
                async with client.post(url, data='{"id": "no"}', headers=JSON) as answer:
                    assert answer.status == 400
                    assert answer.headers["Content-Type"] == "application/problem+json"
                    assert (await answer.json(content_type=None))["detail"].startswith(
                        "invalid event: "
                    )
                async with client.get(url) as answer:
                    assert answer.status == 405
                await sandbox.wait_for_events(1)
                async with client.get(f"http://127.0.0.1:{service}/benthos/metrics") as answer:
                    metrics = await answer.text()
    assert json.loads(sandbox.events[0].raw)["data"] == EVENT["data"]
    assert 'openmeter_event_received{label="",path="root.input.processors.0"} 2' in metrics
    assert 'label="validation"' in metrics
    assert "process_cpu_seconds_total" in metrics
    log = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["service"] for line in lines} == {"openmeter-collector"}
    assert {line["instance"] for line in lines} == {"pod-1"}
    for hidden in ("very-private", "our-secret", "sender-secret"):
        assert hidden not in log
    assert lines[-1]["msg"] == "stopped, nothing is left to deliver"


async def test_the_quickstart_with_its_command_line(tmp_path):
    """`--config ... --log.level ... --resources GLOB streams --no-api GLOB`, globs unexpanded."""
    ingest, service = free_port(), free_port()
    moved = {
        "0.0.0.0:8889": f"127.0.0.1:{ingest}",
        "0.0.0.0:4195": f"127.0.0.1:{service}",
        "/var/lib/collector": str(tmp_path),
    }
    for name, place in (("config", "config.yaml"), ("resources", "resources/dedupe-cache.yaml"),
                        ("input", "streams/input.yaml"), ("output", "streams/output.yaml")):  # fmt: skip
        text = (PUBLISHED / f"quickstart-{name}.yaml").read_text()
        for old, new in moved.items():
            text = text.replace(old, new)
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text)
    async with Sandbox().serve() as sandbox:
        async with collector(
            "--config", "config.yaml", "--log.level", "debug", "--resources", "resources/*.yaml",
            "streams", "--no-api", "streams/*.yaml",
            cwd=tmp_path, env={"OPENMETER_URL": sandbox.url},
        ):  # fmt: skip
            assert await until_ready(service) == "OK"
            url = f"http://127.0.0.1:{ingest}/api/v1/events"
            async with aiohttp.ClientSession() as client:
                for status in (204, 200):  # a duplicate is dropped, so nobody makes an answer
                    async with client.post(url, data=json.dumps(EVENT), headers=JSON) as answer:
                        assert answer.status == status
                kind = {"Content-Type": "application/cloudevents-batch+json"}
                batch = json.dumps([EVENT | {"id": "2"}, EVENT | {"id": "3"}])
                async with client.post(url, data=batch, headers=kind) as answer:
                    assert answer.status == 204
                async with client.post(url, data="x", headers={"Content-Type": "a/b"}) as answer:
                    assert answer.status == 400
                await sandbox.wait_for_events(3)
                async with client.get(f"http://127.0.0.1:{service}/streams") as answer:
                    assert answer.status == 404
                async with client.get(f"http://127.0.0.1:{service}/metrics") as answer:
                    metrics = await answer.text()
        assert len(sandbox.events) == 3
    for stream in ("input", "output"):
        assert f'stream="{stream}"' in metrics


async def test_the_quickstarts_seeder(tmp_path):
    async with Sandbox().serve() as sandbox:
        env = {"OPENMETER_URL": sandbox.url, "SEEDER_COUNT": "10", "SEEDER_INTERVAL": "1ms"}
        command = [
            sys.executable, "-m", "openmeter_collector.cli.main",
            "-c", str(PUBLISHED / "quickstart-seeder.yaml"),
            "-s", f"http.address=127.0.0.1:{free_port()}",
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, env={**os.environ, **env}, stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(60):
            assert await process.wait() == 0
        assert len(sandbox.events) == 10
        assert {event.source for event in sandbox.events} == {"api-gateway"}


def arguments(name, **overrides):
    """`-c` with a published config, and what belongs to the place."""
    made = ["-c", str(PUBLISHED / f"{name}.yaml"), "-s", f"http.address=127.0.0.1:{free_port()}"]
    for path, value in overrides.items():
        made += ["-s", f"{path.replace('__', '.')}={value}"]
    return made


async def run_to_the_end(*given, cwd, env):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openmeter_collector.cli.main", *given,
        cwd=cwd, env={**os.environ, **env}, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(90):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_the_databases_example_with_its_seeder(tmp_path):
    """Rows that the seeder wrote become events, with the plan of the customer."""
    (tmp_path / "init.sql").write_text(
        "CREATE TABLE IF NOT EXISTS messages (message_id TEXT PRIMARY KEY, account_id TEXT, "
        "sender TEXT, recipient TEXT, message TEXT, time DATETIME);\n"
    )
    env = {"DATABASE_DRIVER": "sqlite", "DATABASE_DSN": f"file:{tmp_path}/chat.db",
           "SEEDER_INTERVAL": "1ms"}  # fmt: skip
    await run_to_the_end(
        *arguments("database-seeder", input__generate__count=12), cwd=tmp_path, env=env
    )
    async with Sandbox().serve() as sandbox:
        env["OPENMETER_URL"] = sandbox.url
        await run_to_the_end(*arguments("database"), cwd=tmp_path, env=env)
        events = [json.loads(event.raw) for event in sandbox.events]
    assert len(events) == 12
    for event in events:
        data = event["data"]
        enterprise = event["subject"] == "dundermifflin"
        assert event["type"] == "chat-message"
        assert data["plan"] == ("enterprise" if enterprise else "pro")
        assert data["message_length_billable"] == (0 if enterprise else data["message_length"])


async def test_the_opentelemetry_page_with_its_seeder(tmp_path):
    port = free_port()
    async with Sandbox().serve() as sandbox:
        env = {"OPENMETER_URL": sandbox.url, "OTLP_ADDRESS": f"127.0.0.1:{port}",
               "SEEDER_INTERVAL": "1ms"}  # fmt: skip
        taking = arguments("opentelemetry", input__otel_log__address=f"127.0.0.1:{port}")
        async with collector(*taking, cwd=tmp_path, env=env):
            await until_ready(taking[3].rpartition(":")[2])
            await run_to_the_end(
                *arguments("opentelemetry-seeder", input__generate__count=5), cwd=tmp_path, env=env
            )
            await sandbox.wait_for_events(5)
        events = [json.loads(event.raw) for event in sandbox.events]
    assert {event["source"] for event in events} == {"otlp-log"}
    assert all(event["data"]["method"] in ("GET", "POST") for event in events)
    assert all(isinstance(event["data"]["duration_ms"], int) for event in events)


async def test_the_prometheus_page(tmp_path):
    asked = []

    async def prometheus(scope, receive, send):
        body = await receive()
        asked.append(parse_qs(body["body"].decode()))
        moment = float(asked[-1]["time"][0])
        sample = {"metric": {"instance": "node-1"}, "value": [moment, "12.5"]}
        found = {"status": "success", "data": {"resultType": "vector", "result": [sample]}}
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps(found).encode()})

    async with (
        Sandbox().serve() as sandbox,
        listen(prometheus, ListenOptions("127.0.0.1:0")) as bound,
    ):
        env = {"OPENMETER_URL": sandbox.url, "PROMETHEUS_URL": f"http://{bound.address}"}
        given = arguments("prometheus", input__prometheus__schedule='"* * * * * *"')
        async with collector(*given, cwd=tmp_path, env=env):
            await sandbox.wait_for_events(2)
        event = json.loads(sandbox.events[0].raw)
    assert (event["type"], event["source"], event["subject"]) == (
        "node_cpu_usage", "prometheus", "node-1",
    )  # fmt: skip
    assert event["data"]["value"][1] == "12.5"
    assert asked[0]["query"][0].startswith("sum(increase(node_cpu_seconds_total")


async def test_the_page_about_s3(tmp_path):
    """What is in the folder of this hour, once; the collector ends."""
    row = '{"id":"%s","time":"2024-05-01T12:00:00Z","subject_field":"customer-1","data_field":7}\n'
    hour = int(time.time()) // 3600 * 3600
    with moto() as url:
        async with Aws.at(url) as aws, Sandbox().serve() as sandbox:
            await aws.s3.create_bucket(Bucket="my-bucket")
            for folder in (hour, hour + 3600):  # an hour may end meanwhile
                await aws.put("my-bucket", f"{folder}/a.jsonl", row % "1" + row % "2")
            await aws.put("my-bucket", "1/b.jsonl", row % "other")
            env = {"OPENMETER_URL": sandbox.url, "AWS_REGION": REGION,
                   "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}  # fmt: skip
            given = arguments(
                "s3", input__aws_s3__endpoint=url, input__aws_s3__force_path_style_urls="true",
                input__aws_s3__scanner__lines="{}",
            )  # fmt: skip
            await run_to_the_end(*given, cwd=tmp_path, env=env)
            events = [json.loads(event.raw) for event in sandbox.events]
    assert sorted(event["id"] for event in events) == ["1", "2"]
    assert {event["subject"] for event in events} == {"customer-1"}
    assert {event["type"] for event in events} == {"your-usage-event-type"}
    assert all(event["data"] == {"data": 7} for event in events)


async def test_the_page_about_run_ai(tmp_path):
    control_plane = FakeRunAi(time.time)
    control_plane.add("w1", time.time() - 3600, gpus=3)

    async def serve(scope, receive, send):
        path = f"{scope['path']}?{scope['query_string'].decode()}"
        headers = {name.decode().title(): value.decode() for name, value in scope["headers"]}
        body = (await receive()).get("body", b"")
        given = SimpleNamespace(url=f"http://x{path}", headers=headers, body=body)
        answer = control_plane(given)
        await send({"type": "http.response.start", "status": answer.status, "headers": []})
        await send({"type": "http.response.body", "body": answer.body})

    async with (
        Sandbox().serve() as sandbox,
        listen(serve, ListenOptions("127.0.0.1:0")) as bound,
    ):
        env = {"OPENMETER_URL": sandbox.url, "RUNAI_URL": f"http://{bound.address}",
               "RUNAI_APP_ID": "me", "RUNAI_APP_SECRET": "s3cret"}  # fmt: skip
        given = arguments("run-ai", input__run_ai__schedule='"* * * * * *"')
        async with collector(*given, cwd=tmp_path, env=env):
            await sandbox.wait_for_events(1)
        event = json.loads(sandbox.events[0].raw)
    assert (event["type"], event["source"], event["subject"]) == ("workload", "run_ai", "name-w1")
    assert event["data"]["project"] == "p1"
    assert event["data"]["gpuAllocationMinutes"] == 3 / 60
    assert "s3cret" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("name", "kind", "overrides"),
    [
        ("preset-kubernetes", "kubernetes", {}),
        (
            "kubernetes",
            "kube-pod-exec-time",
            {
                "input__schedule__interval": "1s",
                "input__schedule__input__kubernetes_resources__namespaces": "[]",
                "input__schedule__input__kubernetes_resources__label_selector": "app=seed",
            },
        ),
    ],
)
async def test_the_page_and_the_preset_about_kubernetes(tmp_path, name, kind, overrides):
    """A running pod, with the subject and the data of its annotations."""
    about = {"openmeter.io/subject": "customer-1", "data.openmeter.io/tier": "gold"}
    async with FakeKubernetes().serve() as server, Sandbox().serve() as sandbox:
        server.put("pods", pod("seed-1", labels={"app": "seed"}, annotations=about))
        server.put("pods", pod("other", labels={"app": "other"}))
        (tmp_path / "kubeconfig").write_text(server.kubeconfig())
        env = {"OPENMETER_URL": sandbox.url, "KUBECONFIG": str(tmp_path / "kubeconfig"),
               "SCRAPE_INTERVAL": "1s"}  # fmt: skip
        async with collector(*arguments(name, **overrides), cwd=tmp_path, env=env):
            await sandbox.wait_for_events(1)
        events = [json.loads(event.raw) for event in sandbox.events]
    assert {(one["type"], one["subject"]) for one in events} == {(kind, "customer-1")}
    data = events[0]["data"]
    assert (data["pod_name"], data["tier"], data["duration_seconds"]) == ("seed-1", "gold", 1)

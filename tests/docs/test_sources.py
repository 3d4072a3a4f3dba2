"""The pages about sources: their configs run, the events are those that come out, the meters count them."""

import asyncio
import hashlib
import hmac
import json
import re
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from kit.aws import Aws, moto
from kit.databases import SERVERS, clickhouse, postgres
from kit.delivering import delivering, post
from kit.pages import like, page, pages
from kit.pods import pod
from kit.prometheus import prometheus
from kit.run_ai import FakeRunAi
from kit.sql import execute
from kit.waiting import eventually
from openmeter_collector.api import HttpResponse
from openmeter_collector.component.env import ListenOptions
from openmeter_collector.presets import preset
from openmeter_collector.server.listener import listen
from openmeter_collector.testing.kubernetes import FakeKubernetes
from openmeter_collector.testing.running import free_port

EVERY = pytest.mark.parametrize("one", pages(), ids=lambda one: one.name)
MEASURED = {
    "GPU_ALLOCATION": "2", "GPU_UTILIZATION": "50",
    "CPU_LIMIT_CORES": "4", "CPU_REQUEST_CORES": "2", "CPU_USAGE_CORES": "1.5",
    "CPU_MEMORY_LIMIT_BYTES": "8e9", "CPU_MEMORY_REQUEST_BYTES": "4e9", "CPU_MEMORY_USAGE_BYTES": "3e9",
}  # fmt: skip
ROW = ("2026-03-01 10:00:00", "2026-03-01T10:00:00Z")


# ---- what can be said of a page by reading it ----------------------------------------------------


@EVERY
def test_the_meters_of_a_page_count_its_events(one):
    assert one.meters
    for meter in one.meters:
        assert re.fullmatch(r"[a-z0-9_]{1,63}", meter["slug"])
        assert meter["aggregation"] in {"COUNT", "SUM", "AVG", "MIN", "MAX", "UNIQUE_COUNT"}
        counted = [event for event in one.events if event["type"] == meter["eventType"]]
        assert counted, f"no event of the page is counted by {meter['slug']}"
        assert ("valueProperty" in meter) == (meter["aggregation"] != "COUNT")
        for event in counted:
            if "valueProperty" in meter:
                float(found(event, meter["valueProperty"]))
            for path in meter.get("groupBy", {}).values():
                assert isinstance(found(event, path), str)
    assert {event["type"] for event in one.events} == {one["eventType"] for one in one.meters}


def found(event, path):
    """What `$.name` is in the data of an event."""
    name = re.fullmatch(r"\$\.(\w+)", path)
    assert name, f"{path} is no plain path"
    return event["data"][name[1]]


@EVERY
def test_a_page_asks_one_of_its_meters(one):
    asked = re.findall(r"/api/v1/meters/(\w+)/query\?windowSize=\w+&groupBy=(\w+)", one.text)
    assert asked
    meters = {meter["slug"]: meter for meter in one.meters}
    for slug, by in asked:
        assert by in {"subject", *meters[slug].get("groupBy", ())}


@EVERY
def test_a_page_goes_from_the_config_to_what_can_fail(one):
    assert "openmeter-collector run --preset" in one.text or one.configs
    assert "## When it fails" in one.text
    for told in ("README.md#try-it-without-an-account", "--dry-run", "curl "):
        if told in one.text:
            break
    else:
        pytest.fail("the page does not say how to try it")


# ---- what comes out ------------------------------------------------------------------------------


def text_of(name):
    return preset(name).path.read_text()


async def test_an_event_over_http(tmp_path):
    one, port = page("http"), free_port()
    (shown,) = re.findall(r"curl -i \S+/api/v1/events .*?-d '(.*?)'", one.text, re.DOTALL)
    env = {"HTTP_ADDRESS": f"127.0.0.1:{port}", "INGEST_TOKEN": "for-senders"}
    async with delivering(text_of("http-server"), tmp_path, **env) as events:
        url = f"http://127.0.0.1:{port}/api/v1/events"
        kind = {"Content-Type": "application/cloudevents+json"}
        assert await post(url, shown, **kind) == 401
        assert await post(url, shown, **kind, Authorization="Bearer for-senders") == 204
        assert await events() == one.events[:1]


async def test_a_webhook(tmp_path):
    one, port = page("http"), free_port()
    shown = one.events[1]
    body = json.dumps(
        {"id": shown["id"], "created": 1_700_000_000, "type": shown["type"],
         "data": {"object": shown["data"]}}
    )  # fmt: skip
    now = int(time.time())
    signed = hmac.new(b"whsec_test", f"{now}.{body}".encode(), hashlib.sha256).hexdigest()
    env = {"HTTP_ADDRESS": f"127.0.0.1:{port}", "WEBHOOK_SCHEME": "stripe",
           "WEBHOOK_SECRET": "whsec_test"}  # fmt: skip
    async with delivering(text_of("webhooks"), tmp_path, **env) as events:
        url = f"http://127.0.0.1:{port}/webhooks"
        assert await post(url, body) == 401
        assert await post(url, body, **{"Stripe-Signature": f"t={now},v1={signed}"}) == 200
        assert await events() == [shown]


async def test_json_of_ones_own(tmp_path):
    one, port = page("http"), free_port()
    (shown,) = re.findall(r"curl -i \S+/usage -d '(.*?)'", one.text)
    env = {"HTTP_ADDRESS": f"127.0.0.1:{port}"}
    async with delivering(one.configs["readings.yaml"], tmp_path, **env) as events:
        assert await post(f"http://127.0.0.1:{port}/usage", shown) == 200
        assert await events() == [one.events[2]]


async def test_pods(tmp_path):
    """A window of a second; on the page it is a minute, so amounts are sixty times as much."""
    (shown,) = page("kubernetes").events
    about = {"openmeter.io/subject": "customer-1", "data.openmeter.io/plan": "gold"}
    async with FakeKubernetes().serve() as server:
        server.put("pods", pod("worker-0", "shop", annotations=about))
        (tmp_path / "kubeconfig").write_text(server.kubeconfig())
        config = text_of("kubernetes-pods").replace(
            "  kubernetes_usage:\n", f"  kubernetes_usage:\n    kubeconfig: {tmp_path}/kubeconfig\n"
        )
        async with delivering(config, tmp_path, SCRAPE_INTERVAL="1s") as events:
            event = (await events())[0]
    assert like(minute_of(event), shown, "id", "time") == shown


def minute_of(event):
    data = {
        key: round(value * 60, 9) if type(value) in (int, float) else value
        for key, value in event["data"].items()
    }
    return event | {"data": data}


async def test_a_query_to_prometheus(tmp_path):
    """A counter that goes up by 42 in each window of a second; on the page it is a minute."""
    one = page("prometheus")
    (shown,) = one.events
    (query,) = re.findall(r"PROMETHEUS_QUERY='(.*)'", one.text)
    async with prometheus(tmp_path) as server:
        labels = {"__name__": "tokens_total", "customer": "customer-1", "model": "small"}
        began = int(time.time()) - 60
        samples = [((began + at) * 1000 + 500, at * 42.0) for at in range(180)]
        await server.write([(labels, samples)])
        env = {"PROMETHEUS_URL": server.url, "PROMETHEUS_QUERY": query, "EVENT_TYPE": "tokens",
               "PROMETHEUS_SCHEDULE": "* * * * * *", "PROMETHEUS_QUERY_OFFSET": "1s"}  # fmt: skip
        async with delivering(text_of("prometheus"), tmp_path, **env) as events:
            made = await events(2)
    assert [like(event, shown, "id", "time") for event in made] == [shown] * len(made)
    assert len({event["id"] for event in made}) == len(made)


async def test_a_counter_and_a_log_record_of_opentelemetry(tmp_path):
    counted, logged = page("opentelemetry").events
    grpc, http = free_port(), free_port()
    resource = Resource.create({"service.name": "api", "service.instance.id": "1"})

    def use():
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=f"127.0.0.1:{grpc}", insecure=True), 3_600_000
        )
        meters = MeterProvider([reader], resource=resource)
        meters.get_meter("lib").create_counter("tokens").add(
            42, {"customer.id": "customer-1", "model": "small"}
        )
        meters.shutdown()
        logs = LoggerProvider(resource=resource)
        exporter = OTLPLogExporter(endpoint=f"http://127.0.0.1:{http}/v1/logs")
        logs.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        logs.get_logger("lib").emit(
            LogRecord(
                timestamp=1_772_359_200_000_000_000,
                event_name="api-call",
                body={"route": "/search"},
                attributes={"customer.id": "customer-1", "milliseconds": 12},
            )
        )
        logs.shutdown()

    env = {"OTLP_GRPC_ADDRESS": f"127.0.0.1:{grpc}", "OTLP_HTTP_ADDRESS": f"127.0.0.1:{http}"}
    async with delivering(text_of("otel"), tmp_path, **env) as events:
        await eventually(lambda: any("over HTTP" in line for line in events.lines))
        await asyncio.to_thread(use)
        made = {event["type"]: event for event in await events(2)}
    assert like(made["tokens"], counted, "id", "time") == counted
    # The id is of the resource, too, in which the SDK's version is.
    assert like(made["api-call"], logged, "id") == logged


async def test_rows_of_postgresql(tmp_path):
    """As a user with the grants of the page and no more, for the table of the page."""
    one = page("postgresql")
    with postgres() as server:
        await execute(server, *statements(one.scripts["table"] + one.scripts["grants"]))
        await execute(
            server,
            f"INSERT INTO orders VALUES (1041, 'customer-1', 19.90, 'EUR', '{ROW[0]}+00')",
        )
        dsn = server.dsn.replace("postgres@", "meter:secret@")
        env = {"POSTGRES_DSN": dsn, "POSTGRES_TABLE": "orders", "EVENT_TYPE": "order",
               "POSTGRES_LAG": "0s"}  # fmt: skip
        async with delivering(text_of("postgres"), tmp_path, **env) as events:
            assert await events() == [one.events[0]]


async def test_changes_of_postgresql(tmp_path):
    one = page("postgresql")
    with postgres() as server:
        await execute(server, *statements(one.scripts["table"]))
        await execute(server, *statements(one.scripts["grants for changes"]))
        insert = "INSERT INTO orders VALUES ({}, 'customer-1', 19.90, 'EUR', '{}+00')"
        await execute(server, insert.format(1041, ROW[0]))
        dsn = server.dsn.replace("postgres@", "meter_changes:secret@")
        config = one.configs["changes.yaml"]
        async with delivering(config, tmp_path, POSTGRES_DSN=dsn) as events:
            assert await events() == [one.events[1]]
            await execute(server, insert.format(1042, ROW[0]), "DELETE FROM orders WHERE id = 1041")
            before, after = await events(2)
    assert like(after, before, "id") == before
    assert after["id"] != before["id"]


def statements(script):
    return [one for one in script.split(";\n") if one.strip()]


async def test_rows_of_clickhouse(tmp_path):
    one = page("clickhouse")
    with clickhouse() as server:
        await execute(server, one.scripts["table"])
        await execute(
            server, f"INSERT INTO orders VALUES (1041, 'customer-1', 19.90, 'EUR', '{ROW[0]}')"
        )
        env = {"CLICKHOUSE_DSN": server.dsn, "CLICKHOUSE_TABLE": "orders", "EVENT_TYPE": "order",
               "CLICKHOUSE_LAG": "0s"}  # fmt: skip
        async with delivering(text_of("clickhouse"), tmp_path, **env) as events:
            assert await events() == one.events


@pytest.mark.parametrize(
    ("driver", "kind", "at"),
    [
        ("sqlite", "TEXT", ROW[1]),
        ("duckdb", "TIMESTAMP", ROW[0]),
        ("mysql", "DATETIME", ROW[0]),
    ],
)
async def test_rows_of_the_other_databases(tmp_path, driver, kind, at):
    one = page("databases")
    with SERVERS[driver]() as server:
        table = one.scripts["requests.sql"].replace("created_at TEXT", f"created_at {kind}")
        if driver == "mysql":
            table = table.replace(" TEXT", " VARCHAR(40)")
        await execute(server, *statements(table.replace(ROW[1], at)))
        env = {"DB_DRIVER": driver, "DB_DSN": server.dsn, "DB_LAG": "0s"}
        async with delivering(one.configs["rows.yaml"], tmp_path, **env) as events:
            assert await events() == one.events


@pytest.mark.parametrize("told", ["by looking", "by a queue"])
async def test_objects_of_s3(tmp_path, monkeypatch, told):
    one = page("s3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with moto() as url:
        async with Aws.at(url) as aws:
            await aws.s3.create_bucket(Bucket="usage-exports")
            await aws.put("usage-exports", "2026/03/01.jsonl", one.scripts["record"])
            env = {"S3_ENDPOINT": url, "S3_PATH_STYLE": "true"}
            if told == "by looking":
                config = text_of("s3")
                env |= {"S3_BUCKET": "usage-exports", "S3_INTERVAL": "50ms",
                        "EVENT_TYPE": "request", "SUBJECT_FIELD": "customer_id"}  # fmt: skip
            else:
                config = one.configs["queue.yaml"]
                env["SQS_URL"] = await aws.queue()
                at = {"bucket": {"name": "usage-exports"}, "object": {"key": "2026/03/01.jsonl"}}
                notice = json.dumps({"Records": [{"s3": at}]})
                await aws.sqs.send_message(QueueUrl=env["SQS_URL"], MessageBody=notice)
            async with delivering(config, tmp_path, **env) as events:
                assert await events() == one.events


async def test_a_folder_of_exports(tmp_path):
    one = page("files")
    (tmp_path / "march.csv").write_text(one.scripts["march.csv"])
    env = {"EXPORTS": str(tmp_path)}
    async with delivering(one.configs["exports.yaml"], tmp_path, **env) as events:
        assert await events() == [one.events[0]]
        await eventually(lambda: not (tmp_path / "march.csv").exists())


async def test_a_log_that_grows(tmp_path):
    one = page("files")
    line = {"customer": "customer-1", "at": ROW[1], "route": "/search", "bytes": 5120}
    log = tmp_path / "usage.log"
    log.write_text(json.dumps(line) + "\n")
    async with delivering(one.configs["log.yaml"], tmp_path, LOGS=str(tmp_path)) as events:
        assert [like(event, one.events[1], "id") for event in await events()] == [one.events[1]]
        log.rename(tmp_path / "usage.log.1")
        log.write_text(json.dumps(line | {"route": "/other"}) + "\n")
        assert [event["data"]["route"] for event in await events(2)] == ["/search", "/other"]


async def test_workloads_of_run_ai(tmp_path):
    """A window of a second; on the page it is a minute, so amounts are sixty times as much."""
    (shown,) = page("run-ai").events
    control_plane = FakeRunAi(time.time)
    control_plane.add("w-1", time.time() - 3600, projectName="vision")

    def measured(path, query):
        if not path.endswith("/metrics"):
            return None
        made = [
            {"type": kind, "values": [{"value": MEASURED[kind], "timestamp": query["end"]}]}
            for kind in query["metricType"].split(",")
            if kind in MEASURED
        ]
        return HttpResponse(200, {}, json.dumps({"measurements": made}).encode())

    control_plane.fail = measured

    async def serve(scope, receive, send):
        path = f"{scope['path']}?{scope['query_string'].decode()}"
        headers = {name.decode().title(): value.decode() for name, value in scope["headers"]}
        body = (await receive()).get("body", b"")
        answer = control_plane(SimpleNamespace(url=f"http://x{path}", headers=headers, body=body))
        await send({"type": "http.response.start", "status": answer.status, "headers": []})
        await send({"type": "http.response.body", "body": answer.body})

    async with listen(serve, ListenOptions("127.0.0.1:0")) as bound:
        env = {"RUNAI_URL": f"http://{bound.address}", "RUNAI_APP_ID": "me",
               "RUNAI_APP_SECRET": "s3cret", "RUNAI_SCHEDULE": "* * * * * *"}  # fmt: skip
        async with delivering(text_of("run-ai"), tmp_path, **env) as events:
            event = (await events())[0]
    assert datetime.fromisoformat(event["time"]) < datetime.now(UTC)
    assert like(minute_of(event), shown, "id", "time", "data.tenant") == shown

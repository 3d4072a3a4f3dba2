"""Probes and metrics, as existing installations ask for them."""

from contextlib import asynccontextmanager

import aiohttp
import pytest

from openmeter_collector import __version__
from openmeter_collector.component.buffer import BufferStatus
from openmeter_collector.component.env import ListenOptions
from openmeter_collector.engine.status import Connection, PipelineStatus
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.telemetry.counters import MetricStore


def pipeline(*, connected=True, failure=None) -> PipelineStatus:
    status = PipelineStatus(
        input=Connection("in", "root.input", connected),
        output=Connection("", "root.output", connected=True),
    )
    status.buffer = lambda: BufferStatus(0, 0, 0, 0.0, 0, None, failure)
    return status


@asynccontextmanager
async def served(service: Service):
    async with (
        listen(service, ListenOptions("127.0.0.1:0")) as listener,
        aiohttp.ClientSession(f"http://{listener.address}") as client,
    ):
        yield client


async def answer(service: Service, path: str) -> tuple[int, str, str]:
    async with served(service) as client, client.get(path) as got:
        return got.status, got.content_type, await got.text()


@pytest.mark.parametrize("prefix", ["", "/benthos"])
async def test_every_endpoint_answers_below_the_root_path_too(prefix):
    service = Service(MetricStore(), {"": pipeline()})
    async with served(service) as client:
        for path in ("/ping", "/ready", "/version", "/endpoints", "/metrics", "/stats"):
            async with client.get(prefix + path) as got:
                assert got.status == 200, path


async def test_ping_and_version():
    service = Service(MetricStore(), {"": pipeline()})
    assert await answer(service, "/ping") == (200, "text/plain", "pong")
    assert f'"version":"{__version__}"' in (await answer(service, "/version"))[2]


async def test_ready_says_which_component_is_not_connected():
    status, kind, body = await answer(
        Service(MetricStore(), {"": pipeline(connected=False)}), "/ready"
    )
    assert (status, kind) == (503, "application/json")
    assert '{"label":"in","path":"root.input","connected":false}' in body


async def test_a_journal_that_cannot_be_written_is_not_ready():
    service = Service(MetricStore(), {"": pipeline(failure="disk full")})
    status, _, body = await answer(service, "/ready")
    assert status == 503
    assert "disk full" in body


async def test_a_destination_that_refuses_us_makes_unready_but_one_that_is_away_does_not():
    """Taking events while the destination is away is what the buffer is for."""
    away = pipeline()
    away.delivery.last_error = "no answer"
    away.delivery.last_failure = 1.0
    assert (await answer(Service(MetricStore(), {"": away}), "/ready"))[0] == 200
    refusing = pipeline()
    refusing.delivery.paused = True
    refusing.delivery.last_error = "401 Unauthorized"
    status, _, body = await answer(Service(MetricStore(), {"": refusing}), "/ready")
    assert status == 503
    assert "401 Unauthorized" in body


async def test_without_any_pipeline_it_is_not_ready():
    assert (await answer(Service(MetricStore(), {}), "/ready"))[0] == 503


async def test_metrics_are_prometheus_text():
    store = MetricStore()
    store.scope(path="root.input").counter("input_received").add(2)
    status, kind, body = await answer(Service(store, {"": pipeline()}), "/metrics")
    assert (status, kind) == (200, "text/plain")
    assert 'input_received{path="root.input"} 2' in body


async def test_what_a_component_mounts_is_served_until_it_ends():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    service = Service(MetricStore(), {"": pipeline()})
    async with served(service) as client:
        async with service.mount(["/post", "/tree/"], app, "For posts."):
            async with client.get("/endpoints") as got:
                assert (await got.json())["/post"] == "For posts."
            for path, wanted in (("/post", 201), ("/tree/a/b", 201), ("/postx", 404)):
                async with client.get(path) as got:
                    assert got.status == wanted, path
        async with client.get("/post") as got:
            assert got.status == 404

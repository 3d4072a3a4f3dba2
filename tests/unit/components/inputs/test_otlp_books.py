"""What OTLP turns away is in the journal's books and in the metrics, and what comes again is not."""

import gzip
from contextlib import asynccontextmanager

import aiohttp
import grpc
import pytest

from kit.otlp import METHODS, Intake, log_request, taking
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.components.inputs.otel_log import OtelLog
from openmeter_collector.components.inputs.otlp import OtlpInput
from openmeter_collector.errors import BatchFailed, Overloaded, Rejected, Retryable
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.ledger import total
from openmeter_collector.storage.visit import reading
from openmeter_collector.testing.running import free_port, running
from openmeter_collector.values.units import ByteSize

TOKEN = {"authorization": "Bearer right"}
REQUEST = log_request("a", "b").SerializeToString()
LIMITS = {"tokens": ["right"], "max_request_bytes": ByteSize("64KiB")}
INPUTS = pytest.mark.parametrize("kind", [OtelLog, OtlpInput])


async def call(address, body, compression=None, **metadata):
    """The code of one export over gRPC."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            await channel.unary_unary(METHODS["logs"])(
                body, metadata=tuple(metadata.items()), compression=compression, timeout=20
            )
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"


async def post(address, body, kind="application/x-protobuf", path="/v1/logs", **headers):
    """The status of one export over HTTP."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(address + path, data=body, headers={"content-type": kind} | headers) as answer,
    ):
        return answer.status


@INPUTS
@pytest.mark.parametrize(
    ("body", "given", "code", "reason"),
    [
        (REQUEST, {}, "UNAUTHENTICATED", "no valid token"),
        (b"\xff\xff", TOKEN, "INVALID_ARGUMENT", "unreadable request"),
        (b"x" * 100_000, TOKEN, "RESOURCE_EXHAUSTED", "request too large or broken off"),
        (
            b"x" * 100_000,
            {**TOKEN, "compression": grpc.Compression.Gzip},
            "RESOURCE_EXHAUSTED",
            "request too large or broken off",
        ),
    ],
)
async def test_what_grpc_turns_away_is_counted_with_the_reason(kind, body, given, code, reason):
    intake = Intake()
    async with taking(kind, intake, **LIMITS) as server:
        assert await call(server.grpc, body, **given) == code
        assert await call(server.grpc, REQUEST, **TOKEN) == "OK"
        assert intake.turned_away == [reason]
        assert server.total("otlp_refused") == 1
        assert server.total("otlp_records") == 2


@pytest.mark.parametrize(
    ("body", "headers", "code", "reason"),
    [
        (REQUEST, {}, 401, "no valid token"),
        (b"\xff\xff", TOKEN, 400, "unreadable request"),
        (b"x" * 100_000, TOKEN, 413, "body too large"),
        (
            gzip.compress(b"x" * 100_000),
            {**TOKEN, "content-encoding": "gzip"},
            413,
            "body too large",
        ),
        (REQUEST, {**TOKEN, "content-encoding": "br"}, 415, "unknown encoding"),
        (REQUEST, {**TOKEN, "kind": "text/plain"}, 415, "unknown encoding"),
    ],
)
async def test_what_http_turns_away_is_counted_with_the_reason(body, headers, code, reason):
    intake = Intake()
    async with taking(OtlpInput, intake, **LIMITS) as server:
        assert await post(server.http, body, **headers) == code
        assert intake.turned_away == [reason]
        assert server.total("otlp_refused") == 1


@INPUTS
@pytest.mark.parametrize(
    ("verdict", "code", "records"),
    [
        (BatchFailed({1: Rejected("bad")}), "OK", 1),
        (BatchFailed({0: Rejected("bad"), 1: Rejected("bad")}), "INVALID_ARGUMENT", 2),
        (Rejected("bad"), "INVALID_ARGUMENT", 2),
        (BatchFailed({0: Rejected("bad"), 1: Retryable("later")}), "UNAVAILABLE", 0),
        (Retryable("later"), "UNAVAILABLE", 0),
        (Overloaded("full", 1.0), "UNAVAILABLE", 0),
    ],
)
async def test_records_that_are_refused_are_counted_one_by_one(kind, verdict, code, records):
    intake = Intake(verdict)
    async with taking(kind, intake) as server:
        assert await call(server.grpc, REQUEST) == code
        assert intake.turned_away == ["refused by the pipeline"] * records
        assert server.total("otlp_records_refused") == records
        assert server.total("otlp_put_off") == (code == "UNAVAILABLE")


async def test_what_is_no_record_is_not_in_the_books():
    intake = Intake()
    async with taking(OtlpInput, intake) as server:
        assert await post(server.http, REQUEST, path="/elsewhere") == 404
    assert intake.turned_away == []


@asynccontextmanager
async def counted(folder):
    """An input in front of a journal, whose processors refuse the body `b`; what its books say."""
    ports = free_port(), free_port()
    path = folder / "buffer.db"
    found = {}
    config = f"""
http: {{enabled: false}}
input:
  otlp:
    grpc_address: 127.0.0.1:{ports[0]}
    http_address: 127.0.0.1:{ports[1]}
    tokens: [ right ]
  processors:
    - mapping: root = if this.record.body == "b" {{ throw("no") }} else {{ this }}
error_handling: {{strict: true}}
buffer: {{sqlite: {{path: "{path}", min_free_bytes: 0}}}}
output: {{drop: {{}}}}
shutdown_timeout: 5s
"""
    async with running(config, standard_registry()) as pipeline:
        await pipeline.until_connected()
        yield found, f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"
    with reading(path) as connection:
        whole = total(audited(connection))
    found.update(received=whole.counts["received"], rejected=whole.rejected_for)
    assert whole.balance == 0, whole


async def test_the_books_of_the_journal_have_what_was_taken_and_what_was_not(tmp_path):
    async with counted(tmp_path) as (found, address, url):
        assert await call(address, REQUEST, **TOKEN) == "OK"
        assert await call(address, REQUEST) == "UNAUTHENTICATED"
        assert await post(url, b"\xff", **TOKEN) == 400
        assert await call(address, log_request("c").SerializeToString(), **TOKEN) == "OK"
    assert found == {
        "received": 2,
        "rejected": {
            "refused by the pipeline": 1,
            "no valid token": 1,
            "unreadable request": 1,
        },
    }

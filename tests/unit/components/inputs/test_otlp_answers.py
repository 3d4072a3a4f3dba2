"""What exporters are told: only a verdict on the data is final, everything else may be repeated."""

import asyncio
import gzip
import json
import sys

import aiohttp
import grpc
import pytest
import trustme
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from kit.otlp import Intake, Taking, log_request, taking
from openmeter_collector.components.inputs.http_ingest import TlsFiles
from openmeter_collector.components.inputs.otel_log import OtelLog
from openmeter_collector.components.inputs.otlp import OtlpInput
from openmeter_collector.components.otlp import status
from openmeter_collector.errors import BatchFailed, ConfigError, Overloaded, Rejected, Retryable
from openmeter_collector.values.units import ByteSize, Duration

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PROTOBUF, JSON = "application/x-protobuf", "application/json"
INPUTS = pytest.mark.parametrize("kind", [OtelLog, OtlpInput])


def full():
    error = Overloaded("the journal is full", 7.0)
    error.at_once = True
    return error


async def refused(intake, kind=OtelLog, request=None, **config):
    """The gRPC error of one export."""
    async with taking(kind, intake, **config) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.export(log_request("x") if request is None else request)
    return caught.value


def wait_of(error):
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    return status.retry_after(details)


@INPUTS
async def test_a_request_is_answered_when_its_records_are_safe(kind):
    intake = Intake("silent")
    async with taking(kind, intake) as server:
        export = asyncio.ensure_future(server.export(log_request("a", "b")))
        while not intake.deliveries:
            await asyncio.sleep(0.005)
        assert not export.done()
        intake.deliveries[0].settle(None)
        answer = ExportLogsServiceResponse.FromString(await export)
    assert not answer.HasField("partial_success")
    assert [value["record"]["body"] for value in intake.values] == ["a", "b"]


@INPUTS
async def test_a_full_journal_is_unavailable_with_the_time_to_come_again(kind):
    error = await refused(Intake(full()), kind)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert wait_of(error) == 7


@INPUTS
async def test_a_failure_of_ours_is_unavailable_and_never_internal(kind):
    error = await refused(Intake(Retryable("the disk is slow")), kind)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert wait_of(error) == 1


async def test_a_defect_of_ours_is_unavailable_and_logged():
    error = RuntimeError("oops")
    error.at_once = True
    intake = Intake(error)
    async with taking(OtelLog, intake) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.export(log_request("x"))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert any("oops" in line for line in server.lines)


async def test_a_buffer_that_does_not_answer_in_time_is_unavailable():
    error = await refused(Intake("silent"), timeout=Duration("50ms"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_what_can_never_be_taken_is_an_invalid_argument():
    error = await refused(Intake(Rejected("no such meter")))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "no such meter" in error.details()


async def test_what_is_no_message_is_an_invalid_argument():
    error = await refused(Intake(), request=b"\xff\xff\xff")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_some_refused_records_are_a_partial_success():
    intake = Intake(BatchFailed({1: Rejected("bad")}))
    async with taking(OtelLog, intake) as server:
        answer = ExportLogsServiceResponse.FromString(await server.export(log_request("a", "b")))
    assert answer.partial_success.rejected_log_records == 1
    assert answer.partial_success.error_message == "bad"


async def test_a_record_that_may_come_again_makes_all_of_them_come_again():
    verdict = BatchFailed({0: Rejected("bad"), 1: Retryable("later")})
    assert (await refused(Intake(verdict), request=log_request("a", "b", "c"))).code() is (
        grpc.StatusCode.UNAVAILABLE
    )


async def test_an_empty_request_is_a_success_at_once():
    intake = Intake("silent")
    async with taking(OtelLog, intake) as server:
        assert await server.export(log_request()) == b""
    assert not intake.deliveries


async def test_a_request_over_the_bound_is_refused_also_when_it_grows_by_decompression():
    config = {"max_request_bytes": ByteSize("64KiB")}
    async with taking(OtelLog, Intake(), **config) as server:
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.export(log_request("x" * 100_000), compression=compression)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await server.export(log_request("x" * 50_000), compression=grpc.Compression.Gzip)


async def test_requests_under_way_are_bounded_together():
    intake = Intake("silent")
    async with taking(OtlpInput, intake, max_bytes_under_way=ByteSize("1KiB")) as server:
        first = asyncio.ensure_future(server.export(log_request("x" * 2000)))
        while not intake.deliveries:
            await asyncio.sleep(0.005)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.export(log_request("y"))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        intake.deliveries[0].settle(None)
        await first
        intake.verdict = None
        await server.export(log_request("y"))


async def test_without_the_right_token_nothing_is_taken():
    intake = Intake()
    async with taking(OtelLog, intake, tokens=["right"]) as server:
        for metadata in (None, [("authorization", "Bearer wrong")]):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.export(log_request("x"), metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert not intake.messages
        await server.export(log_request("x"), metadata=[("authorization", "Bearer right")])
    assert len(intake.messages) == 1


async def test_with_client_certificates_only_those_who_have_one_are_served(tmp_path):
    authority = trustme.CA()
    server_cert = authority.issue_cert("127.0.0.1")
    server_cert.private_key_pem.write_to_path(tmp_path / "key.pem")
    server_cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine = authority.issue_cert("me@here")
    roots = authority.cert_pem.bytes()
    chain = (mine.private_key_pem.bytes(), mine.cert_chain_pems[0].bytes())
    files = TlsFiles(
        cert_file=str(tmp_path / "cert.pem"),
        key_file=str(tmp_path / "key.pem"),
        client_ca_file=str(tmp_path / "ca.pem"),
    )
    intake = Intake()
    async with taking(OtelLog, intake, tls=files) as server:
        await server.export(
            log_request("x"), credentials=grpc.ssl_channel_credentials(roots, *chain)
        )
        with pytest.raises(grpc.aio.AioRpcError):
            await server.export(log_request("y"), credentials=grpc.ssl_channel_credentials(roots))
    assert [value["record"]["body"] for value in intake.values] == ["x"]


async def test_tls_without_a_key_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="both cert_file and key_file"):
        async with taking(OtelLog, Intake(), tls=TlsFiles(cert_file="x")):
            pass


async def test_an_address_in_use_is_a_config_error():
    async with taking(OtelLog, Intake()) as server:
        with pytest.raises(ConfigError, match="cannot be bound"):
            async with taking(OtelLog, Intake(), address=server.grpc):
                pass


# ---- HTTP -------------------------------------------------------------------------------------


async def post(server: Taking, body, kind=PROTOBUF, path="/v1/logs", **headers):
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            server.http + path,
            data=body,
            headers={"content-type": kind} | headers,
            skip_auto_headers=["content-encoding"],
        ) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


@pytest.mark.parametrize(
    ("encoding", "pack"), [("", bytes), ("gzip", gzip.compress), ("zstd", zstd.compress)]
)
async def test_protobuf_is_taken_compressed_or_not(encoding, pack):
    intake = Intake()
    body = pack(log_request("a").SerializeToString())
    headers = {"content-encoding": encoding} if encoding else {}
    async with taking(OtlpInput, intake) as server:
        code, answered, content = await post(server, body, **headers)
    assert (code, answered["content-type"], content) == (200, PROTOBUF, b"")
    assert intake.values[0]["record"]["body"] == "a"


OTLP_JSON = {
    "resourceLogs": [
        {
            "resource": {"attributes": [{"key": "traceId", "value": {"stringValue": "no id"}}]},
            "scopeLogs": [
                {
                    "logRecords": [
                        {
                            "timeUnixNano": "1700000000000000000",
                            "severityNumber": 9,
                            "traceId": "000102030405060708090A0B0C0D0E0F",
                            "spanId": "0001020304050607",
                            "body": {
                                "kvlistValue": {
                                    "values": [{"key": "n", "value": {"intValue": "5"}}]
                                }
                            },
                            "somethingNew": 1,
                        }
                    ]
                }
            ],
        }
    ]
}


async def test_json_has_hexadecimal_ids_and_gives_the_same_message_and_id_as_protobuf():
    intake = Intake()
    request = log_request(scope="")
    record = (
        request.resource_logs[0]
        .scope_logs[0]
        .log_records.add(
            time_unix_nano=1_700_000_000_000_000_000,
            severity_number=9,
            trace_id=bytes(range(16)),
            span_id=bytes(range(8)),
        )
    )
    record.body.kvlist_value.values.add(key="n").value.int_value = 5
    attribute = request.resource_logs[0].resource.attributes.add(key="traceId")
    attribute.value.string_value = "no id"
    async with taking(OtlpInput, intake) as server:
        code, answered, content = await post(server, json.dumps(OTLP_JSON).encode(), JSON)
        assert (code, answered["content-type"], content) == (200, JSON, b"{}")
        await post(server, request.SerializeToString())
    one, two = intake.messages
    assert one.content == two.content
    assert one.metadata == two.metadata
    assert one.structured()["record"]["body"] == {"n": 5}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xff", PROTOBUF),
        (b"{", JSON),
        (b"[]", JSON),
        (b'{"resourceLogs": 5}', JSON),
        (b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"zz"}]}]}]}', JSON),
        (b'{"a":' * 5000, JSON),
    ],
)
async def test_what_is_no_message_is_a_bad_request_in_the_form_it_came_in(body, kind):
    async with taking(OtlpInput, Intake()) as server:
        code, answered, content = await post(server, body, kind)
    assert (code, answered["content-type"]) == (400, kind)
    text = json.loads(content)["message"] if kind == JSON else status.text_of(content)
    assert "no valid message" in text


async def test_a_full_journal_is_503_with_retry_after():
    async with taking(OtlpInput, Intake(full())) as server:
        code, answered, content = await post(server, log_request("x").SerializeToString())
    assert (code, answered["retry-after"]) == (503, "7")
    assert "full" in status.text_of(content)


async def test_http_bounds_tokens_paths_and_types_are_said():
    config = {"max_request_bytes": ByteSize("1KiB"), "tokens": ["t"], "signals": ["logs"]}
    good = {"authorization": "Bearer t"}
    async with taking(OtlpInput, Intake(), **config) as server:
        assert (await post(server, b""))[0] == 401
        assert (await post(server, b"x" * 2000, **good))[0] == 413
        grown = gzip.compress(b"x" * 100_000)
        assert (await post(server, grown, **good, **{"content-encoding": "gzip"}))[0] == 413
        assert (await post(server, b"", "text/plain", **good))[0] == 415
        assert (await post(server, b"", path="/v1/metrics", **good))[0] == 404
        assert (await post(server, b"", **good, **{"content-encoding": "br"}))[0] == 415


async def test_partial_success_over_http_counts_the_refused():
    intake = Intake(BatchFailed({0: Rejected("bad")}))
    async with taking(OtlpInput, intake) as server:
        code, _, content = await post(server, log_request("a", "b").SerializeToString())
    assert code == 200
    assert ExportLogsServiceResponse.FromString(content).partial_success.rejected_log_records == 1


async def test_without_an_address_there_is_nothing_to_run():
    with pytest.raises(ConfigError, match="no address"):
        async with taking(OtlpInput, Intake(), grpc_address="", http_address=""):
            pass


def test_retry_info_is_read_as_it_was_written_and_damage_is_no_wish():
    made = status.encode(14, "later", 2.25)
    assert status.retry_after(made) == 2.25
    assert status.text_of(made) == "later"
    assert status.retry_after(status.encode(14, "later")) is None
    for end in range(len(made)):
        status.retry_after(made[:end])
        status.text_of(made[:end])
    assert status.retry_after(b"\xff" * 20) is None

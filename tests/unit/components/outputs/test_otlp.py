"""OTLP outputs against our own inputs as servers: what arrives, and what an answer makes of a batch."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
import trustme
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from kit.otlp import Intake, counter_request, free_port, log_request, taking
from kit.pipes import surroundings
from openmeter_collector.api import ClientTls
from openmeter_collector.component.node import Node
from openmeter_collector.components.inputs.http_ingest import TlsFiles
from openmeter_collector.components.inputs.otel_log import OtelLog
from openmeter_collector.components.inputs.otlp import OtlpInput
from openmeter_collector.components.otlp import reading
from openmeter_collector.components.outputs import otlp_send
from openmeter_collector.components.outputs.otel_log import OtelLogOutput
from openmeter_collector.components.outputs.otlp import OtlpOutput
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.errors import (
    BatchFailed,
    ConfigError,
    Overloaded,
    Paused,
    Rejected,
    Retryable,
)
from openmeter_collector.message import Message
from openmeter_collector.spec.client_tls import ClientCert


@asynccontextmanager
async def opened(config):
    env = ComponentEnv(surroundings(), Resources(), Node("output", "x", config, "root.output"))
    async with config.open(env) as output:
        yield output


def messages(*values):
    return [Message(one if isinstance(one, bytes) else json.dumps(one).encode()) for one in values]


PROTOCOLS = pytest.mark.parametrize("protocol", ["grpc", "http"])


def speaking(server, protocol, **more):
    endpoint = server.grpc if protocol == "grpc" else server.http
    return OtlpOutput(endpoint=endpoint, protocol=protocol, **more)


@PROTOCOLS
async def test_log_records_arrive_as_they_were_taken(protocol):
    request = log_request("a", "b", resource={"host": "h"}, time_unix_nano=5, trace_id=bytes(16))
    request.resource_logs[0].scope_logs[0].log_records[0].attributes.add(
        key="n"
    ).value.int_value = 7
    sent = [record.value for record in reading.logs(request)]
    intake = Intake()
    async with taking(OtlpInput, intake) as server, opened(speaking(server, protocol)) as output:
        await output.write(messages(*sent))
    assert intake.values == sent
    assert len(intake.deliveries) == 1


@PROTOCOLS
async def test_other_messages_become_the_body_of_a_record(protocol):
    intake = Intake()
    event = {"id": "1", "n": [1, 2.5, None, True, 2**70], "deep": {"a": ""}}
    async with taking(OtlpInput, intake) as server, opened(speaking(server, protocol)) as output:
        await output.write(messages(event, b"plain text", b"\xff"))
    bodies = [value["record"]["body"] for value in intake.values]
    assert bodies == [event | {"n": [1, 2.5, None, True, str(2**70)]}, "plain text", "/w=="]


def every_kind():
    request = counter_request(("c", 1, 2, 2**62 + 1), ("d", 1, 2, 0.5))
    metrics = request.resource_metrics[0].scope_metrics[0].metrics
    histogram = metrics.add(name="h", unit="ms").histogram
    histogram.aggregation_temporality = 1
    histogram.data_points.add(
        count=3, sum=4.5, min=1, max=2, explicit_bounds=[1, 2.5], bucket_counts=[1, 2, 0]
    )
    point = metrics.add(name="e").exponential_histogram.data_points.add(
        count=2, scale=3, zero_count=1
    )
    point.positive.offset = -1
    point.positive.bucket_counts.extend([1, 0])
    summary = metrics.add(name="s").summary.data_points.add(count=1, sum=2)
    summary.quantile_values.add(quantile=0.5, value=2)
    metrics.add(name="g").gauge.data_points.add(as_double=1.5)
    return request


@PROTOCOLS
async def test_data_points_of_every_kind_arrive_as_they_were_taken(protocol):
    sent = [record.value for record, _ in reading.metrics(every_kind())]
    assert {value["metric"]["type"] for value in sent} == {
        field.name for field in Metric.DESCRIPTOR.oneofs_by_name["data"].fields
    }
    intake = Intake()
    async with (
        taking(OtlpInput, intake) as server,
        opened(speaking(server, protocol, signal="metrics")) as output,
    ):
        await output.write(messages(*sent))
    assert intake.values == sent


async def test_a_message_that_is_no_data_point_is_refused_alone():
    good, _ = next(reading.metrics(counter_request(("c", 1, 2, 3))))
    intake = Intake()
    async with (
        taking(OtlpInput, intake) as server,
        opened(speaking(server, "grpc", signal="metrics")) as output,
    ):
        with pytest.raises(BatchFailed) as caught:
            await output.write(messages({"no": 1}, good.value, b"not json"))
    assert set(caught.value.errors) == {0, 2}
    assert all(isinstance(error, Rejected) for error in caught.value.errors.values())
    assert intake.values == [good.value]


async def test_a_batch_larger_than_servers_take_is_several_requests(monkeypatch):
    monkeypatch.setattr(otlp_send, "MOST_BYTES", 1000)
    intake = Intake()
    async with taking(OtlpInput, intake) as server, opened(speaking(server, "grpc")) as output:
        with pytest.raises(BatchFailed) as caught:
            await output.write(messages(*["x" * 400] * 5, "y" * 2000))
    assert set(caught.value.errors) == {5}
    assert len(intake.messages) == 5
    assert len(intake.deliveries) > 2


RESOURCE_LOGS = {
    "resource": {"attributes": [{"key": "a", "value": {"stringValue": "b"}}]},
    "scope_logs": [
        {"logRecords": [{"body": {"stringValue": "x"}, "traceId": "AAECAwQFBgcICQoLDA0ODw=="}]}
    ],
}


async def test_otel_log_takes_resource_logs_in_both_spellings_with_base64_ids():
    intake = Intake()
    async with (
        taking(OtelLog, intake) as server,
        opened(OtelLogOutput(address=server.grpc)) as output,
    ):
        await output.write(messages(RESOURCE_LOGS))
    assert intake.values == [
        {
            "resource": {"attributes": {"a": "b"}},
            "record": {"body": "x", "trace_id": "AAECAwQFBgcICQoLDA0ODw=="},
        }
    ]


async def test_otel_log_refuses_what_is_no_resource_logs_alone():
    intake = Intake()
    async with (
        taking(OtelLog, intake) as server,
        opened(OtelLogOutput(address=server.grpc, compression="gzip")) as output,
    ):
        with pytest.raises(BatchFailed) as caught:
            await output.write(messages({"unknown": 1}, RESOURCE_LOGS, b"{"))
    assert set(caught.value.errors) == {0, 2}
    assert len(intake.messages) == 1


@PROTOCOLS
@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Rejected("never"), Rejected),
        (Retryable("later"), Overloaded),
        (Overloaded("full", 9.0), Overloaded),
    ],
)
async def test_an_answer_says_whether_to_repeat(protocol, verdict, expected):
    async with (
        taking(OtlpInput, Intake(verdict)) as server,
        opened(speaking(server, protocol)) as output,
    ):
        with pytest.raises(expected) as caught:
            await output.write(messages("x"))
    if isinstance(caught.value, Overloaded):
        assert caught.value.retry_after == (9 if "full" in str(verdict) else 1)


async def test_records_that_are_refused_without_saying_which_are_looked_for():
    intake = Intake(BatchFailed({1: Rejected("bad")}))
    async with taking(OtlpInput, intake) as server, opened(speaking(server, "grpc")) as output:
        with pytest.raises(Rejected, match="1 records were refused: bad"):
            await output.write(messages("a", "b"))


@PROTOCOLS
async def test_a_wrong_token_pauses_and_a_right_one_delivers(protocol):
    intake = Intake()
    async with taking(OtlpInput, intake, tokens=["t"]) as server:
        async with opened(speaking(server, protocol)) as output:
            with pytest.raises(Paused):
                await output.write(messages("x"))
        right = {"Authorization": "Bearer t"}
        async with opened(speaking(server, protocol, headers=right)) as output:
            await output.write(messages("x"))
    assert len(intake.messages) == 1


async def test_a_service_that_is_not_there_is_retryable():
    config = OtelLogOutput(address=f"127.0.0.1:{free_port()}")
    async with opened(config) as output:
        with pytest.raises(Retryable):
            await asyncio.wait_for(output.write(messages(RESOURCE_LOGS)), 20)


async def test_tls_with_a_client_certificate_is_spoken(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    files = {"cert_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")}
    ca = str(tmp_path / "ca.pem")
    tls = ClientTls(enabled=True, root_cas_file=ca, client_certs=[ClientCert(**files)])
    intake = Intake()
    async with taking(OtelLog, intake, tls=TlsFiles(**files, client_ca_file=ca)) as server:
        async with opened(OtelLogOutput(address=server.grpc, tls=tls)) as output:
            await output.write(messages(RESOURCE_LOGS))
        with pytest.raises(Retryable):
            async with opened(OtelLogOutput(address=server.grpc)) as output:
                await output.write(messages(RESOURCE_LOGS))
    assert len(intake.messages) == 1


async def test_not_verifying_is_not_possible_and_said():
    tls = ClientTls(enabled=True, skip_cert_verify=True)
    with pytest.raises(ConfigError, match="root_cas_file"):
        async with opened(OtelLogOutput(address="127.0.0.1:1", tls=tls)):
            pass

"""What a source costs, beside the bare library that reads the same data.

Processor time of this process only, a record: the source hands over to an intake that counts and says
"safe" at once, so that neither the journal nor the other side is in the figures. `BENCH_S3_BYTES` makes
the object larger, to see that memory does not grow with it.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiobotocore.session
import fastavro
import grpc
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from bench.harness import folder, free_port, started
from bench.objects import SIZE, lines
from openmeter_collector.cli.process import collect_garbage_seldom
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources, Surroundings
from openmeter_collector.server.listener import listen
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.values import json

BYTES = int(float(os.environ.get("BENCH_S3_BYTES", "40e6")))
RECORDS = 200_000
ROUNDS = 5
METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


class Counting:
    """An intake that keeps nothing; it looks at bytes, as a buffer does, or at what they say."""

    def __init__(self, *, parse: bool = False) -> None:
        self.count = 0
        self._parse = parse

    def offer(self, delivery: Any) -> None:
        self.count += len(delivery.batch)
        if self._parse:
            for message in delivery.batch:
                message.structured()
        else:
            for message in delivery.batch:
                _ = message.content
        delivery.settle(None)

    async def put(self, delivery: Any) -> None:
        self.offer(delivery)
        # As the journal does it: others get a turn now and then.
        await asyncio.sleep(0)


def environment(text: str) -> tuple[Any, ComponentEnv]:
    config = load(text, standard_registry(), env={})
    around = Surroundings(
        Log(LogOptions(level="error"), print), MetricStore(), listen=listen, mount=None
    )
    return config.input, ComponentEnv(around, Resources(), config.input)


async def read_all(text: str, *, parse: bool = False) -> tuple[int, float]:
    """Run an input to its end: records, and processor seconds."""
    node, env = environment(text)
    intake = Counting(parse=parse)
    async with env.input(node) as opened:
        began = time.process_time()
        await opened.run(intake)
        return intake.count, time.process_time() - began


def show(name: str, ours: tuple[int, float], bare: tuple[int, float]) -> None:
    assert ours[0] == bare[0], (name, ours, bare)
    mine, theirs = (seconds / count * 1e6 for count, seconds in (ours, bare))
    print(
        f"{name}: {1e6 / mine:,.0f} records/s of processor time ({mine:.2f} us each); bare "
        f"{1e6 / theirs:,.0f}/s ({theirs:.2f} us): {theirs / mine:.2f} of bare"
    )


def main() -> None:
    # As the collector itself does when it starts; good for the bare ones as well.
    collect_garbage_seldom()
    if "BENCH_S3_BYTES" in os.environ:
        of_s3()
        return
    with folder() as where:
        of_files(where)
    of_s3()
    asyncio.run(of_otlp())


def of_files(where: Path) -> None:
    path = where / "lines.jsonl"
    path.write_bytes(lines(0, RECORDS))
    text = f"input:\n  file:\n    paths: [ '{path}' ]\n    scanner: {{%s}}\n"
    lined = text % "lines: {}"
    show(
        "file, lines", *best(lambda: asyncio.run(read_all(lined)), lambda: timed(bare_lines, path))
    )
    show(
        "file, lines, each parsed (bare: with the same parser)",
        *best(
            lambda: asyncio.run(read_all(lined, parse=True)), lambda: timed(bare_parsed_lines, path)
        ),
    )

    table = pa.table(
        {
            "id": [f"{n:012}" for n in range(RECORDS)],
            "n": list(range(RECORDS)),
            "at": pa.array(range(RECORDS), pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(table, path)
    parquet = text % "parquet: {}"
    show(
        "file, parquet",
        *best(lambda: asyncio.run(read_all(parquet)), lambda: timed(bare_parquet, path)),
    )

    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "id", "type": "string"}, {"name": "n", "type": "long"}],
    }
    with path.open("wb") as file:
        fastavro.writer(
            file, schema, ({"id": f"{n:012}", "n": n} for n in range(RECORDS)), codec="deflate"
        )
    avro = text % "avro: {raw_json: true}"
    show(
        "file, avro, values",
        *best(lambda: asyncio.run(read_all(avro, parse=True)), lambda: timed(bare_avro, path)),
    )
    show(
        "file, avro, each as JSON (bare: with the same writer)",
        *best(lambda: asyncio.run(read_all(avro)), lambda: timed(bare_avro_as_json, path)),
    )


def best(
    ours: Callable[[], tuple[int, float]],
    bare: Callable[[], tuple[int, float]],
    rounds: int = ROUNDS,
) -> tuple[tuple[int, float], tuple[int, float]]:
    """The best run of each, which take turns: others may use the machine, too."""
    pairs = [(ours(), bare()) for _ in range(rounds)]
    mine, theirs = (min(runs, key=lambda run: run[1]) for runs in zip(*pairs, strict=True))
    return mine, theirs


def timed(read: Any, path: Path) -> tuple[int, float]:
    began = time.process_time()
    count = read(path)
    return count, time.process_time() - began


def bare_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line[:-1])


def bare_parsed_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if json.loads(line) is not None)


def bare_parquet(path: Path) -> int:
    return sum(len(batch.to_pylist()) for batch in pq.ParquetFile(path).iter_batches())


def bare_avro(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in fastavro.reader(file))


def bare_avro_as_json(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for record in fastavro.reader(file) if json.dumps(record))


def of_s3() -> None:
    port, count = free_port(), BYTES // SIZE
    url = f"http://127.0.0.1:{port}"
    text = f"""
input:
  aws_s3:
    bucket: bucket
    endpoint: {url}
    region: us-east-1
    force_path_style_urls: true
    credentials: {{id: a, secret: b}}
    scanner: {{lines: {{}}}}
"""
    with started(["-m", "bench.objects", str(port), str(count)], port):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        asyncio.run(read_all(text))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        rounds = 1 if "BENCH_S3_BYTES" in os.environ else ROUNDS
        pairs = best(lambda: asyncio.run(read_all(text)), lambda: asyncio.run(bare_s3(url)), rounds)
        show("aws_s3, lines", *pairs)
        if rounds > 1:
            show(
                "aws_s3, lines, each parsed (bare: with the same parser)",
                *best(
                    lambda: asyncio.run(read_all(text, parse=True)),
                    lambda: asyncio.run(bare_s3(url, parse=True)),
                ),
            )
        print(f"aws_s3: an object of {BYTES / 1e6:,.0f} MB; memory grew by {grown:.0f} MB")


async def bare_s3(url: str, *, parse: bool = False) -> tuple[int, float]:
    session = aiobotocore.session.get_session()
    about = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    async with session.create_client("s3", endpoint_url=url, **about) as client:
        began = time.process_time()
        answer = await client.get_object(Bucket="bucket", Key="big")
        count, held = 0, b""
        async for chunk in answer["Body"].iter_chunks(256 << 10):
            *whole, held = (held + chunk).split(b"\n")
            count += len(whole)
            if parse:
                for line in whole:
                    json.loads(line)
        return count, time.process_time() - began


def otlp_request(count: int) -> bytes:
    request = ExportLogsServiceRequest()
    of_resource = request.resource_logs.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = "api"
    records = of_resource.scope_logs.add().log_records
    for number in range(count):
        record = records.add(time_unix_nano=10**18 + number, severity_text="INFO")
        record.body.string_value = "served"
        record.attributes.add(key="customer").value.string_value = f"c{number % 100}"
        record.attributes.add(key="bytes").value.int_value = number
    return bytes(request.SerializeToString())


async def of_otlp(requests: int = 60, records: int = 1_000) -> None:
    body = otlp_request(records)
    port = free_port()
    node, env = environment(
        f"input:\n  otlp: {{grpc_address: '127.0.0.1:{port}', http_address: '', signals: [logs]}}\n"
    )
    intake = Counting()
    async with env.input(node) as opened:
        run = asyncio.ensure_future(opened.run(intake))
        ours = await exported(port, body, requests)
        run.cancel()
        await asyncio.wait({run})

    async def parse(given: bytes, _context: Any) -> bytes:
        # Plain values are what both make of a request, each in its way.
        json_format.MessageToDict(ExportLogsServiceRequest.FromString(given))
        return bytes(ExportLogsServiceResponse().SerializeToString())

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(parse)
    service = METHOD.strip("/").partition("/")[0]
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Export": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    bare = await exported(port, body, requests)
    await server.stop(0)
    assert intake.count == requests * records
    show("otlp, log records over gRPC", (intake.count, ours), (intake.count, bare))


async def exported(port: int, body: bytes, requests: int) -> float:
    """Processor seconds of this process for so many requests; the sender is in it, both times."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD)
        await call(body, wait_for_ready=True)
        began = time.process_time()
        for _ in range(requests - 1):
            await call(body)
        return time.process_time() - began


if __name__ == "__main__":
    main()

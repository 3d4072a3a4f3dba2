"""The preset `s3`: whatever kind of file is put into a bucket becomes usage events, once."""

import gzip
import io
import json
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

import openmeter_collector
from kit.aws import Aws, moto
from kit.waiting import eventually
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.testing.running import free_port, running
from openmeter_collector.testing.sandbox import Sandbox

PRESET = Path(openmeter_collector.__file__).parent / "presets/s3/config.yaml"


def files():
    def row(kind):
        return {"customer": f"c-{kind}", "time": "2024-05-01T12:00:00Z", "n": 1}

    def avro():
        out = io.BytesIO()
        fields = [
            {"name": name, "type": kind}
            for name, kind in {"customer": "string", "time": "string", "n": "long"}.items()
        ]
        fastavro.writer(out, {"type": "record", "name": "r", "fields": fields}, [row("avro")])
        return out.getvalue()

    def parquet():
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([row("parquet")]), out)
        return out.getvalue()

    return {
        "usage/1.jsonl": json.dumps(row("lines")) + "\n",
        "usage/2.jsonl.gz": gzip.compress(json.dumps(row("gzip")).encode()),
        "usage/3.csv": "customer,time,n\nc-csv,2024-05-01T12:00:00Z,1\n",
        "usage/4.json": json.dumps([row("array")]),
        "usage/5.parquet": parquet(),
        "usage/6.avro": avro(),
        "other/7.jsonl": json.dumps(row("other")),
    }


async def test_every_kind_of_file_becomes_events_and_a_restart_sends_none_again(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with moto() as url:
        async with Aws.at(url) as aws, Sandbox().serve() as sandbox:
            bucket = await aws.bucket(files())
            env = {
                "S3_BUCKET": bucket,
                "S3_PREFIX": "usage/",
                "S3_ENDPOINT": url,
                "S3_PATH_STYLE": "true",
                "S3_INTERVAL": "50ms",
                "SUBJECT_FIELD": "customer",
                "METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
                "BUFFER_PATH": str(tmp_path / "buffer.db"),
                "OPENMETER_URL": sandbox.url,
            }
            async with running(PRESET.read_text(), standard_registry(), env):
                await eventually(lambda: len(sandbox.events) == 6)
            async with running(PRESET.read_text(), standard_registry(), env):
                await aws.put(bucket, "usage/8.jsonl", '{"customer":"late"}\n')
                await eventually(lambda: len(sandbox.events) == 7)
            events = [json.loads(event.raw) for event in sandbox.events]
    kinds = ("array", "avro", "csv", "gzip", "lines", "parquet")
    assert sorted(event["subject"] for event in events) == [*(f"c-{one}" for one in kinds), "late"]
    assert {event["source"] for event in events} == {f"s3://{bucket}"}
    assert all(event["time"] == "2024-05-01T12:00:00Z" for event in events[:6])

"""Rows of Parquet and Avro files: every type without loss, whatever pieces the bytes come in."""

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kit.scanning import scan, until_unreadable


def parquet(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def documents(messages):
    return [json.loads(message.content) for message in messages]


async def test_every_type_of_parquet_is_said_without_loss():
    moment = pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", "UTC"))
    table = pa.table(
        {
            "id": pa.array([2**63 - 1, None], pa.int64()),
            "price": pa.array(
                [Decimal("12345678901234567890.123456789"), None], pa.decimal128(38, 9)
            ),
            "ratio": [0.1, float("nan")],
            "name": ["é", ""],
            "on": [date(2024, 5, 1), None],
            "at": moment,
            "local": pa.array([1_714_564_800_000, None], pa.timestamp("ms")),
            "raw": [b"\xff\x00", b""],
            "tags": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
            "list": [[{"x": 1}], []],
            "yes": [True, False],
        }
    )
    one, two = await scan("parquet: {}", parquet(table))
    assert b'"price":12345678901234567890.123456789' in one.content
    assert json.loads(one.content) | {"price": 0} == {
        "id": 2**63 - 1,
        "price": 0,
        "ratio": 0.1,
        "name": "é",
        "on": "2024-05-01",
        "at": "2023-11-14T22:13:20.123456789Z",
        "local": "2024-05-01T12:00:00Z",
        "raw": "/wA=",
        "tags": {"a": 1},
        "list": [{"x": 1}],
        "yes": True,
    }
    assert json.loads(two.content)["ratio"] == "NaN"
    assert json.loads(two.content)["at"] is None


async def test_many_rows_in_many_groups_come_in_order():
    table = pa.table({"n": list(range(5_000))})
    data = parquet(table, row_group_size=700, compression="zstd")
    found = await scan("parquet: {}", data)
    assert [row["n"] for row in documents(found)] == list(range(5_000))


@pytest.mark.parametrize("data", [b"PAR1 no parquet", b"x"])
async def test_what_is_no_parquet_is_said(data):
    contents, error = await until_unreadable("parquet: {}", data)
    assert contents == []
    assert "not a whole Parquet file" in error


async def test_a_parquet_file_that_is_cut_off_is_said():
    data = parquet(pa.table({"n": [1, 2, 3]}))
    contents, error = await until_unreadable("parquet: {}", data[:-10])
    assert contents == []
    assert "not a whole Parquet file" in error


SCHEMA = {
    "type": "record",
    "name": "usage",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {
            "name": "price",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2},
        },
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "raw", "type": "bytes"},
    ],
}


def record(number):
    return {
        "id": number,
        "name": f"n{number}" if number % 2 else None,
        "price": Decimal("123456789012345678.25"),
        "at": datetime(2024, 5, 1, 12, 0, 0, 5, tzinfo=UTC),
        "raw": b"\xff",
    }


def avro(records, **options):
    out = io.BytesIO()
    fastavro.writer(out, SCHEMA, records, **options)
    return out.getvalue()


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2"])
async def test_avro_comes_in_order_block_by_block(codec):
    data = avro([record(number) for number in range(900)], codec=codec, sync_interval=1000)
    found = await scan("avro: {raw_json: true}", data)
    rows = documents(found)
    assert [row["id"] for row in rows] == list(range(900))
    assert b'"price":123456789012345678.25' in found[0].content
    assert rows[1] | {"price": 0} == {
        "id": 1,
        "name": "n1",
        "price": 0,
        "at": "2024-05-01T12:00:00.000005Z",
        "raw": "/w==",
    }


async def test_by_default_a_value_of_a_union_stands_in_an_object_with_its_type():
    rows = documents(await scan("avro: {}", avro([record(0), record(1)])))
    assert [row["name"] for row in rows] == [None, {"string": "n1"}]
    assert rows[0]["at"] == 1_714_564_800_000_005


async def test_avro_that_is_cut_off_gives_what_was_whole():
    data = avro([record(number) for number in range(100)], sync_interval=200)
    contents, error = await until_unreadable("avro: {raw_json: true}", data[:-20])
    assert 0 < len(contents) < 100
    assert "ends too early" in error


@pytest.mark.parametrize(
    "data", [b"no avro at all", b"Obj\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
)
async def test_what_is_no_avro_is_said(data):
    contents, error = await until_unreadable("avro: {}", data)
    assert contents == []
    assert "Unreadable" in error


async def test_a_damaged_marker_of_avro_is_said():
    data = bytearray(avro([record(number) for number in range(3)]))
    data[-1] ^= 1
    contents, error = await until_unreadable("avro: {}", bytes(data))
    assert contents == []
    assert "marker" in error


async def test_a_block_larger_than_allowed_is_not_read():
    data = avro([record(0) | {"raw": b"x" * 5000}])
    contents, error = await until_unreadable("avro: {max_block: 1KiB}", data)
    assert contents == []
    assert "max_block" in error

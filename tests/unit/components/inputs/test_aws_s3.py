"""Objects of a bucket: all of them, each record with the same id, across broken lines and restarts."""

import asyncio
import gzip
import json
import tracemalloc

import pytest

from kit.aws import Aws
from kit.pipes import REGISTRY, SCRIPTS, WRITTEN, surroundings
from kit.waiting import eventually
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.errors import ConfigError
from openmeter_collector.testing.faults import FaultyWire
from openmeter_collector.testing.running import running

REST = """
http: {{enabled: false}}
{buffer}
pipeline:
  processors:
    - mapping: |
        root.body = content().string()
        root.meta = metadata()
output:
  scripted: {{name: out}}
"""
LINES = "\n    scanner: {lines: {}}"


def config(aws, bucket, folder=None, extra=LINES, **fields):
    buffer = ""
    if folder is not None:
        buffer = f'buffer:\n  sqlite: {{path: "{folder}/buffer.db", min_free_bytes: 1MiB}}'
    more = {"bucket": bucket, "force_path_style_urls": "true"} | fields
    head = f"input:\n  aws_s3:\n{aws.fields(**more)}{extra}\n"
    return head + REST.format(buffer=buffer)


def written():
    return [json.loads(one) for batch in WRITTEN.get("out", ()) for one in batch]


def bodies():
    return [one["body"] for one in written()]


async def read_all(text):
    """Run to the end; what came out."""
    WRITTEN.clear()
    SCRIPTS.clear()
    async with running(text, REGISTRY) as collector:
        await eventually(lambda: collector.over)
    return written()


async def test_objects_are_read_in_the_order_of_their_keys_and_the_input_ends(aws):
    bucket = await aws.bucket({"b": "3\n4\n", "a": "1\n2\n", "c/": "", "d": "5"})
    got = await read_all(config(aws, bucket))
    assert [one["body"] for one in got] == ["1", "2", "3", "4", "5"]


async def test_messages_carry_the_published_metadata(aws):
    bucket = await aws.bucket()
    await aws.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put = await aws.put(
        bucket,
        "k",
        "x",
        ContentType="text/x",
        ContentEncoding="aws-nothing",
        Metadata={"customer": "c"},
    )
    (one,) = await read_all(config(aws, bucket))
    meta = one["meta"]
    assert meta["s3_key"] == "k"
    assert meta["s3_bucket"] == bucket
    assert meta["s3_content_type"] == "text/x"
    assert meta["s3_content_encoding"] == "aws-nothing"
    assert meta["s3_version_id"] == put["VersionId"]
    assert meta["customer"] == "c"
    assert meta["s3_last_modified"].endswith("Z")
    assert abs(meta["s3_last_modified_unix"] - 1_700_000_000) < 10**9


async def test_without_a_scanner_an_object_is_one_message(aws):
    bucket = await aws.bucket({"a": "1\n2\n"})
    (one,) = await read_all(config(aws, bucket, extra=""))
    assert one["body"] == "1\n2\n"


async def test_keys_may_be_anything(aws):
    keys = ["/lead", "a//b", "dot/./x", "pct%20x", "q?x=1&y", "sp ace+plus", "uni-é", "#h"]
    bucket = await aws.bucket({key: key for key in keys})
    got = await read_all(config(aws, bucket))
    assert {one["body"] for one in got} == set(keys)
    assert all(one["meta"]["s3_key"] == one["body"] for one in got)


async def test_more_objects_than_a_page_has_are_all_read(aws, monkeypatch):
    monkeypatch.setattr("openmeter_collector.components.aws.objects._PAGE", 3)
    bucket = await aws.bucket({f"{number:03}": str(number) for number in range(10)})
    assert [one["body"] for one in await read_all(config(aws, bucket))] == [
        str(number) for number in range(10)
    ]


async def test_the_published_prefix_is_interpolated(aws):
    bucket = await aws.bucket({"hour-6/x": "yes", "hour-7/x": "no"})
    got = await read_all(config(aws, bucket, prefix="hour-${! 3 + 3 }/"))
    assert [one["body"] for one in got] == ["yes"]


async def test_only_keys_after_start_after_are_read(aws):
    bucket = await aws.bucket({"a": "1", "b": "2", "c": "3"})
    got = await read_all(config(aws, bucket, start_after="a"))
    assert [one["body"] for one in got] == ["2", "3"]


async def test_a_second_run_reads_all_again_with_the_same_ids(aws, tmp_path):
    bucket = await aws.bucket({"a": "1\n1\n2\n", "b": "1\n"})
    first = await read_all(config(aws, bucket, tmp_path))
    second = await read_all(config(aws, bucket, tmp_path))
    ids = [one["meta"]["s3_id"] for one in first]
    assert ids == [one["meta"]["s3_id"] for one in second]
    assert len(set(ids)) == 4


async def test_a_broken_line_is_continued_at_the_same_byte(aws):
    lines = [f"{number:06} {'x' * 90}" for number in range(20_000)]
    bucket = await aws.bucket({"big": "\n".join(lines) + "\n"})
    host, port = aws.url.removeprefix("http://").split(":")
    async with FaultyWire.to(host, int(port)) as wire:
        wire.cut_after = 700_000
        faulty = Aws(f"http://{wire.address}", None, None)
        got = await read_all(config(faulty, bucket))
    assert [one["body"] for one in got] == lines
    assert len({one["meta"]["s3_id"] for one in got}) == len(lines)


async def test_an_object_that_changes_while_it_is_read_is_read_again_from_its_beginning(aws):
    new = [f"new {'x' * 90} {number}" for number in range(25_000)]
    old = "\n".join(f"old {'x' * 90} {number}" for number in range(20_000)) + "\n"
    bucket = await aws.bucket({"k": old})
    host, port = aws.url.removeprefix("http://").split(":")

    async def change(contents):
        if not SCRIPTS.get("changed"):
            SCRIPTS["changed"] = True
            await aws.put(bucket, "k", "\n".join(new) + "\n")
            wire.cut_after = None
            wire.cut()

    WRITTEN.clear()
    async with FaultyWire.to(host, int(port)) as wire:
        wire.cut_after = 400_000
        SCRIPTS.clear()
        SCRIPTS["out"] = change
        text = config(Aws(f"http://{wire.address}", None, None), bucket)
        async with running(text, REGISTRY) as collector:
            await eventually(lambda: collector.over)
    assert bodies()[-len(new) :] == new
    assert all(body.startswith("old") for body in bodies()[: -len(new)])


async def test_what_is_read_and_safe_is_deleted(aws):
    bucket = await aws.bucket({"a": "1", "b": "2"})
    await read_all(config(aws, bucket, delete_objects="true"))
    assert await aws.keys(bucket) == []


async def test_what_is_not_safe_yet_is_not_deleted_and_neither_is_what_was_put_since(aws):
    bucket = await aws.bucket({"a": "1", "b": "2"})
    release = asyncio.Event()

    async def wait(contents):
        await release.wait()

    WRITTEN.clear()
    SCRIPTS.clear()
    SCRIPTS["out"] = wait
    async with running(config(aws, bucket, delete_objects="true"), REGISTRY) as collector:
        await eventually(lambda: len(written()) == 2)
        assert await aws.keys(bucket) == ["a", "b"]
        await aws.put(bucket, "b", "newer")
        release.set()
        await eventually(lambda: collector.over)
    assert await aws.keys(bucket) == ["b"]


async def test_a_damaged_object_is_said_kept_and_does_not_stop_the_others(aws):
    bucket = await aws.bucket(
        {
            "a": gzip.compress(b"1\n"),
            "b": gzip.compress(b"2\n" * 9999)[:-20],
            "c": gzip.compress(b"3\n"),
        }
    )
    scanner = "\n    scanner: {decompress: {algorithm: gzip, into: {lines: {}}}}"
    WRITTEN.clear()
    SCRIPTS.clear()
    text = config(aws, bucket, extra=scanner, delete_objects="true")
    async with running(text, REGISTRY) as collector:
        await eventually(lambda: collector.over)
        assert collector.metrics.total("input_source_unreadable") == 1
        assert any(
            "cannot be read to its end" in line and '"b"' in line for line in collector.lines
        )
    assert bodies()[0] == "1"
    assert bodies()[-1] == "3"
    assert await aws.keys(bucket) == ["b"]


async def test_with_interval_every_object_is_read_once_for_all_runs(aws, tmp_path):
    bucket = await aws.bucket({"b": "1"})
    WRITTEN.clear()
    SCRIPTS.clear()
    text = config(aws, bucket, tmp_path, interval="50ms")
    async with running(text, REGISTRY):
        await eventually(lambda: bodies() == ["1"])
        await aws.put(bucket, "a", "2")
        await eventually(lambda: bodies() == ["1", "2"])
    await aws.put(bucket, "c", "3")
    async with running(text, REGISTRY):
        await eventually(lambda: bodies() == ["1", "2", "3"])
        await aws.put(bucket, "b", "4")
        await eventually(lambda: bodies() == ["1", "2", "3", "4"])


async def test_a_bucket_that_is_not_there_is_tried_again_and_said(aws):
    WRITTEN.clear()
    text = config(aws, "no-such-bucket-here")
    async with running(text, REGISTRY) as collector:
        await eventually(lambda: any("NoSuchBucket" in line for line in collector.lines))
        assert not collector.over


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "neither bucket nor sqs.url"),
        ({"sqs": "{url: 'http://x'}", "prefix": "a"}, "no meaning with sqs.url"),
        ({"sqs": "{url: 'http://x'}", "interval": "1m"}, "no meaning with sqs.url"),
    ],
)
async def test_fields_that_do_not_go_together_are_a_config_error(aws, fields, said):
    text = f"input:\n  aws_s3:\n{aws.fields(**fields)}\n" + REST.format(buffer="")
    with pytest.raises(BaseExceptionGroup) as caught:
        async with running(text, REGISTRY) as collector:
            await eventually(lambda: collector.over, timeout=5)
    matching = caught.value.subgroup(ConfigError)
    assert matching is not None
    assert said in str(matching.exceptions[0])


async def test_memory_does_not_grow_with_the_object(aws):
    size = 24 << 20
    bucket = await aws.bucket({"big": (b"x" * 1023 + b"\n") * (size >> 10)})
    text = config(aws, bucket)
    made = load(text, REGISTRY, env={}).input
    env = ComponentEnv(surroundings(), Resources(), made)
    seen = 0

    class Intake:
        async def put(self, delivery):
            nonlocal seen
            if not seen:
                tracemalloc.start()  # not before: what opens a client takes megabytes
            seen += sum(len(message.content) + 1 for message in delivery.batch)
            delivery.settle(None)

    async with env.input(made) as opened:
        try:
            await opened.run(Intake())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert seen == size
    assert peak < size // 6

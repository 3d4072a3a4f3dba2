"""Blobs of a container: all of them, each record with the same id, across broken lines and restarts."""

import asyncio
import gzip
import json
from contextlib import asynccontextmanager

import pytest

from kit.azurite import KEY, Blobs, azurite, connection
from kit.pipes import REGISTRY, SCRIPTS, WRITTEN, surroundings
from kit.waiting import eventually
from openmeter_collector.components.azure.blobs import BlobStore
from openmeter_collector.components.azure.session import client_of
from openmeter_collector.components.objects.stored import Changed, Missing, open_object
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


@pytest.fixture(scope="module")
def port():
    with azurite() as port:
        yield port


@pytest.fixture
async def blobs(port):
    async with Blobs.at(port) as made:
        WRITTEN.clear()
        SCRIPTS.clear()
        yield made


def config(port, container, folder=None, address=None, scanner="lines: {}", **fields):
    address = address or f"127.0.0.1:{port}"
    more = {"storage_connection_string": connection(address), "container": container} | fields
    head = "input:\n  azure_blob_storage:\n"
    head += "".join(f"    {key}: {json.dumps(value)}\n" for key, value in more.items())
    head += f"    scanner: {{{scanner}}}\n"
    buffer = ""
    if folder is not None:
        buffer = f'buffer:\n  sqlite: {{path: "{folder}/buffer.db", min_free_bytes: 1MiB}}'
    return head + REST.format(buffer=buffer)


def written():
    return [json.loads(one) for batch in WRITTEN.get("out", ()) for one in batch]


def bodies():
    return [one["body"] for one in written()]


async def read_all(text):
    """Run to the end; what came out."""
    WRITTEN.clear()
    async with running(text, REGISTRY) as collector:
        await eventually(lambda: collector.over)
    return written()


async def test_all_blobs_are_read_and_the_input_ends(blobs):
    container = await blobs.container({"b": "3\n4\n", "a": "1\n2\n", "empty": "", "d": "5"})
    got = await read_all(config(blobs.port, container))
    assert [one["body"] for one in got] == ["1", "2", "3", "4", "5"]


async def test_messages_carry_the_published_metadata(blobs):
    container = await blobs.container()
    await blobs.put(
        container,
        "k",
        "x",
        metadata={"customer": "c"},
        content_type="text/x",
        content_encoding="nothing",
    )
    (one,) = await read_all(config(blobs.port, container))
    meta = one["meta"]
    assert meta["blob_storage_key"] == "k"
    assert meta["blob_storage_container"] == container
    assert meta["blob_storage_content_type"] == "text/x"
    assert meta["blob_storage_content_encoding"] == "nothing"
    assert meta["customer"] == "c"
    assert meta["blob_storage_last_modified"].endswith("Z")
    assert meta["blob_storage_last_modified_unix"] > 1_700_000_000
    assert meta["blob_storage_id"].endswith("-0")


async def test_names_may_be_anything(blobs):
    keys = ["a//b", "dot/x", "pct%20x", "q?x=1&y", "sp ace+plus", "uni-é", "#h"]
    container = await blobs.container({key: key for key in keys})
    got = await read_all(config(blobs.port, container))
    assert {one["body"] for one in got} == set(keys)
    assert all(one["meta"]["blob_storage_key"] == one["body"] for one in got)


async def test_more_blobs_than_a_page_has_are_all_read(blobs, monkeypatch):
    monkeypatch.setattr("openmeter_collector.components.azure.blobs._PAGE", 3)
    container = await blobs.container({f"{number:03}": str(number) for number in range(10)})
    got = await read_all(config(blobs.port, container))
    assert [one["body"] for one in got] == [str(number) for number in range(10)]


async def test_the_prefix_is_interpolated_and_start_after_leaves_out(blobs):
    container = await blobs.container({"h6/a": "1", "h6/b": "2", "h7/x": "3"})
    text = config(blobs.port, container, prefix="h${! 3 + 3 }/", start_after="h6/a")
    assert [one["body"] for one in await read_all(text)] == ["2"]


async def test_compressed_blobs_are_unpacked(blobs):
    container = await blobs.container({"a.gz": gzip.compress(b"1\n2\n")})
    scanner = "decompress: {algorithm: gzip, into: {lines: {}}}"
    got = await read_all(config(blobs.port, container, scanner=scanner))
    assert [one["body"] for one in got] == ["1", "2"]


async def test_a_second_run_reads_all_again_with_the_same_ids(blobs, tmp_path):
    container = await blobs.container({"a": "1\n1\n2\n", "b": "1\n"})
    text = config(blobs.port, container, tmp_path)
    first = [one["meta"]["blob_storage_id"] for one in await read_all(text)]
    second = [one["meta"]["blob_storage_id"] for one in await read_all(text)]
    assert first == second
    assert len(set(first)) == 4


async def test_with_interval_every_blob_is_read_once_for_all_runs(blobs, tmp_path):
    container = await blobs.container({"b": "1"})
    text = config(blobs.port, container, tmp_path, interval="50ms")
    async with running(text, REGISTRY):
        await eventually(lambda: bodies() == ["1"])
        await blobs.put(container, "a", "2")
        await eventually(lambda: bodies() == ["1", "2"])
    await blobs.put(container, "c", "3")
    async with running(text, REGISTRY):
        await eventually(lambda: bodies() == ["1", "2", "3"])
        await blobs.put(container, "b", "4")
        await eventually(lambda: bodies() == ["1", "2", "3", "4"])


async def test_a_broken_line_is_continued_at_the_same_byte(blobs):
    lines = [f"{number:06} {'x' * 90}" for number in range(50_000)]
    container = await blobs.container({"big": "\n".join(lines) + "\n"})
    async with FaultyWire.to("127.0.0.1", blobs.port) as wire:
        wire.cut_after = 1_500_000
        got = await read_all(config(blobs.port, container, address=wire.address))
    assert [one["body"] for one in got] == lines
    assert len({one["meta"]["blob_storage_id"] for one in got}) == len(lines)


@asynccontextmanager
async def store(blobs):
    """As the input has it, with an environment for what is read."""
    node = load(config(blobs.port, "c"), REGISTRY, env={}).input
    async with client_of(node.config, "input.azure_blob_storage") as client:
        yield ComponentEnv(surroundings(), Resources(), node), BlobStore(client)


async def test_a_blob_that_changes_while_it_is_read_is_not_mixed_with_what_it_was(blobs):
    container = await blobs.container({"k": "old " * 1_000_000})
    async with store(blobs) as (env, azure):
        opened = await open_object(env, azure, container, "k")
        chunks = opened.chunks(0)
        assert (await anext(chunks)).startswith(b"old ")
        await blobs.put(container, "k", "new " * 1_000_000)
        with pytest.raises(Changed, match="changed or deleted while it was read"):
            await anext(chunks)
        with pytest.raises(Missing):
            await open_object(env, azure, container, "k", start=4, etag=opened.place.etag)


async def test_reading_goes_on_at_a_byte_of_the_same_content(blobs):
    body = b"".join(b"%07d\n" % number for number in range(500_000))
    container = await blobs.container({"k": body})
    async with store(blobs) as (env, azure):
        whole = await open_object(env, azure, container, "k")
        rest = await open_object(env, azure, container, "k", start=1_000_001, etag=whole.place.etag)
        read = b"".join([chunk async for chunk in rest.chunks(1_000_001)])
        assert read == body[1_000_001:]
        assert rest.identity == whole.identity


async def test_behind_the_last_byte_of_the_same_content_there_is_nothing_left_to_read(blobs):
    container = await blobs.container({"k": "1\n2\n"})
    async with store(blobs) as (env, azure):
        whole = await open_object(env, azure, container, "k")
        rest = await open_object(env, azure, container, "k", start=4, etag=whole.place.etag)
        assert [chunk async for chunk in rest.chunks(4)] == []
        assert rest.metadata == whole.metadata


async def test_a_blob_that_is_gone_or_was_put_again_counts_as_deleted(blobs):
    container = await blobs.container({"gone": "1", "again": "1"})
    async with store(blobs) as (env, azure):
        gone = await open_object(env, azure, container, "gone")
        again = await open_object(env, azure, container, "again")
        await azure.delete(gone.place)
        await azure.delete(gone.place)
        await blobs.put(container, "again", "2")
        await azure.delete(again.place)
    assert await blobs.keys(container) == ["again"]


async def test_only_what_was_read_and_is_safe_is_deleted(blobs):
    container = await blobs.container({"a": "1", "b": "2"})
    release = asyncio.Event()

    async def wait(contents):
        await release.wait()

    SCRIPTS["out"] = wait
    text = config(blobs.port, container, delete_objects=True)
    async with running(text, REGISTRY) as collector:
        await eventually(lambda: len(written()) == 2)
        assert await blobs.keys(container) == ["a", "b"]
        await blobs.put(container, "b", "newer")
        release.set()
        await eventually(lambda: collector.over)
    assert await blobs.keys(container) == ["b"]


async def test_a_damaged_blob_is_said_and_does_not_stop_the_others(blobs):
    container = await blobs.container({"a": b"no gzip", "b": gzip.compress(b"1\n")})
    scanner = "decompress: {algorithm: gzip, into: {lines: {}}}"
    text = config(blobs.port, container, scanner=scanner, delete_objects=True)
    async with running(text, REGISTRY) as collector:
        await eventually(lambda: collector.over)
        assert collector.metrics.total("input_source_unreadable") == 1
        assert collector.metrics.total("blob_storage_objects_read") == 1
    assert bodies() == ["1"]
    assert await blobs.keys(container) == ["a"]


async def test_a_container_that_is_not_there_is_tried_again_and_said(blobs):
    text = config(blobs.port, "no-such-container")
    async with running(text, REGISTRY) as collector:
        await eventually(lambda: any("ContainerNotFound" in line for line in collector.lines))
        assert not collector.over


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"storage_connection_string": ""}, "neither storage_account nor"),
        ({"storage_connection_string": f"AccountKey={KEY}"}, "it is no connection string"),
    ],
)
async def test_what_names_no_account_is_a_config_error_without_secrets(blobs, fields, said):
    with pytest.raises(BaseExceptionGroup) as caught:
        async with running(config(blobs.port, "c", **fields), REGISTRY) as collector:
            await eventually(lambda: collector.over, timeout=5)
    matching = caught.value.subgroup(ConfigError)
    assert said in str(matching.exceptions[0])
    assert KEY not in str(matching.exceptions[0])

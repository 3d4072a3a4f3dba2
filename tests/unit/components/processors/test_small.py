"""cache, cached, sleep, rate_limit, bounds_check, compress, decompress, insert_part, select_parts."""

import gzip
import sys
import zlib

import pytest

from kit.chains import errors, message, processors, shown
from openmeter_collector.errors import ConfigError

CACHE = "cache_resources: [{label: c, memory: {}}]"


def op(operator, **fields):
    more = "".join(f", {key}: '{value}'" for key, value in fields.items())
    return f"- cache: {{resource: c, operator: {operator}, key: '${{! this.k }}'{more}}}\n"


async def test_values_go_into_a_cache_and_come_out():
    text = op("set", value="${! this.v }", ttl="10s") + op("get")
    async with processors(text, CACHE) as opened:
        assert shown(await opened.run('{"k":"a","v":"1"}')) == [["1"]]
        opened.at += 11
        assert await opened.caches["c"].get("a") is None


async def test_what_cannot_be_done_flags_its_message_alone():
    async with processors(op("add", value="1"), CACHE) as opened:
        batches = await opened.run('{"k":"a"}', '{"k":"a"}', "{nope", '{"k":"b"}')
        assert [one is None for one in errors(batches)] == [True, False, False, True]
        assert errors(batches)[1] == "key already exists"
    async with processors(op("get"), CACHE) as opened:
        batches = await opened.run('{"k":"a"}')
        assert (errors(batches), shown(batches)) == (["key does not exist"], [['{"k":"a"}']])


async def test_exists_and_delete():
    async with processors(op("delete") + op("exists"), CACHE) as opened:
        await opened.caches["c"].set("a", b"1")
        assert shown(await opened.run('{"k":"a"}')) == [["false"]]


CACHED = """
- cached:
    cache: c
    key: ${! this.k }
    skip_on: this.n == 2
    processors:
      - mapping: 'root.n = count("%s")'
"""


async def test_cached_runs_its_processors_once_for_a_key():
    async with processors(CACHED % "cached_test_a", CACHE) as opened:
        made = shown(await opened.run('{"k":"a"}', '{"k":"b"}', '{"k":"a"}', '{"k":"b"}'))
    assert made == [['{"n":1}', '{"n":2}', '{"n":1}', '{"n":3}']]


async def test_what_failed_is_not_cached():
    text = CACHED % "cached_test_b" + "      - mapping: root = throw('no')".replace("'", '"')
    async with processors(text, CACHE) as opened:
        assert None not in errors(await opened.run('{"k":"a"}'))
        assert await opened.caches["c"].get("a") is None


async def test_sleep_waits_for_each_message():
    async with processors("- sleep: {duration: '${! this.s }s'}") as opened:
        batches = await opened.run('{"s":"1"}', '{"s":"x"}', '{"s":"2"}')
    assert opened.slept == [1.0, 2.0]
    assert "is not a duration" in errors(batches)[1]


async def test_a_rate_limit_holds_messages_back():
    limit = "rate_limit_resources: [{label: l, local: {count: 2, interval: 10s}}]"
    async with processors("- rate_limit: {resource: l}", limit) as opened:
        assert len((await opened.run("1", "2", "3", "4", "5"))[0]) == 5
        assert opened.at == 1020.0


async def test_what_is_out_of_bounds_is_dropped_and_counted():
    text = "- bounds_check: {max_part_size: 3, min_part_size: 2, max_parts: 4}"
    async with processors(text) as opened:
        assert shown(await opened.run("1", "22", "333", "4444")) == [["22", "333"]]
        assert await opened.run("22", "22", "22", "22", "22") == []
    assert opened.metrics.total("bounds_check_dropped") == 7


COMPRESSED = ["gzip", "pgzip", "zlib", "flate", "zstd", "snappy", "lz4"]


@pytest.mark.parametrize("algorithm", COMPRESSED)
async def test_what_was_compressed_comes_back_up_to_a_bound(algorithm):
    compress = f"- compress: {{algorithm: {algorithm}}}\n"
    opening = f"- decompress: {{algorithm: {algorithm}, max_bytes: 1KB}}\n"
    async with processors(compress + opening) as opened:
        batches = await opened.run("x" * 1000, "y" * 1001)
    assert batches[0][0].content == b"x" * 1000
    assert errors(batches)[0] is None
    assert "failed to decompress: " in errors(batches)[1]
    assert len(batches[0][1].content) < 100


@pytest.mark.parametrize("algorithm", [*COMPRESSED, "bzip2"])
async def test_damaged_data_stays_as_it_is_flagged(algorithm):
    damaged = gzip.compress(b"x" * 100, mtime=0)[:-4]
    async with processors(f"- decompress: {{algorithm: {algorithm}}}") as opened:
        ((one,),) = await opened.run(damaged)
    assert one.error is not None
    assert one.content == damaged


@pytest.mark.parametrize(
    ("index", "order"),
    [(0, ["n", "a", "b"]), (-1, ["a", "b", "n"]), (-2, ["a", "n", "b"]), (9, ["a", "b", "n"])],
)
async def test_a_message_is_added_at_its_place(index, order):
    async with processors(f"- insert_part: {{index: {index}, content: n}}") as opened:
        (batch,) = await opened.run_batch([message("a", metadata={"k": "v"}), message("b")])
    assert [one.content.decode() for one in batch] == order
    (new,) = [one for one in batch if one.content == b"n"]
    assert (new.metadata, new.origin) == ({"k": "v"}, (0, 1))


async def test_parts_are_selected_in_the_order_named():
    async with processors("- select_parts: {parts: [2, -3, 7]}") as opened:
        assert shown(await opened.run("a", "b", "c")) == [["c", "a"]]
        assert shown(await opened.run("a")) == []


@pytest.mark.parametrize("name", ["compress", "decompress"])
@pytest.mark.parametrize("algorithm", ["snappy", "lz4"])
async def test_a_missing_library_is_named_with_its_extra(name, algorithm, monkeypatch):
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(ConfigError, match=rf"{name}: {algorithm} needs the extra 'bloblang'"):
        async with processors(f"- {name}: {{algorithm: {algorithm}}}"):
            pass


async def test_a_bomb_is_not_opened():
    """A thousandth of what would come of it is never made."""
    bomb = zlib.compress(b"x" * 100_000_000, 9)
    async with processors("- decompress: {algorithm: zlib, max_bytes: 1MB}") as opened:
        batches = await opened.run(bomb)
    assert "larger than max_bytes (1000000)" in errors(batches)[0]

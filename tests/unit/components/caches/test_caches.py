"""All caches, and what is counted about them."""

import asyncio

import pytest

from kit.chains import processors
from openmeter_collector.api import ConfigError, Retryable
from openmeter_collector.components.caches.file import file_name
from openmeter_collector.engine.caches import CountedCache
from openmeter_collector.telemetry.counters import MetricStore


def cached(text):
    return processors("- noop: {}", f"cache_resources:\n  - label: c\n    {text}")


KINDS = [
    "memory: {}",
    "lru: {}",
    "ttlru: {}",
    "file: {directory: ./kept}",
    "sqlite: {path: ./kept.db}",
    "multilevel: [a, b]\n  - label: a\n    memory: {}\n  - label: b\n    lru: {}",
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
async def test_what_every_cache_does(kind):
    async with cached(kind) as opened:
        cache = opened.caches["c"]
        assert await cache.get("a") is None
        await cache.set("a", b"1")
        assert await cache.get("a") == b"1"
        assert not await cache.add("a", b"2")
        assert await cache.add("b", b"\0\xff")
        assert (await cache.get("a"), await cache.get("b")) == (b"1", b"\0\xff")
        await cache.delete("a")
        await cache.delete("a")
        assert await cache.get("a") is None
        assert await cache.add("a", b"3")


@pytest.mark.parametrize("kind", KINDS)
async def test_of_many_that_add_one_succeeds(kind):
    async with cached(kind) as opened:
        cache = opened.caches["c"]
        added = await asyncio.gather(*(cache.add("k", b"%d" % n) for n in range(20)))
        assert sum(added) == 1
        assert await cache.get("k") == b"%d" % added.index(True)


@pytest.mark.parametrize(
    "kind",
    [
        "memory: {default_ttl: 10s}",
        "ttlru: {default_ttl: 10s}",
        "sqlite: {path: ./ends.db, default_ttl: 10s}",
    ],
)
async def test_values_end(kind):
    async with cached(kind) as opened:
        cache = opened.caches["c"]
        await cache.set("a", b"1")
        await cache.set("b", b"1", 100)
        opened.at += 10
        assert await cache.get("a") is None
        assert await cache.get("b") == b"1"
        assert await cache.add("a", b"2")


async def test_reading_keeps_a_value_of_ttlru_alive_unless_told_otherwise():
    for options, found in (("", b"1"), (", without_reset: true", None)):
        async with cached(f"ttlru: {{default_ttl: 10s{options}}}") as opened:
            await opened.caches["c"].set("a", b"1")
            for _ in range(3):
                opened.at += 6
                last = await opened.caches["c"].get("a")
            assert last == found


async def test_memory_has_a_bound_and_forgets_what_is_over():
    async with cached("memory: {max_items: 3, init_values: {z: '9'}, default_ttl: 10s}") as opened:
        cache = opened.caches["c"]
        assert await cache.get("z") == b"9"
        for number in range(5):
            await cache.set(str(number), b"")
        assert len(cache) == 3
        opened.at += 61
        await cache.set("new", b"")
        assert len(cache) == 1


async def test_the_least_used_goes_first():
    async with cached("lru: {cap: 2}") as opened:
        cache = opened.caches["c"]
        await cache.set("a", b"")
        await cache.set("b", b"")
        await cache.get("a")
        await cache.set("c", b"")
        assert [await cache.get(key) for key in "abc"] == [b"", None, b""]


async def test_what_a_later_level_has_comes_into_the_one_before():
    text = "multilevel: [a, b]\n  - label: a\n    memory: {}\n  - label: b\n    memory: {}"
    async with cached(text) as opened:
        await opened.caches["b"].set("k", b"1")
        assert await opened.caches["c"].get("k") == b"1"
        assert await opened.caches["a"].get("k") == b"1"


async def test_noop_forgets():
    async with cached("noop: {}") as opened:
        cache = opened.caches["c"]
        await cache.set("a", b"1")
        assert await cache.get("a") is None
        assert await cache.add("a", b"1")
        assert await cache.add("a", b"1")


async def test_files_survive_and_no_key_leaves_the_folder(folder):
    keys = ["../../x", "/etc/x", ".", "..", "", "a/b", "ü", "k" * 500, "%2E", "a b", "A"]
    async with cached("file: {directory: ./kept}") as opened:
        for key in keys:
            await opened.caches["c"].set(key, key.encode())
    async with cached("file: {directory: ./kept}") as opened:
        assert [await opened.caches["c"].get(key) for key in keys] == [k.encode() for k in keys]
    assert [one.name for one in folder.iterdir()] == ["kept"]
    assert len(list((folder / "kept").iterdir())) == len(keys)
    assert file_name("plain-key_1.json") == "plain-key_1.json"


class Failing:
    async def get(self, key):
        raise Retryable("no")


async def test_operations_are_counted():
    store = MetricStore()
    async with cached("memory: {}") as opened:
        counted = CountedCache(opened.caches["c"], store.scope(label="c"))
        await counted.get("a")
        await counted.add("a", b"1")
        await counted.add("a", b"1")
        await counted.delete("a")
    with pytest.raises(Retryable):
        await CountedCache(Failing(), store.scope(label="c")).get("a")
    totals = [store.total(f"cache_{one}") for one in ("success", "error", "not_found", "duplicate")]
    assert totals == [4, 1, 1, 1]
    assert b'cache_success{label="c",operation="add"} 2' in store.exposition()
    assert b'cache_latency_ns_count{label="c",operation="get"} 1' in store.exposition()


async def test_sqlite_keeps_values_over_a_restart_and_their_ends():
    text = "sqlite: {path: ./kept/c.db, default_ttl: 10s}"
    async with cached(text) as opened:
        cache = opened.caches["c"]
        await cache.set("a", b"\x00v")
        await cache.add("b", b"w", 100)
    async with cached(text) as opened:
        cache = opened.caches["c"]
        assert await cache.get("a") == b"\x00v"
        assert not await cache.add("a", b"x")
        opened.at += 11
        assert await cache.get("a") is None
        assert await cache.get("b") == b"w"
        assert await cache.add("a", b"x")


async def test_sqlite_removes_what_is_over_and_what_is_too_much():
    async with cached("sqlite: {path: ./c.db, max_items: 3}") as opened:
        cache = opened.caches["c"]
        await cache.set("over", b"", 10)
        await cache.set("ever", b"")
        await cache.set("late", b"", 900)
        await cache.set("soon", b"", 300)
        opened.at += 61
        await cache.set("more", b"")
        rows = cache._database.execute("SELECT key FROM cache ORDER BY key").fetchall()
        assert [key for (key,) in rows] == ["ever", "late", "more"]


async def test_a_file_that_is_no_sqlite_cache_is_a_fault_of_the_config(tmp_path):
    (tmp_path / "c.db").write_text("something else, and long enough to be taken for a header" * 10)
    with pytest.raises(ConfigError, match=r"cache sqlite: \./c\.db: .*check path"):
        async with cached("sqlite: {path: ./c.db}"):
            pass

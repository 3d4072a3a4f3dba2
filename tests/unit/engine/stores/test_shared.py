"""Positions that replicas share: kept, and guarded by the term, wherever they are kept."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from kit.databases import postgres
from kit.redis_servers import redis_server
from openmeter_collector.engine.election.leading import Leading
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.engine.stores.databases import PostgresBackend, RedisBackend
from openmeter_collector.engine.stores.file import FileBackend
from openmeter_collector.engine.stores.kubernetes import KubernetesBackend
from openmeter_collector.engine.stores.shared import Kept, SharedStore
from openmeter_collector.errors import ConfigError, Retryable, Superseded
from openmeter_collector.kubernetes.client import KubernetesClient
from openmeter_collector.kubernetes.credentials import Fixed
from openmeter_collector.kubernetes.kubeconfig import Access
from openmeter_collector.message import Checkpoint
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.testing.kubernetes import FakeKubernetes

KEY = "/my stream/label/query/name with ümlaut"


@pytest.fixture(scope="module")
def servers():
    with redis_server() as redis, postgres() as database:
        yield {"redis": redis.url, "postgres": database.dsn}


@asynccontextmanager
async def opened(kind, servers, folder):
    """Two backends on the same store, as two replicas have them."""
    async with AsyncExitStack() as stack:
        if kind == "file":
            yield [FileBackend(folder / "state") for _ in range(2)]
            return
        if kind in {"lease", "config_map"}:
            server = await stack.enter_async_context(FakeKubernetes().serve())
            http = await stack.enter_async_context(open_http_client())
            client = KubernetesClient(http, Access(server.url, Fixed()), lambda: 0.0)
            yield [KubernetesBackend(client, "ns", "positions", kind) for _ in range(2)]
            return
        made = []
        for _ in range(2):
            if kind == "redis":
                one = RedisBackend(servers["redis"], f"{folder}/")
            else:
                one = PostgresBackend(servers["postgres"], f"state_{abs(hash(str(folder)))}")
            stack.push_async_callback(one.close)
            made.append(one)
        yield made


KINDS = pytest.mark.parametrize("kind", ["file", "lease", "config_map", "redis", "postgres"])


@KINDS
async def test_what_is_written_is_read_by_all(kind, servers, tmp_path):
    async with opened(kind, servers, tmp_path) as (one, two):
        assert await one.read(KEY) is None
        await one.write({KEY: Kept(1, b"\x00\xff first"), "other": Kept(1, b"")})
        assert await two.read(KEY) == Kept(1, b"\x00\xff first")
        assert await two.read("other") == Kept(1, b"")
        await two.write({KEY: Kept(1, b"second")})
        assert await one.read(KEY) == Kept(1, b"second")
        assert await two.all() == {KEY: Kept(1, b"second"), "other": Kept(1, b"")}


@KINDS
async def test_a_former_leader_cannot_advance_what_a_newer_one_has_touched(kind, servers, tmp_path):
    async with opened(kind, servers, tmp_path) as (old, new):
        await old.write({KEY: Kept(1, b"by one")})
        await new.write({KEY: Kept(2, None)})
        with pytest.raises(Superseded, match="term 2"):
            await old.write({KEY: Kept(1, b"late")})
        assert await new.read(KEY) == Kept(2, b"by one"), "sealed, and as it was"


@KINDS
async def test_a_save_of_several_is_all_or_nothing(kind, servers, tmp_path):
    async with opened(kind, servers, tmp_path) as (old, new):
        await new.write({"b": Kept(3, b"new")})
        with pytest.raises(Superseded):
            await old.write({"a": Kept(2, b"x"), "b": Kept(2, b"x"), "c": Kept(2, b"x")})
        assert await new.read("a") is None
        assert await new.read("c") is None


@KINDS
async def test_without_leader_election_nothing_is_compared(kind, servers, tmp_path):
    async with opened(kind, servers, tmp_path) as (one, _):
        await one.write({KEY: Kept(7, b"elected")})
        await one.write({KEY: Kept(0, b"alone")})
        assert await one.read(KEY) == Kept(7, b"alone"), "the term is remembered all the same"


@KINDS
async def test_writers_at_the_same_time_lose_nothing(kind, servers, tmp_path):
    async with opened(kind, servers, tmp_path) as (one, two):

        async def write(backend, name):
            for at in range(5):
                while True:
                    try:
                        await backend.write({f"{name}{at}": Kept(1, str(at).encode())})
                        break
                    except Retryable:
                        await asyncio.sleep(0.01)

        await asyncio.gather(write(one, "a"), write(two, "b"))
        for at in range(5):
            assert await one.read(f"b{at}") == Kept(1, str(at).encode())
            assert await two.read(f"a{at}") == Kept(1, str(at).encode())


def lead(term):
    made = Leading("me", lambda: 0.0, Log(LogOptions(level="off"), lambda line: None))
    made.acquired(term)
    return made


async def test_reading_seals_so_that_the_former_leader_comes_too_late(tmp_path):
    backend = FileBackend(tmp_path / "state")
    old = SharedStore(backend, lead(1))
    assert await old.load("k") is None
    await old.save([Checkpoint("k", b"done until 5", 1)])
    new = SharedStore(backend, lead(2))
    assert await new.load("k") == b"done until 5"
    with pytest.raises(Superseded):
        await old.save([Checkpoint("k", b"done until 6", 1)])
    await new.save([Checkpoint("k", b"done until 7", 2)])
    assert await new.load("k") == b"done until 7"


async def test_a_position_of_an_earlier_term_of_ones_own_is_refused_as_well(tmp_path):
    """Led, lost it, leads again: what was under way from before knows nothing of what happened since."""
    backend = FileBackend(tmp_path / "state")
    store = SharedStore(backend, lead(3))
    await store.load("k")
    with pytest.raises(Superseded):
        await store.save([Checkpoint("k", b"old", 1)])


async def test_who_knows_that_it_leads_no_more_does_not_even_try(tmp_path):
    leading = lead(1)
    store = SharedStore(FileBackend(tmp_path / "state"), leading)
    leading.ended("for the test")
    with pytest.raises(Superseded, match="leads no more"):
        await store.save([Checkpoint("k", b"x", 1)])
    assert not (tmp_path / "state").exists()


async def test_terms_that_begin_anew_do_not_lock_out_whoever_leads(tmp_path):
    """Somebody deleted the lease: the next leader counts from one again."""
    backend = FileBackend(tmp_path / "state")
    await backend.write({"k": Kept(9, b"by nine")})
    leading = lead(1)
    store = SharedStore(backend, leading)
    assert await store.load("k") == b"by nine"
    await store.save([Checkpoint("k", b"by one", leading.fence)])
    assert (await backend.read("k")).value == b"by one"
    with pytest.raises(Superseded):
        await SharedStore(backend, lead(9)).save([Checkpoint("k", b"late", 9)])


async def test_a_damaged_file_is_not_begun_anew(tmp_path):
    (tmp_path / "state").write_bytes(b"{")
    backend = FileBackend(tmp_path / "state")
    with pytest.raises(Retryable, match="damaged; restore it"):
        await backend.read("k")
    with pytest.raises(Retryable):
        await backend.write({"k": Kept(1, b"")})


async def test_a_database_that_is_away_is_retryable():
    away = PostgresBackend("postgres://127.0.0.1:9/x", "t")
    with pytest.raises(Retryable, match=r"state\.postgres"):
        await away.read("k")
    redis = RedisBackend("redis://127.0.0.1:9/0", "p/")
    with pytest.raises(Retryable, match=r"state\.redis"):
        await redis.write({"k": Kept(1, b"")})
    await redis.close()
    with pytest.raises(ConfigError, match="no name of a table"):
        PostgresBackend("postgres://x", "t; drop table u")

"""Election by a lock on a file, or in PostgreSQL."""

import asyncio
import contextlib

import pytest

from kit.databases import postgres
from kit.waiting import eventually
from openmeter_collector.engine.election import locks
from openmeter_collector.engine.election.leading import Leading
from openmeter_collector.engine.election.locks import FileElector, PostgresElector
from openmeter_collector.telemetry.logs import Log, LogOptions

LOG = Log(LogOptions(level="off"), lambda line: None)


async def quickly(seconds):
    await asyncio.sleep(seconds / 40)


def leading(name):
    return Leading(name, asyncio.get_running_loop().time, LOG)


@contextlib.asynccontextmanager
async def taking_part(elector):
    task = asyncio.ensure_future(elector.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
        await elector.release()


@pytest.fixture(scope="module")
def database():
    with postgres() as server:
        yield server


@pytest.fixture(params=["file", "postgres"])
def elector(request, tmp_path):
    if request.param == "file":
        return lambda who: FileElector(tmp_path / "lock", who, quickly)
    server = request.getfixturevalue("database")
    name = f"election-{tmp_path}"

    def make(who):
        clock = asyncio.get_running_loop().time
        return PostgresElector(server.dsn, name, who, clock, quickly)

    return make


async def test_one_leads_and_the_next_one_when_it_stops(elector):
    a, b = leading("a"), leading("b")
    async with taking_part(elector(b)):
        async with taking_part(elector(a)):
            await eventually(lambda: a.leading or b.leading)
            for _ in range(10):
                await asyncio.sleep(0.02)
                assert a.leading != b.leading
            first, second = (a, b) if a.leading else (b, a)
            term = first.term
            if first is b:
                return
        await eventually(lambda: second.leading)
        assert second.term > term
        assert not first.leading


async def test_terms_grow_over_lives(elector):
    terms = []
    for at in range(3):
        who = leading(f"r{at}")
        async with taking_part(elector(who)):
            await eventually(lambda who=who: who.leading)
            terms.append(who.term)
    assert terms == sorted(set(terms))


async def test_a_lock_file_that_was_replaced_locks_nothing(tmp_path):
    path = tmp_path / "lock"
    a, b = leading("a"), leading("b")
    async with taking_part(FileElector(path, a, quickly)):
        await eventually(lambda: a.leading)
        path.unlink()
        await eventually(lambda: not a.leading or a.term > 1)
        async with taking_part(FileElector(path, b, quickly)):
            await asyncio.sleep(0.3)
            assert not (a.leading and b.leading)


async def test_a_session_that_is_ended_ends_leadership(database, tmp_path):
    psycopg = locks.psycopg_library("test")
    a = leading("a")
    clock = asyncio.get_running_loop().time
    async with taking_part(PostgresElector(database.dsn, f"e-{tmp_path}", a, clock, quickly)):
        await eventually(lambda: a.leading)
        term = a.term
        lost = asyncio.ensure_future(a.lost(term))
        async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as other:
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            )
        await lost
        await eventually(lambda: a.leading)
        assert a.term > term

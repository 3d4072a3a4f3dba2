"""Election by a lock on a file, or in PostgreSQL."""

import asyncio
import contextlib

import pytest

from kit.waiting import eventually
from openmeter_collector.engine.election.leading import Leading
from openmeter_collector.engine.election.locks import FileElector
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


@pytest.fixture
def elector(tmp_path):
    return lambda who: FileElector(tmp_path / "lock", who, quickly)


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

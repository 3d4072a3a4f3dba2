import asyncio

import pytest

from openmeter_collector.components.sql.pool import Bounds, Pool
from openmeter_collector.components.sql.threads import in_thread


class Made:
    def __init__(self, **bounds):
        self.now = 0.0
        self.opened = 0
        self.closed = []
        self.pool = Pool(self._connect, self._close, Bounds(**bounds), lambda: self.now)

    async def _connect(self):
        self.opened += 1
        return self.opened

    async def _close(self, connection):
        self.closed.append(connection)

    async def use(self):
        async with self.pool.connection() as connection:
            return connection


async def test_a_connection_is_used_again():
    made = Made()
    assert [await made.use(), await made.use()] == [1, 1]
    await made.pool.close()
    assert made.closed == [1]


async def test_one_that_failed_is_not():
    made = Made()
    with pytest.raises(RuntimeError):
        async with made.pool.connection():
            raise RuntimeError
    assert await made.use() == 2
    assert made.closed == [1]


@pytest.mark.parametrize("bounds", [{"life_time": 10}, {"idle_time": 10}])
async def test_one_that_is_too_old_is_not(bounds):
    made = Made(**bounds)
    await made.use()
    made.now = 9.9
    assert await made.use() == 1
    made.now = 20
    assert await made.use() == 2


async def test_more_than_may_be_idle_are_closed():
    made = Made(most_idle=1)
    async with made.pool.connection(), made.pool.connection():
        pass
    assert made.opened == 2
    assert len(made.closed) == 1


async def test_more_than_may_be_open_wait_for_their_turn():
    made = Made(most_open=1)
    async with made.pool.connection():
        waiting = asyncio.ensure_future(made.use())
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting == 1


async def test_a_connection_that_cannot_be_made_gives_its_turn_back():
    made = Made(most_open=1)

    async def refused():
        raise OSError

    made.pool._connect = refused
    for _ in range(2):
        with pytest.raises(OSError):
            await made.use()


async def test_a_call_in_a_thread_is_ended_before_its_cancellation_goes_on():
    import threading  # noqa: PLC0415

    stop, ended = threading.Event(), threading.Event()

    def work():
        stop.wait(30)
        ended.set()

    running = asyncio.ensure_future(in_thread(stop.set, work))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()

"""The schedule input around inputs of other kinds."""

import asyncio
from contextlib import asynccontextmanager

from kit.windows import START, Stored, WindowEnv, running
from openmeter_collector.api import Delivery, EndOfInput, Message, Retryable, field, input
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.testing.clock import virtual_time

READ = []


@input("counted")
class Counted:
    """Counts."""

    most: int = field(default=10**9, doc="So many.")

    @asynccontextmanager
    async def open(self, env):
        yield _Counted(self.most)


class _Counted:
    def __init__(self, most):
        self._left = most

    async def read(self):
        if not self._left:
            raise EndOfInput("enough")
        self._left -= 1
        READ.append(asyncio.get_running_loop().time())
        return Delivery([Message(str(len(READ)).encode())])


@input("snapshot")
class Snapshot:
    """Three pages, and an end; fails when told to."""

    reads_once = True

    @asynccontextmanager
    async def open(self, env):
        yield _Snapshot()


FAILURES = []


class _Snapshot:
    def __init__(self):
        self._page = 0

    async def read(self):
        self._page += 1
        if self._page == 2 and FAILURES:
            raise FAILURES.pop()
        if self._page == 4:
            raise EndOfInput("read")
        return Delivery([Message(str(self._page).encode())])


REGISTRY = standard_registry().with_(Counted).with_(Snapshot)


async def run(child, seconds, interval="10s"):
    READ.clear()
    node = load(
        f"input: {{schedule: {{interval: '{interval}', input: {child}}}}}", REGISTRY, env={}
    ).input
    stored = Stored()
    env = WindowEnv(stored, node)
    env.offset = 3.0
    assert START % 100 == 0
    async with node.config.open(env) as opened, running(opened, stored):
        await asyncio.sleep(seconds)
    return stored, env


@virtual_time
async def test_one_batch_is_taken_at_the_end_of_each_window_and_none_is_read_ahead():
    stored, _ = await run("{counted: {}}", 35)
    assert [round(at, 1) for at in READ] == [7.0, 17.0, 27.0], "at the edges, not before"
    assert [one.content for one in stored.messages] == [b"1", b"2", b"3"]
    assert [one.metadata["schedule_time"] for one in stored.messages] == [
        "2023-11-14T22:13:30Z",
        "2023-11-14T22:13:40Z",
        "2023-11-14T22:13:50Z",
    ]
    assert stored.messages[0].metadata["schedule_interval"] == "10s"


@virtual_time
async def test_a_child_that_ends_is_opened_again_for_the_next_window():
    stored, _ = await run("{counted: {most: 1}}", 35)
    assert len(stored.messages) == 3


@virtual_time
async def test_a_minute_is_told_as_go_tells_it():
    stored, _ = await run("{counted: {}}", 65, interval="1m")
    assert stored.messages[0].metadata["schedule_interval"] == "1m0s"


@virtual_time
async def test_a_list_is_read_to_its_end_and_belongs_to_one_window():
    FAILURES.clear()
    stored, _ = await run("{snapshot: {}}", 18)
    assert [one.content for one in stored.messages] == [b"1", b"2", b"3"] * 2
    times = [one.metadata["schedule_time"] for one in stored.messages]
    assert times == ["2023-11-14T22:13:30Z"] * 3 + ["2023-11-14T22:13:40Z"] * 3


@virtual_time
async def test_a_list_that_breaks_off_is_read_again_as_a_whole():
    FAILURES[:] = [Retryable("broke off")]
    stored, env = await run("{snapshot: {}}", 12)
    assert [one.content for one in stored.messages][-3:] == [b"1", b"2", b"3"]
    assert {one.metadata["schedule_time"] for one in stored.messages} == {"2023-11-14T22:13:30Z"}
    assert env.metrics.store.total("windows_done") == 1

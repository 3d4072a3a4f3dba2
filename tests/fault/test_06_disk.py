"""6. A disk that is full, broken, read-only or slow: senders are put off, and it recovers by itself.

The single faults at each call are in `../unit/storage/test_disk_faults.py`; here is what an operator
and a sender see of them, on the whole pipeline.
"""

import asyncio
import threading

import apsw
import pytest

from kit.pipes import SCRIPTS, WRITTEN
from openmeter_collector.engine.status import Connection, PipelineStatus
from openmeter_collector.errors import Overloaded
from openmeter_collector.message import Delivery, Message
from openmeter_collector.storage import writer as writer_module
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.visit import reading
from openmeter_collector.testing.disk import recorded_disk


@pytest.fixture(autouse=True)
def retry_soon(monkeypatch):
    monkeypatch.setattr(writer_module, "_RETRY_AFTER_FAILURE", 0.01)
    SCRIPTS.clear()
    WRITTEN.clear()


def written(journal, content):
    told = asyncio.get_running_loop().create_future()
    journal.write(Delivery([Message(content)], told.set_result))
    return told


def problems(journal):
    status = PipelineStatus(Connection("", "in", connected=True), Connection("", "out", True))
    status.buffer = journal.status
    return status.problems(0.0)


ERRORS = {
    "full": apsw.FullError("database or disk is full"),
    "broken": apsw.IOError("disk I/O error"),
    "remounted read-only": apsw.ReadOnlyError("attempt to write a readonly database"),
    "away": apsw.CantOpenError("unable to open database file"),
}


@pytest.mark.parametrize("name", sorted(ERRORS))
@pytest.mark.parametrize("kinds", [("write", "truncate"), ("sync",)])
async def test_while_it_lasts_senders_and_probes_are_told_and_after_it_all_is_well(
    tmp_path, name, kinds
):
    path = tmp_path / "buffer.db"
    with recorded_disk() as disk:
        async with Journal.open(JournalOptions(path, min_free_bytes=0)) as journal:
            assert await written(journal, b"before") is None
            assert problems(journal) == []
            disk.fault = lambda call: ERRORS[name] if call.kind in kinds else None
            failure = await written(journal, b"during")
            assert isinstance(failure, Overloaded)
            assert failure.retry_after, "the answer is 503 with Retry-After"
            assert any(one.startswith("buffer: ") for one in problems(journal)), "/ready says so"
            for _ in range(20):
                with pytest.raises(Overloaded):
                    written(journal, b"refused")
                await asyncio.sleep(0.002)
            disk.fault = None
            while journal.status().failure is not None:
                await asyncio.sleep(0.005)
            assert problems(journal) == []
            assert await written(journal, b"after") is None
            found = []
            while journal.status().events:
                delivery = await journal.read()
                found += [message.content for message in delivery.batch]
                delivery.settle(None)
    assert [one for one in found if one != b"during"] == [b"before", b"after"]
    with reading(path) as connection:
        assert all(line.balance == 0 for line in audited(connection))


async def test_a_slow_fsync_holds_up_its_senders_and_nobody_else(tmp_path):
    """The loop goes on while the disk takes its time, what gathers shares the next commit, and what
    is too much to wait in memory is put off.
    """
    release = threading.Event()
    with recorded_disk() as disk:
        options = JournalOptions(tmp_path / "b.db", min_free_bytes=0, max_pending_bytes=1000)
        async with Journal.open(options) as journal:
            assert await written(journal, b"before") is None
            syncing = threading.Event()

            def slow(call):
                if call.kind == "sync":
                    syncing.set()
                    release.wait(20)

            disk.fault = slow
            waiting = [written(journal, b"x" * 100)]
            while not syncing.is_set():
                await asyncio.sleep(0.002)
            waiting += [written(journal, b"x" * 100) for _ in range(8)]
            with pytest.raises(Overloaded, match="slower than what comes in"):
                written(journal, b"x" * 200)
            await asyncio.sleep(0.01)
            assert not any(one.done() for one in waiting), "acknowledged before the fsync"
            groups = []
            journal.on_group = groups.append
            release.set()
            assert await asyncio.gather(*waiting) == [None] * 9
            disk.fault = None
    assert sum(bool(group.deliveries) for group in groups) <= 3

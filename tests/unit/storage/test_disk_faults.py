"""What is on the disk when a sender is told so, and what happens when the disk says no."""

import asyncio

import apsw
import pytest

from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed, Overloaded, Retryable
from openmeter_collector.message import Message
from openmeter_collector.storage import writer as writer_module
from openmeter_collector.storage.journal import Journal, JournalOptions


@pytest.fixture(autouse=True)
def retry_soon(monkeypatch):
    monkeypatch.setattr(writer_module, "_RETRY_AFTER_FAILURE", 0.01)


def options(tmp_path, durability="durable"):
    return JournalOptions(tmp_path / "buffer.db", durability=durability, min_free_bytes=0)


def syncs_before_ack(disk, start):
    """For each acknowledged write: whether the log was synced after its last write."""
    unsynced = False
    seen = []
    for call in disk.calls[start:]:
        if call.file.endswith("-wal"):
            unsynced = unsynced or call.kind == "write"
            if call.kind == "sync":
                unsynced = False
        elif call.kind == "mark":
            seen.append(not unsynced)
    return seen


async def write_three(tmp_path, disk, sender, durability):
    async with Journal.open(options(tmp_path, durability)) as journal:
        start = len(disk.calls)
        for number in range(3):
            told = sender(journal).write(b"%d" % number)
            told.add_done_callback(lambda _: disk.mark("told"))
            await told
    return syncs_before_ack(disk, start)


async def test_between_the_write_and_the_acknowledgement_stands_an_fsync(tmp_path, disk, sender):
    assert await write_three(tmp_path, disk, sender, "durable") == [True, True, True]


async def test_with_durability_os_there_is_none(tmp_path, disk, sender):
    assert await write_three(tmp_path, disk, sender, "os") == [False, False, False]


def failing(kind, error, times, disk=None):
    left = [times]

    def fault(call):
        if call.kind == kind and call.file.endswith("-wal") and left[0]:
            left[0] -= 1
            if disk is not None:
                disk.mark("failed")
            return error
        return None

    return fault


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("write", apsw.FullError("database or disk is full")),
        ("write", apsw.IOError("disk I/O error")),
        ("sync", apsw.IOError("disk I/O error")),
        ("sync", apsw.FullError("database or disk is full")),
    ],
)
@pytest.mark.parametrize("times", [1, 3])
async def test_a_failing_disk_puts_senders_off_and_loses_nothing(
    tmp_path, disk, sender, everything, kind, error, times
):
    async with Journal.open(options(tmp_path)) as journal:
        writer = sender(journal)
        await writer.write(b"before")
        disk.fault = failing(kind, error, times)
        failure = await writer.write(b"during")
        assert isinstance(failure, Overloaded)
        assert failure.retry_after
        failures = 0
        while journal.status().failure is not None:
            failures += 1
            with pytest.raises(Overloaded, match="cannot be written"):
                writer.write(b"refused")
            await asyncio.sleep(0.005)
        assert failures
        start = len(disk.calls)
        await writer.write(b"after")
        assert any(call.kind == "sync" for call in disk.calls[start:])
    disk.fault = None
    async with Journal.open(options(tmp_path)) as journal:
        found = await everything(journal)
    # What was refused may be there, when only its fsync failed; what was acknowledged must be.
    assert [content for content in found if content != b"during"] == [b"before", b"after"]
    assert found.count(b"during") <= 1


async def test_after_a_failed_fsync_the_log_is_begun_anew_before_it_is_written_on(
    tmp_path, disk, sender
):
    """The kernel may have dropped the pages of a failed fsync and call the next one a success.
    A log that goes on behind such a hole is worth nothing from there.
    """
    async with Journal.open(options(tmp_path)) as journal:
        writer = sender(journal)
        await writer.write(b"before")
        disk.fault = failing("sync", apsw.IOError("disk I/O error"), 1, disk)
        await writer.write(b"during")
        start = next(at for at, c in enumerate(disk.calls) if c.note == "failed")
        while journal.status().failure is not None:
            await asyncio.sleep(0.005)
        await writer.write(b"after")
        after = disk.calls[start:]
    truncated = next(
        at for at, c in enumerate(after) if c.file.endswith("-wal") and c.kind == "truncate"
    )
    written = next(
        at for at, c in enumerate(after) if c.file.endswith("-wal") and c.kind == "write"
    )
    copied = next(at for at, c in enumerate(after) if c.file == "buffer.db" and c.kind == "sync")
    assert copied < truncated < written


async def test_a_failed_fsync_while_tidying_is_not_overlooked(
    tmp_path, disk, sender, everything, monkeypatch
):
    """The next commit would succeed over the hole, and be acknowledged."""
    tidying = []
    tidy = writer_module._give_space_back

    def watched(connection):
        tidying.append(True)
        try:
            tidy(connection)
        finally:
            tidying.pop()

    monkeypatch.setattr(writer_module, "_give_space_back", watched)
    failed = []

    def fault(call):
        if tidying and call.kind == "sync" and call.file.endswith("-wal") and not failed:
            failed.append(call)
            disk.mark("failed")
            return apsw.IOError("disk I/O error")
        return None

    disk.fault = fault
    async with Journal.open(options(tmp_path)) as journal:
        seen = asyncio.Event()
        told = journal._recovered
        monkeypatch.setattr(journal, "_recovered", lambda: (told(), seen.set()))
        await asyncio.gather(*(sender(journal).write(b"x" * 100_000) for _ in range(100)))
        assert len(await everything(journal)) == 100
        while not failed:
            journal._writer.nudge()
            await asyncio.sleep(0.005)
        async with asyncio.timeout(5):
            await seen.wait()
        since = disk.calls[next(at for at, c in enumerate(disk.calls) if c.note == "failed") :]
    restarted = next(
        at for at, c in enumerate(since) if c.kind == "truncate" and c.file.endswith("-wal")
    )
    written = [at for at, c in enumerate(since) if c.kind == "write" and c.file.endswith("-wal")]
    assert not written or restarted < written[0]


async def test_a_commit_that_was_refused_but_reached_the_log_is_delivered_without_a_restart(
    tmp_path, disk, sender
):
    async with Journal.open(options(tmp_path)) as journal:
        await sender(journal).write(b"before")
        (await journal.read()).settle(BatchFailed({0: Retryable("keep it")}))
        # The second is the one with which SQLite, closing, would have emptied the log.
        disk.fault = failing("sync", apsw.IOError("disk I/O error"), 2)
        assert isinstance(await sender(journal).write(b"during"), Overloaded)
        delivery = await journal.read()
        assert [m.content for m in delivery.batch] == [b"during"]
        assert journal.status().events == 2
        delivery.settle(None)
        assert journal.status().events == 1
        assert journal.status().size_bytes == len(b"before")


@pytest.mark.parametrize("kind", ["write", "sync"])
async def test_a_dead_letter_is_filed_once_across_a_failing_disk(tmp_path, disk, sender, kind):
    async with Journal.open(options(tmp_path)) as journal:
        await sender(journal).write(b"bad")
        delivery = await journal.read()
        letter = DeadLetter(Message(b"bad"), "refused", "400", 1, 1.0, 2.0, "out")
        disk.fault = failing(kind, apsw.IOError("disk I/O error"), 2)
        delivery.settle(Undeliverable(letter))
        while journal.status().dead_letters == 0:
            await asyncio.sleep(0.005)
    async with Journal.open(options(tmp_path)) as journal:
        assert journal.status().dead_letters == 1
        assert journal.status().events == 0


async def test_in_memory_mode_a_full_disk_loses_nothing_while_the_process_lives(
    tmp_path, disk, sender, everything
):
    async with Journal.open(options(tmp_path, "memory")) as journal:
        disk.fault = failing("write", apsw.FullError("database or disk is full"), 2)
        sender(journal).write(b"a")
        assert await everything(journal) == [b"a"]


async def test_the_writer_outlives_a_defect_of_its_own(tmp_path, sender, monkeypatch):
    async with Journal.open(options(tmp_path)) as journal:
        broken = [True]
        encode = writer_module.encode_frame

        def encode_once_broken(batch):
            if broken.pop() if broken else False:
                raise KeyError("a defect")
            return encode(batch)

        monkeypatch.setattr(writer_module, "encode_frame", encode_once_broken)
        assert isinstance(await sender(journal).write(b"a"), Overloaded)
        while journal.status().failure is not None:
            await asyncio.sleep(0.005)
        assert await sender(journal).write(b"b") is None


async def test_stopping_with_a_broken_disk_ends_and_tells_the_senders(tmp_path, disk, sender):
    async with Journal.open(options(tmp_path)) as journal:
        writer = sender(journal)
        await writer.write(b"before")
        disk.fault = lambda call: apsw.IOError("gone") if call.kind == "write" else None
        during = writer.write(b"during")
    assert isinstance(await during, Overloaded)
    disk.fault = None
    async with Journal.open(options(tmp_path)) as journal:
        assert journal.status().events == 1

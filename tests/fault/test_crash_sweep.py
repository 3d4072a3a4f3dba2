"""A power cut at every moment of a journal's life.

A workload runs over a recorded disk. Then, for every prefix of what it did to the disk, the files are
rebuilt as a kill or a power cut at that moment would have left them, opened, and read: what had been
acknowledged by then and not delivered has to be there.
"""

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed
from openmeter_collector.message import Checkpoint, Delivery, Message
from openmeter_collector.storage import recovery
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.frame import decode_frame
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.ledger import total
from openmeter_collector.storage.schema import open_connection, open_reader
from openmeter_collector.testing.disk import recorded_disk

EVENTS = 40


@pytest.fixture
def small_log(monkeypatch):
    """Checkpoints happen every few commits, so that the sweep passes through many."""
    from openmeter_collector.storage import writer  # noqa: PLC0415

    def opened(path, durability):
        connection = open_connection(path, durability)
        connection.execute("PRAGMA wal_autocheckpoint = 12")
        return connection

    monkeypatch.setattr(writer, "open_connection", opened)


async def workload(path, durability, disk):
    """Write, deliver a part, bury a part, keep a checkpoint; mark each promise as it is made."""
    async with Journal.open(
        JournalOptions(path, durability=durability, min_free_bytes=0)
    ) as journal:
        for number in range(EVENTS):
            content = b"%04d" % number + b"x" * (900 if number % 5 else 9000)
            told = asyncio.get_running_loop().create_future()
            journal.write(
                Delivery([Message(content)], told.set_result, [Checkpoint("at", b"%04d" % number)])
            )
            assert await told is None
            disk.mark(("acked", content))
            if number % 3 == 0:
                delivery = await journal.read()
                message = delivery.batch[0]
                if number % 2:
                    letter = DeadLetter(message, "refused", "", 1, 1.0, 1.0, "out")
                    disk.mark(("refused", message.content))
                    delivery.settle(BatchFailed({0: Undeliverable(letter)}))
                else:
                    disk.mark(("delivered", message.content))
                    delivery.settle(None)


def found(path):
    """What a new start finds: (waiting, letters, checkpoint, whether damage was met, the books)."""
    opened = recovery.open_or_set_aside(path, "os")
    connection = open_reader(path)
    try:
        waiting = [
            message.content
            for (payload,) in connection.execute("SELECT payload FROM frames ORDER BY id")
            for message in decode_frame(payload)
        ]
        letters = [content for (content,) in connection.execute("SELECT content FROM dead_letters")]
        books = audited(connection)
    finally:
        connection.close()
    return waiting, letters, opened.checkpoints.get("at"), opened.report, books


def broken_promises(disk, upto, path):
    """What is not as it was promised after a crash at this moment."""
    acked, delivered, refused = [], set(), set()
    for call in disk.calls[:upto]:
        if call.kind == "mark":
            kind, content = call.note
            {"acked": acked.append, "delivered": delivered.add, "refused": refused.add}[kind](
                content
            )
    waiting, letters, checkpoint, report, books = found(path)
    wrong = []
    if report is not None:
        wrong.append(f"damage was met: {report.reason}")
    for content in acked:
        if content not in delivered and content not in waiting and content not in letters:
            wrong.append(f"lost {content[:4]!r}")
        if content in letters and content in waiting:
            wrong.append(f"{content[:4]!r} is a letter and waits as well")
    if acked and (checkpoint is None or checkpoint < acked[-1][:4]):
        wrong.append("the checkpoint is behind what was acknowledged")
    if checkpoint is not None and not any(
        checkpoint == one[:4] for one in [*waiting, *letters, *delivered]
    ):
        wrong.append("the checkpoint is ahead of its events")
    if len(set(letters)) != len(letters):
        wrong.append("a letter is there twice")
    whole = total(books)
    if any(line.balance for line in books):
        wrong.append(f"the books do not balance: {whole}")
    if (whole.counts["dead"], whole.waiting) != (len(letters), len(waiting)):
        wrong.append(f"the books tell of other events than there are: {whole}")
    if waiting != sorted(waiting):
        wrong.append("the order is not kept")
    return wrong


def sweep(disk, folder, unsynced, moments):
    failures = {}
    for upto in moments:
        folder.mkdir()
        disk.rebuild(folder, upto, unsynced, random.Random(upto))
        wrong = broken_promises(disk, upto, folder / "buffer.db")
        if wrong:
            failures[upto] = wrong
        shutil.rmtree(folder)
    return failures


def moments(disk, step=1):
    first = next(at for at, call in enumerate(disk.calls) if call.kind == "mark")
    return range(first, len(disk.calls) + 1, step)


async def record(tmp_path, durability):
    with recorded_disk() as disk:
        (tmp_path / "live").mkdir()
        await workload(tmp_path / "live" / "buffer.db", durability, disk)
    return disk


@pytest.fixture
def memory_folder(tmp_path):
    """The rebuilt files need no fsync of their own."""
    shared = Path("/dev/shm")
    folder = (
        shared if shared.is_dir() else tmp_path
    ) / f"sweep-{tmp_path.parent.name}-{tmp_path.name}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("unsynced", ["kept", "dropped", "torn"])
async def test_no_moment_of_a_durable_journals_life_loses_what_was_acknowledged(
    tmp_path, memory_folder, small_log, unsynced
):
    disk = await record(tmp_path, "durable")
    assert len(disk.calls) > 300
    assert any(call.kind == "sync" and call.file == "buffer.db" for call in disk.calls)
    assert sweep(disk, memory_folder, unsynced, moments(disk)) == {}


@pytest.mark.slow
async def test_without_the_fsync_a_kill_loses_nothing_and_a_power_cut_does(
    tmp_path, memory_folder, small_log
):
    """The contrast: the same sweep sees the loss when the safeguard is taken away."""
    disk = await record(tmp_path, "os")
    assert sweep(disk, memory_folder, "kept", moments(disk, 3)) == {}
    lost = sweep(disk, memory_folder, "dropped", moments(disk, 3))
    assert any("lost" in text for wrong in lost.values() for text in wrong)
    # And what `os` does promise: the newest may be gone, the file is never damaged.
    assert not any("damage" in text for wrong in lost.values() for text in wrong)

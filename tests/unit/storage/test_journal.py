"""The journal as its callers see it: what is kept, in which order, and who is told what."""

import asyncio
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace

import apsw
import pytest

from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed, Overloaded, Rejected, Retryable, StorageError
from openmeter_collector.message import Checkpoint, Delivery, Message
from openmeter_collector.storage import journal as journal_module
from openmeter_collector.storage import reader as reader_module
from openmeter_collector.storage import schema
from openmeter_collector.storage.journal import Journal, JournalOptions


@pytest.fixture
def options(tmp_path):
    return JournalOptions(tmp_path / "buffer.db", min_free_bytes=0)


def letter_for(message):
    return DeadLetter(message, "refused", "400", 1, 1.0, 2.0, "out")


def rows(path, query):
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(connection.execute(query))
    finally:
        connection.close()


async def test_what_was_written_comes_back_in_order_with_its_bytes_and_metadata(options, sender):
    odd = b'{"a" : 1.0000000000000000001,"b":"\xc3\xa9"}'
    async with Journal.open(options) as journal:
        await sender(journal).write(odd, b"second", metadata={"k": "v", "n": 7})
        delivery = await journal.read()
        assert [m.content for m in delivery.batch] == [odd, b"second"]
        assert [dict(m.metadata) for m in delivery.batch] == [{"k": "v", "n": 7}] * 2


async def test_undelivered_events_are_there_after_a_restart(options, sender, everything):
    async with Journal.open(options) as journal:
        await sender(journal).write(b"a", b"b", metadata={"k": [1, None, "x"]})
    async with Journal.open(options) as journal:
        assert journal.status().events == 2
        delivery = await journal.read()
        assert dict(delivery.batch[0].metadata) == {"k": [1, None, "x"]}
        delivery.settle(None)
        assert journal.status().events == 0
    async with Journal.open(options) as journal:
        assert await everything(journal) == []


async def test_many_small_writes_share_one_transaction(options, sender):
    async with Journal.open(options) as journal:
        groups = []
        journal.on_group = groups.append
        writes = [sender(journal).write(b"%d" % number) for number in range(500)]
        await asyncio.gather(*writes)
    with_events = [group for group in groups if group.deliveries]
    assert sum(len(group.deliveries) for group in with_events) == 500
    assert len(with_events) <= 20


async def test_a_checkpoint_is_true_exactly_when_its_events_are(options, sender):
    async with Journal.open(options) as journal:
        told = sender(journal).write(b"a", checkpoint=Checkpoint("cursor", b"7"))
        assert journal.checkpoint("cursor") is None
        await told
        assert journal.checkpoint("cursor") == b"7"
        await sender(journal).write(checkpoint=Checkpoint("other", b"1"))
    async with Journal.open(options) as journal:
        assert journal.checkpoint("cursor") == b"7"
        assert journal.checkpoint("other") == b"1"


async def test_a_failed_delivery_comes_again_and_only_its_failed_messages(
    options, sender, monkeypatch
):
    monkeypatch.setattr(journal_module, "_REDELIVER_FIRST", 0.001)
    async with Journal.open(options) as journal:
        await sender(journal).write(b"a", b"b", b"c")
        first = await journal.read()
        first.settle(BatchFailed({1: Retryable("later")}))
        assert journal.status().events == 1
        second = await journal.read()
        assert [m.content for m in second.batch] == [b"b"]
        second.settle(None)
        assert journal.status().frames == 0


async def test_what_was_confirmed_of_a_frame_is_not_sent_again_after_an_orderly_stop(
    options, sender, everything
):
    async with Journal.open(options) as journal:
        await sender(journal).write(b"a", b"b", b"c")
        (await journal.read()).settle(BatchFailed({1: Retryable("later")}))
    async with Journal.open(options) as journal:
        assert journal.status().events == 1
        assert await everything(journal) == [b"b"]


async def test_a_dead_letter_leaves_the_buffer_and_enters_the_letters_in_one_step(
    options, sender, everything
):
    async with Journal.open(options) as journal:
        await sender(journal).write(b'{"id":"1","source":"s","type":"t","subject":"u"}', b"good")
        delivery = await journal.read()
        delivery.settle(BatchFailed({0: Undeliverable(letter_for(delivery.batch[0]))}))
    async with Journal.open(options) as journal:
        assert await everything(journal) == []
        assert journal.status().dead_letters == 1
    found = rows(
        options.path, "SELECT event_id, event_source, event_type, reason, content FROM dead_letters"
    )
    content = b'{"id":"1","source":"s","type":"t","subject":"u"}'
    assert found == [("1", "s", "t", "refused", content)]


async def test_an_event_that_became_a_letter_does_not_come_back_after_a_crash(
    options, sender, everything, tmp_path
):
    """Its frame is still there for its neighbour's sake; without a mark it would be buried twice."""
    async with Journal.open(options) as journal:
        await sender(journal).write(b"bad", b"good")
        delivery = await journal.read()
        verdict = Undeliverable(letter_for(delivery.batch[0]))
        delivery.settle(BatchFailed({0: verdict, 1: Retryable("later")}))
        while journal.status().dead_letters == 0:
            await asyncio.sleep(0.005)
        (tmp_path / "crashed").mkdir()
        for name in ("buffer.db", "buffer.db-wal"):
            shutil.copy(options.path.with_name(name), tmp_path / "crashed" / name)
    async with Journal.open(JournalOptions(tmp_path / "crashed/buffer.db")) as journal:
        assert await everything(journal) == [b"good"]
        assert journal.status().dead_letters == 1


async def test_a_refusal_of_several_events_as_one_is_a_letter_for_each_and_its_bytes_once(
    options, sender
):
    """Each event can be put back by itself; the archive that was refused is kept with the first."""
    async with Journal.open(options) as journal:
        await sender(journal).write(b"a")
        first = await journal.read()
        await sender(journal).write(b"b")
        second = await journal.read()
        verdict = Undeliverable(letter_for(Message(b"[a,b]")))
        first.settle(verdict)
        await sender(journal).write(b"between")
        second.settle(verdict)
    found = rows(options.path, "SELECT content, stored FROM dead_letters ORDER BY id")
    assert found == [(b"[a,b]", b"a"), (b"b", None)]


async def test_a_letter_of_odd_text_and_metadata_is_filed_and_does_not_stop_the_writer(
    options, sender
):
    async with Journal.open(options) as journal:
        await sender(journal).write(b"a", metadata={"big": 2**70, "half": "\ud800", 1: 2})
        delivery = await journal.read()
        letter = letter_for(Message(b"\xff", {"big": 2**80}))
        letter.response = "\udcff"
        delivery.settle(Undeliverable(letter))
        assert await sender(journal).write(b"after") is None
    async with Journal.open(options) as journal:
        assert journal.status().dead_letters == 1


async def test_a_message_without_json_form_is_refused_and_nothing_else_is(options, sender):
    async with Journal.open(options) as journal:
        told = asyncio.get_running_loop().create_future()
        journal.write(Delivery([Message(value={"a": object()})], told.set_result))
        assert isinstance(await told, Rejected)
        assert await sender(journal).write(b"good") is None


async def test_senders_are_put_off_at_max_bytes_and_let_in_when_there_is_room(tmp_path, sender):
    options = JournalOptions(tmp_path / "b.db", max_bytes=100, min_free_bytes=0)
    async with Journal.open(options) as journal:
        await sender(journal).write(b"x" * 60)
        with pytest.raises(Overloaded, match="max_bytes") as refused:
            sender(journal).write(b"x" * 60)
        assert refused.value.retry_after
        waiting = asyncio.ensure_future(journal.wait_for_room())
        await asyncio.sleep(0)
        assert not waiting.done()
        (await journal.read()).settle(None)
        await waiting
        assert await sender(journal).write(b"x" * 60) is None


async def test_the_room_that_is_left_is_told(tmp_path, sender):
    options = JournalOptions(tmp_path / "b.db", max_bytes=100, min_free_bytes=0)
    async with Journal.open(options) as journal:
        await sender(journal).write(b"x" * 60)
        assert journal.status().room_bytes == 40
    async with Journal.open(replace(options, max_bytes=0)) as journal:
        status = journal.status()
        assert status.room_bytes == status.free_bytes
    async with Journal.open(replace(options, max_bytes=0, min_free_bytes=1 << 62)) as journal:
        assert journal.status().room_bytes == 0


async def test_a_refused_writer_that_waits_for_room_lets_others_run(tmp_path, sender):
    """A write that is larger than the room that is left was refused; asking for room then said
    "there is some" without waiting, and the two went round for ever with the loop stopped.
    """
    options = JournalOptions(tmp_path / "b.db", max_bytes=100, min_free_bytes=0)
    async with Journal.open(options) as journal:
        await sender(journal).write(b"x" * 60)
        with pytest.raises(Overloaded):
            sender(journal).write(b"x" * 60)
        waiting = asyncio.ensure_future(journal.wait_for_room())
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()


async def test_what_is_larger_than_all_room_goes_alone(tmp_path, sender, everything):
    options = JournalOptions(tmp_path / "b.db", max_bytes=10, min_free_bytes=0)
    async with Journal.open(options) as journal:
        assert await sender(journal).write(b"x" * 60) is None
        with pytest.raises(Overloaded):
            sender(journal).write(b"y")
        assert await everything(journal) == [b"x" * 60]


async def test_senders_are_put_off_before_the_disk_is_full(tmp_path, sender):
    options = JournalOptions(tmp_path / "b.db", min_free_bytes=1 << 62)
    async with Journal.open(options) as journal:
        with pytest.raises(Overloaded, match="min_free_bytes"):
            sender(journal).write(b"x")


async def test_senders_are_put_off_when_too_much_waits_for_the_disk(tmp_path, sender):
    options = JournalOptions(tmp_path / "b.db", min_free_bytes=0, max_pending_bytes=100)
    async with Journal.open(options) as journal:
        first = sender(journal).write(b"x" * 90)
        with pytest.raises(Overloaded, match="slower than what comes in"):
            sender(journal).write(b"x" * 90)
        await first
        assert await sender(journal).write(b"x" * 90) is None


async def test_a_backlog_larger_than_memory_is_read_in_order_without_gap_or_repetition(
    options, sender, monkeypatch, everything
):
    """The reader goes from memory to disk and back while writing goes on."""
    monkeypatch.setattr(reader_module, "HOT_BYTES", 400)
    monkeypatch.setattr(reader_module, "_PAGE_BYTES", 300)
    monkeypatch.setattr(reader_module, "_PAGE_FRAMES", 3)
    read = []
    async with Journal.open(options) as journal:
        writer = sender(journal)
        number = 0
        for round_number in range(40):
            writes = []
            for _ in range(1 + round_number % 7):
                writes.append(writer.write(b"%05d" % number + b"." * 50))
                number += 1
                if number % 3 == 0:
                    await asyncio.wait(writes)
            for _ in range(round_number % 5):
                if journal.status().frames:
                    delivery = await journal.read()
                    read += [m.content[:5] for m in delivery.batch]
                    delivery.settle(None)
            await asyncio.wait(writes)
        read += [content[:5] for content in await everything(journal)]
        assert (
            journal.status().events == journal.status().frames == journal.status().size_bytes == 0
        )
    assert read == [b"%05d" % at for at in range(number)]


async def test_a_frame_read_from_disk_before_its_commit_is_announced_is_given_out_once(
    options, sender
):
    """The reader's snapshot may hold a commit whose announcement is still under way."""
    async with Journal.open(options) as journal:
        await sender(journal).write(b"a")
        reader = journal._reader
        frame = reader.pop()
        reader._keeping_up = False
        reader._read_to = 0
        await reader.read_more()
        reader.committed([frame])
        assert reader.pop().id == frame.id
        assert reader.pop() is None
        assert reader._read_to == frame.id


async def test_a_commit_announced_during_a_look_that_did_not_see_it_is_not_skipped(options, sender):
    async with Journal.open(options) as journal:
        reader = journal._reader
        reader._keeping_up = False
        looking = asyncio.ensure_future(reader.read_more())
        await asyncio.sleep(0)
        reader._committed_to = 5
        await looking
        assert reader.behind


async def test_drain_ends_after_what_is_still_on_its_way_to_the_disk(options, sender, everything):
    async with Journal.open(options) as journal:
        sender(journal).write(b"a")
        assert await everything(journal) == [b"a"]


async def test_space_is_given_back_after_a_backlog_has_drained(options, sender, everything):
    async with Journal.open(options) as journal:
        await asyncio.gather(*(sender(journal).write(b"x" * 100_000) for _ in range(200)))
        full = options.path.stat().st_size
        assert full > 15_000_000
        await everything(journal)
        while options.path.stat().st_size > full / 10:
            journal._writer.nudge()
            await asyncio.sleep(0.01)


async def test_in_memory_mode_a_sender_is_told_at_once_and_a_stop_still_writes(tmp_path, sender):
    options = JournalOptions(tmp_path / "b.db", durability="memory", min_free_bytes=0)
    async with Journal.open(options) as journal:
        assert sender(journal).write(b"a").done()
    async with Journal.open(options) as journal:
        assert journal.status().events == 1


async def test_a_second_process_is_refused_and_told_who_has_it(options):
    async with Journal.open(options):
        script = (
            "import sys\nfrom pathlib import Path\n"
            "from openmeter_collector.storage.schema import FileLock\nFileLock(Path(sys.argv[1]))"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(options.path), stderr=subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert f"is in use by process {os.getpid()}".encode() in errors
    async with Journal.open(options):
        pass


async def test_files_are_for_their_owner_only(tmp_path, sender):
    path = tmp_path / "made" / "deeper" / "buffer.db"
    async with Journal.open(JournalOptions(path, min_free_bytes=0)) as journal:
        await sender(journal).write(b"a")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_newer_journal_is_refused_and_not_touched(options, sender):
    async with Journal.open(options) as journal:
        await sender(journal).write(b"a")
    connection = apsw.Connection(str(options.path))
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute(f"PRAGMA user_version = {schema.FORMAT + 1}")
    connection.close()
    before = options.path.read_bytes()
    with pytest.raises(StorageError, match="newer collector"):
        async with Journal.open(options):
            pass
    assert options.path.read_bytes() == before
    assert not list(options.path.parent.glob("*damaged*"))


async def test_another_programs_database_is_refused_and_not_touched(options):
    connection = apsw.Connection(str(options.path))
    connection.execute("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)")
    connection.close()
    before = options.path.read_bytes()
    with pytest.raises(StorageError, match="another program"):
        async with Journal.open(options):
            pass
    assert options.path.read_bytes() == before
    async with asyncio.timeout(5):
        with pytest.raises(StorageError, match="another program"):
            async with Journal.open(options):
                pass


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ("tmpfs / tmpfs rw 0 0\n", "tmpfs"),
        ("overlay / overlay rw 0 0\n", "overlay"),
        ("overlay / overlay rw 0 0\n/dev/sda {folder} ext4 rw 0 0\n", None),
        ("/dev/sda / ext4 rw 0 0\ntmpfs {folder} tmpfs rw 0 0\n", "tmpfs"),
    ],
)
def test_a_folder_that_does_not_survive_is_known(tmp_path, monkeypatch, mounts, found):
    text = mounts.format(folder=str(tmp_path).replace(" ", "\\040"))
    monkeypatch.setattr(schema.Path, "read_text", lambda self: text)
    assert schema.volatile_filesystem(tmp_path / "buffer.db") == found


async def test_a_settle_that_raises_does_not_keep_others_from_being_told(options, sender):
    async with Journal.open(options) as journal:
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: reported.append(about))

        def broken(failure):
            raise RuntimeError("a defect")

        journal.write(Delivery([Message(b"a")], broken))
        assert await sender(journal).write(b"b") is None
    assert str(reported[0]["exception"]) == "a defect"

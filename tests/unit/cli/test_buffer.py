"""`buffer` and `trace`: they read without changing anything, and say what is wrong."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.buffer import buffer
from openmeter_collector.cli.trace import trace
from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed, Retryable, StorageError
from openmeter_collector.message import Delivery, Message
from openmeter_collector.storage import letter_box
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.visit import changing

EVENT = b'{"id":"%d","source":"shop","type":"request","pad":"%b"}'


def event(number):
    return EVENT % (number, b"x" * 9_000)


def run(command, *arguments, **more):
    return CliRunner().invoke(
        command, [str(one) for one in arguments], standalone_mode=False, **more
    )


async def fill(journal, *contents, metadata=None):
    told = asyncio.get_running_loop().create_future()
    journal.write(Delivery([Message(one, metadata or {}) for one in contents], told.set_result))
    await told


@pytest.fixture
async def path(tmp_path):
    """Two events of one frame wait, one was delivered, one is dead; and one that is no event."""
    path = tmp_path / "buffer.db"
    async with Journal.open(JournalOptions(path, min_free_bytes=0, keep_sent=3600)) as journal:
        await fill(journal, *(event(number) for number in range(4)), metadata={"k": "v"})
        delivery = await journal.read()
        journal.sent(delivery.batch[:1])
        letter = DeadLetter(delivery.batch[1], "refused", "", 1, 1.0, 1.0, "out")
        delivery.settle(BatchFailed({1: Undeliverable(letter), 2: Retryable(""), 3: Retryable("")}))
        await fill(journal, b"\xff")
    return path


WAITING = [event(2), event(3), b"\xff"]


def contents_of(path, count):
    async def main():
        async with Journal.open(JournalOptions(path, min_free_bytes=0)) as journal:
            found = []
            while len(found) < count:
                delivery = await asyncio.wait_for(journal.read(), 10)
                found += [message.content for message in delivery.batch]
            return found

    return asyncio.run(main())


def test_stat_counts(path):
    found = json.loads(run(buffer, "stat", "-j", path, "--json").output)
    assert (found["frames"], found["dead_letters"], found["sent_kept"]) == (2, 1, 1)
    assert found["used_by_process"] is None
    assert found["set_aside"] == []
    assert "oldest " in run(buffer, "stat", "-j", path).output


async def test_stat_says_who_has_it(tmp_path):
    path = tmp_path / "live.db"
    async with Journal.open(JournalOptions(path, min_free_bytes=0)) as journal:
        await fill(journal, event(1))
        found = json.loads(run(buffer, "stat", "-j", path, "--json").output)
        assert int(found["used_by_process"])
        assert found["events"] == 1
        for command in ("repair", "compact"):
            with pytest.raises(StorageError, match="is in use by process"):
                raise run(buffer, command, "-j", path).exception
        assert run(buffer, "verify", "-j", path).return_value == 0


def test_dump_prints_what_waits(path):
    done = run(buffer, "dump", "-j", path)
    assert done.stdout_bytes == b"".join(one + b"\n" for one in WAITING)
    assert run(buffer, "dump", "-j", path, "--limit", 1).stdout_bytes == event(2) + b"\n"


def test_what_is_exported_can_be_imported_elsewhere(path, tmp_path):
    file, other = tmp_path / "events.jsonl", tmp_path / "other.db"
    assert "3 events written" in run(buffer, "export", "-j", path, "-o", file).stderr
    assert contents_of(other, 0) == []
    assert "3 events put in" in run(buffer, "import", "-j", other, file).stderr
    assert run(buffer, "verify", "-j", other).return_value == 0
    assert contents_of(other, 3) == WAITING
    assert run(buffer, "verify", "-j", other).return_value == 0
    assert contents_of(path, 3) == WAITING, "and they are still where they were"


def test_a_line_that_is_no_export_is_named_and_what_stands_before_it_is_in(path, tmp_path):
    file = tmp_path / "events.jsonl"
    run(buffer, "export", "-j", path, "-o", file)
    file.write_bytes(file.read_bytes().split(b"\n")[0] + b"\n{}\n")
    with pytest.raises(StorageError, match="line 2: has neither"):
        raise run(buffer, "import", "-j", path, file).exception


def test_verify_finds_a_flipped_bit_and_reading_goes_on_behind_it(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"xxxxxxxx") + 2] ^= 1
    path.write_bytes(content)
    done = run(buffer, "verify", "-j", path)
    assert done.return_value == 1
    assert "checksum" in done.output
    done = run(buffer, "dump", "-j", path)
    assert done.return_value == 1
    assert done.stdout_bytes == b"\xff\n"


def test_repair_saves_what_can_be_read(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"xxxxxxxx") + 2] ^= 1
    path.write_bytes(content)
    output = run(buffer, "repair", "-j", path).output
    assert "saved 1 events, 1 dead letters" in output
    assert "2 events are lost" in output
    assert run(buffer, "verify", "-j", path).return_value == 0
    assert json.loads(run(buffer, "stat", "-j", path, "--json").output)["set_aside"]


def test_compact_gives_back_space(tmp_path):
    path = tmp_path / "buffer.db"

    async def main():
        async with Journal.open(JournalOptions(path, min_free_bytes=0)) as journal:
            for number in range(50):
                await fill(journal, event(number))
            while journal.status().frames:
                (await journal.read()).settle(None)

    asyncio.run(main())
    before, after = (
        int(word) for word in run(buffer, "compact", "-j", path).output.split() if word.isdigit()
    )
    assert before >= after
    assert run(buffer, "verify", "-j", path).return_value == 0


def test_reading_commands_change_no_byte(path):
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    for command in ("stat", "verify", "dump", "export"):
        run(buffer, command, "-j", path)
    run(trace, "1", "-j", path)
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before


def steps(path, event_id, *arguments):
    output = run(trace, event_id, "-j", path, "--json", *arguments).stdout
    return [json.loads(line)["what"] for line in output.splitlines()]


def test_trace_tells_an_events_life(path):
    assert steps(path, "0") == ["delivered"]
    assert set(steps(path, "1")) == {"received", "dead"}
    assert set(steps(path, "2")) == {"received", "waiting"}
    with changing(path) as connection:
        letter_box.replay(connection, [1])
    assert set(steps(path, "1")) == {"received", "waiting", "replayed"}
    assert "put back, not taken up yet" in run(trace, "1", "-j", path).output
    assert steps(path, "1", "--source", "other") == []
    done = run(trace, "nobody", "-j", path)
    assert (done.return_value, "nothing is known of 'nobody'" in done.stderr) == (1, True)

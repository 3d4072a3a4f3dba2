"""Every kind of damage: the journal starts, saves what can be read, and says what it lost."""

from contextlib import suppress

import pytest

from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import StorageError
from openmeter_collector.message import Checkpoint, Message
from openmeter_collector.storage import recovery
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.schema import open_connection

PAGE = 8192
COUNT = 60


@pytest.fixture
def options(tmp_path):
    return JournalOptions(tmp_path / "buffer.db", min_free_bytes=0)


@pytest.fixture
async def filled(options, sender):
    """A closed journal with frames of more than a page, a letter and a checkpoint."""
    async with Journal.open(options) as journal:
        for number in range(COUNT):
            content = b"%03d" % number + b"x" * 10_000
            await sender(journal).write(content, checkpoint=Checkpoint("at", b"%d" % number))
        first = await journal.read()
        letter = DeadLetter(first.batch[0], "refused", "", 1, 1.0, 1.0, "out")
        first.settle(Undeliverable(letter))
    return options


def damage(path, at, data):
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)


def pages(path):
    return path.stat().st_size // PAGE


def survivors(contents):
    return [content[:3] for content in contents]


async def reopen(options, everything):
    async with Journal.open(options) as journal:
        report = journal.set_aside
        contents = await everything(journal)
        damaged = journal.damaged_frames
        assert await_write(journal) is None
    return report, contents, damaged


def await_write(journal):
    assert journal.status().failure is None


@pytest.mark.parametrize("page", range(1, 84, 6))
async def test_a_page_of_zeros_anywhere_costs_what_was_on_it_and_no_more(
    filled, everything, sender, page
):
    if page >= pages(filled.path):
        pytest.skip("the file is not that long")
    damage(filled.path, page * PAGE, bytes(PAGE))
    async with Journal.open(filled) as journal:
        set_aside = journal.set_aside is not None
        contents = []
        # Damage that only a write meets ends the reading; the next start mends it.
        with suppress(StorageError):
            contents = await everything(journal)
    async with Journal.open(filled) as journal:
        set_aside = set_aside or journal.set_aside is not None
        contents += await everything(journal)
        assert await sender(journal).write(b"new") is None
    found = set(survivors(contents))
    assert found <= {b"%03d" % n for n in range(1, COUNT)} | {b"new"}
    assert len(found) >= COUNT - 1 - 40
    for content in contents:
        assert len(content) == 10_003 or content == b"new"


@pytest.mark.parametrize("keep", [0.95, 0.5, 0.1])
async def test_a_file_that_was_cut_off_gives_what_is_left(filled, everything, keep):
    size = filled.path.stat().st_size
    with filled.path.open("r+b") as file:
        file.truncate(int(size * keep) // PAGE * PAGE)
    async with Journal.open(filled) as journal:
        contents = survivors(await everything(journal))
        said = journal.set_aside is not None or journal.damaged_frames
    assert contents == sorted(contents)
    assert said
    if keep > 0.9:
        assert len(contents) > COUNT / 2


@pytest.mark.parametrize("content", [b"not a database at all", b"\x00" * 3 * PAGE, b""])
async def test_a_file_that_is_no_database_is_set_aside_and_kept(
    options, everything, content, sender
):
    options.path.write_bytes(content)
    async with Journal.open(options) as journal:
        if content:
            assert journal.set_aside.path.read_bytes() == content
        assert await everything(journal) == []
        assert await sender(journal).write(b"new") is None


@pytest.mark.parametrize("head", [b"\x00" * 100, b"not a database at all", b"\xff" * 100])
async def test_a_damaged_head_costs_nothing_of_what_stands_behind_it(filled, everything, head):
    before = filled.path.read_bytes()
    filled.path.write_bytes(head + before[len(head) :])
    async with Journal.open(filled) as journal:
        assert journal.set_aside.path.read_bytes()[: len(head)] == head
        assert (journal.set_aside.events, journal.set_aside.dead_letters) == (COUNT - 1, 1)
        assert survivors(await everything(journal)) == [b"%03d" % n for n in range(1, COUNT)]


@pytest.mark.parametrize("at", range(100))
async def test_no_byte_of_the_head_keeps_a_journal_from_starting_or_costs_an_event(
    tmp_path, sender, at
):
    options = JournalOptions(tmp_path / "buffer.db", min_free_bytes=0)
    async with Journal.open(options) as journal:
        await sender(journal).write(b"a", b"b")
    whole = options.path.read_bytes()
    for value in {0, 1, 255, whole[at] ^ 1} - {whole[at]}:
        options.path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
        try:
            async with Journal.open(options) as journal:
                assert journal.status().events == 2, value
        except StorageError as error:
            # A number of format that a newer collector may have: nobody can tell.
            assert "newer collector" in str(error)
            assert at in {62, 63}


async def test_a_flipped_bit_in_an_event_costs_that_frame_and_is_reported(filled, everything):
    at = filled.path.read_bytes().index(b"030xxx") + 1
    damage(filled.path, at, b"9")
    async with Journal.open(filled) as journal:
        reported = []
        journal.on_damaged_frame = reported.append
        contents = survivors(await everything(journal))
        assert journal.damaged_frames == 1
        assert journal.status().events == journal.status().size_bytes == 0
    assert contents == [b"%03d" % n for n in range(1, COUNT) if n != 30]
    assert "checksum" in reported[0].reason


async def test_salvage_keeps_checkpoints_and_letters(filled, everything):
    recovery.mark_damaged(filled.path, "seen while in use")
    async with Journal.open(filled) as journal:
        assert journal.set_aside.reason == "seen while in use"
        assert journal.set_aside.frames == COUNT - 1
        assert journal.checkpoint("at") == b"%d" % (COUNT - 1)
        assert journal.status().dead_letters == 1
        assert len(await everything(journal)) == COUNT - 1
    async with Journal.open(filled) as journal:
        assert journal.set_aside is None


class Killed(BaseException):
    """Nothing after it happens."""


@pytest.mark.parametrize("renames", range(6))
async def test_a_kill_in_the_middle_of_a_salvage_loses_nothing(
    options, sender, everything, monkeypatch, renames
):
    """Wherever it is cut off, the events that were only in the log are in the new journal as well,
    and no log is left beside a database it does not belong to.
    """
    async with Journal.open(options) as journal:
        for content in (b"a", b"b", b"c"):
            await sender(journal).write(content)
        files = {
            name: options.path.with_name(name).read_bytes()
            for name in ("buffer.db", "buffer.db-wal")
        }
    for name, content in files.items():
        options.path.with_name(name).write_bytes(content)
    recovery.mark_damaged(options.path, "seen while in use")
    rename = recovery.Path.rename
    moved = []

    def until_killed(self, target):
        if len(moved) == renames:
            raise Killed
        moved.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(recovery.Path, "rename", until_killed)
    if renames < 5:
        with pytest.raises(Killed):
            recovery.open_or_set_aside(options.path, "durable")
    else:
        recovery.open_or_set_aside(options.path, "durable")
    monkeypatch.undo()
    async with Journal.open(options) as journal:
        assert await everything(journal) == [b"a", b"b", b"c"]
    async with Journal.open(options) as journal:
        assert journal.set_aside is None


async def test_a_log_without_its_database_is_kept(options, sender, everything):
    async with Journal.open(options) as journal:
        await sender(journal).write(b"a")
        log = options.path.with_name("buffer.db-wal").read_bytes()
    options.path.unlink()
    options.path.with_name("buffer.db-wal").write_bytes(log)
    async with Journal.open(options) as journal:
        assert "log is there" in journal.set_aside.reason
        assert (
            journal.set_aside.path.with_name(journal.set_aside.path.name + "-wal").read_bytes()
            == log
        )
        assert await everything(journal) == []


@pytest.mark.parametrize("cut", [1, 24, 25, 100, 4000])
async def test_a_torn_end_of_the_log_costs_only_the_last_commit(options, sender, everything, cut):
    async with Journal.open(options) as journal:
        for content in (b"a", b"b", b"c"):
            await sender(journal).write(content)
        database = options.path.read_bytes()
        log = options.path.with_name("buffer.db-wal").read_bytes()
    options.path.write_bytes(database)
    options.path.with_name("buffer.db-wal").write_bytes(log[:-cut])
    async with Journal.open(options) as journal:
        assert journal.set_aside is None
        assert await everything(journal) == [b"a", b"b"]


async def test_damage_that_shows_while_writing_ends_the_reading_and_is_mended_by_a_restart(
    filled, everything, sender, monkeypatch
):
    from openmeter_collector.storage import writer  # noqa: PLC0415

    def corrupt(*_):
        import apsw  # noqa: PLC0415

        raise apsw.CorruptError("database disk image is malformed")

    async with Journal.open(filled) as journal:
        monkeypatch.setattr(writer, "insert_letters", corrupt)
        await sender(journal).write(b"new")
        with pytest.raises(StorageError, match="start again"):
            await everything(journal)
        monkeypatch.undo()
    async with Journal.open(filled) as journal:
        assert journal.set_aside is not None
        assert len(await everything(journal)) >= COUNT - 1


def test_every_frame_before_and_behind_a_broken_page_is_salvaged(tmp_path):
    path = tmp_path / "b.db"
    connection = open_connection(path, "durable")
    from openmeter_collector.storage.frame import encode_frame  # noqa: PLC0415

    frames = [encode_frame([Message(b"%d" % number + b"y" * 200)]) for number in range(2000)]
    with connection:
        connection.executemany(
            "INSERT INTO frames (id, received_ms, events, size, payload) VALUES (?,1,1,200,?)",
            list(enumerate(frames, start=1)),
        )
    connection.close()
    damage(path, pages(path) // 2 * PAGE, bytes(PAGE))
    opened = recovery.open_or_set_aside(path, "durable")
    assert opened.report is not None
    assert 1900 < opened.frames < 2000
    assert opened.last_id == 2000


@pytest.mark.parametrize("column", ["payload", "tally", "received_ms", "size", "done"])
async def test_a_row_whose_head_says_another_type_costs_itself_alone(
    options, sender, everything, column
):
    """SQLite reads what the head of a row says: a flipped bit makes a number or text of a blob."""
    async with Journal.open(options) as journal:
        for content in (b"one", b"two", b"three"):
            await sender(journal).write(content)
    connection = open_connection(options.path, "durable")
    connection.execute(f"UPDATE frames SET {column} = 'text' WHERE id = 2")
    connection.close(True)
    async with Journal.open(options) as journal:
        found = await everything(journal)
        assert {b"one", b"three"} <= set(found) <= {b"one", b"two", b"three"}
        assert b"two" in found or journal.damaged_frames or journal.set_aside

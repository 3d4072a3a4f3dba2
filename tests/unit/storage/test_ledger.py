"""The books: each event once, under its names and hour, in the transaction of the fact."""

import asyncio
import gzip
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed, Dropped, Overloaded, Retryable
from openmeter_collector.message import Message
from openmeter_collector.storage import audit, ledger
from openmeter_collector.storage import journal as journal_module
from openmeter_collector.storage import writer as writer_module
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.schema import FORMAT, open_connection
from openmeter_collector.storage.visit import reading

FORMAT_1 = Path(__file__).parent / "files" / "journal-format-1.db.gz"


@pytest.fixture
def options(tmp_path):
    return JournalOptions(tmp_path / "buffer.db", min_free_bytes=0)


def event(number, source="shop", kind="request"):
    return b'{"id":"%d","source":"%b","type":"%b"}' % (number, source.encode(), kind.encode())


def lines_of(path):
    with reading(path) as connection:
        return audit.audited(connection)


def told(path, source="shop", kind="request"):
    """The counts of all hours of one source and type that are not 0, what waits among them."""
    lines = [line for line in lines_of(path) if (line.source, line.type) == (source, kind)]
    whole = ledger.total(lines)
    counts = whole.counts | {"waiting": whole.waiting}
    return {name: count for name, count in counts.items() if count}


def balanced(path):
    return all(line.balance == 0 for line in lines_of(path))


def letter_for(message):
    return Undeliverable(DeadLetter(message, "refused", "400", 1, 1.0, 2.0, "out"))


async def test_each_event_is_in_one_column_of_its_source_and_type(options, sender, monkeypatch):
    monkeypatch.setattr(journal_module, "_REDELIVER_FIRST", 0.001)
    async with Journal.open(options) as journal:
        await sender(journal).write(
            event(0), event(1), event(2, kind="tokens"), event(3), event(4), b"no event"
        )
        delivery = await journal.read()
        delivery.settle(
            BatchFailed(
                {
                    1: letter_for(delivery.batch[1]),
                    2: Dropped("the filter"),
                    3: Retryable("later"),
                }
            )
        )
        again = await journal.read()
        assert [message.content for message in again.batch] == [event(3)]
    assert told(options.path) == {"received": 4, "delivered": 2, "dead": 1, "waiting": 1}
    assert told(options.path, kind="tokens") == {"received": 1, "dropped": 1}
    assert told(options.path, "", "") == {"received": 1, "delivered": 1}
    assert ledger.total(lines_of(options.path)).dropped_by == {"the filter": 1}
    assert balanced(options.path)


async def test_what_never_reached_the_buffer_is_counted_with_its_reason(options, sender):
    async with Journal.open(options) as journal:
        await sender(journal).write(event(0))
        journal.dropped([Message(event(1)), Message(event(2))], "input (mapping)")
        journal.refused([event(3, source="other"), b""], "breaks a rule")
    assert told(options.path) == {"received": 3, "dropped": 2, "waiting": 1}
    assert told(options.path, "other") == {"rejected": 1}
    assert told(options.path, "", "") == {"rejected": 1}
    whole = ledger.total(lines_of(options.path))
    assert whole.dropped_by == {"input (mapping)": 2}
    assert whole.rejected_for == {"breaks a rule": 2}
    assert balanced(options.path)


async def test_all_of_a_frame_dropped_by_one_rule_is_counted_without_reading_it(options, sender):
    async with Journal.open(options) as journal:
        await sender(journal).write(event(0), event(1, kind="tokens"))
        (await journal.read()).settle(Dropped("drop"))
    assert told(options.path) == {"received": 1, "dropped": 1}
    assert told(options.path, kind="tokens") == {"received": 1, "dropped": 1}


@pytest.mark.parametrize("kind", ["write", "sync"])
async def test_a_failing_disk_counts_nothing_twice(options, sender, disk, monkeypatch, kind):
    """A commit that failed may be on the disk all the same; only then is it not repeated."""
    monkeypatch.setattr(writer_module, "_RETRY_AFTER_FAILURE", 0.01)
    async with Journal.open(options) as journal:
        await sender(journal).write(event(0), event(1))
        delivery = await journal.read()
        left = [2]

        def fault(call):
            if call.kind == kind and call.file.endswith("-wal") and left[0]:
                left[0] -= 1
                return apsw.IOError("disk I/O error")
            return None

        disk.fault = fault
        journal.dropped([Message(event(2))], "a rule")
        delivery.settle(BatchFailed({0: letter_for(delivery.batch[0])}))
        journal._writer.nudge()
        while left[0] or journal.status().failure or not journal.status().dead_letters:
            await asyncio.sleep(0.005)
        disk.fault = None
    assert told(options.path) == {"received": 3, "delivered": 1, "dead": 1, "dropped": 1}
    assert balanced(options.path)


async def test_a_refused_write_that_is_on_the_disk_is_received_once(
    options, sender, disk, monkeypatch
):
    monkeypatch.setattr(writer_module, "_RETRY_AFTER_FAILURE", 0.01)
    async with Journal.open(options) as journal:
        await sender(journal).write(event(0))
        left = [2]

        def fault(call):
            if call.kind == "sync" and left[0]:
                left[0] -= 1
                return apsw.IOError("disk I/O error")
            return None

        disk.fault = fault
        assert isinstance(await sender(journal).write(event(1)), Overloaded)
        while journal.status().failure is not None:
            await asyncio.sleep(0.005)
    assert told(options.path) == {"received": 2, "waiting": 2}


async def test_an_hour_has_a_bounded_number_of_lines(options, sender, monkeypatch, everything):
    monkeypatch.setattr(ledger, "MOST_LINES", 3)
    async with Journal.open(options) as journal:
        await sender(journal).write(*(event(n, source=f"s{n}") for n in range(10)))
    async with Journal.open(options) as journal:
        await sender(journal).write(event(99, source="s0"), event(98, source="s9"))
        assert len(await everything(journal)) == 12
    assert told(options.path, "s0") == {"received": 2, "delivered": 2}
    other = told(options.path, *ledger.OTHER)
    assert other == {"received": 8, "delivered": 8}
    assert len(lines_of(options.path)) == 4
    assert balanced(options.path)


async def test_lines_are_kept_until_all_is_settled_and_for_a_while_after(options, sender):
    kept = JournalOptions(options.path, min_free_bytes=0, keep_books=-3600 * 2)
    async with Journal.open(options) as journal:
        await sender(journal).write(event(0), event(1, source="waits"))
        (await journal.read()).settle(BatchFailed({1: Retryable("later")}))
    async with Journal.open(kept) as journal:
        await sender(journal).write(event(2, source="new"))
    assert {line.source for line in lines_of(options.path)} == {"waits", "new"}


async def test_names_are_cut_and_odd_events_have_none(options):
    assert ledger.names_of(b'{"source":"%b","type":"t"}' % (b"x" * 999)) == ("x" * 256, "t")
    for odd in (b"", b"[]", b"\xff", b'{"source":1}', b'{"source":"\\ud800"}', b"[" * 100_000):
        assert ledger.names_of(odd) == ("", "")


async def test_the_names_are_those_of_the_event_and_not_of_its_data(options):
    content = b'{"data":{"source":"inner","type":"inner"},"type":"t","source":"s"}'
    assert ledger.names_of(content) == ("s", "t")


async def test_what_damage_took_is_lost_in_the_books(options, sender, everything):
    async with Journal.open(options) as journal:
        for number in range(20):
            await sender(journal).write(event(number)[:-1] + b',"pad":"%b"}' % (b"x" * 20_000))
    content = bytearray(options.path.read_bytes())
    at = content.index(b'"pad"') // 8192 * 8192
    content[at : at + 8192] = bytes(8192)
    connection = open_connection(options.path, "os")
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'frames'").get
    connection.close()
    content[(root - 1) * 8192 : root * 8192] = bytes(8192)
    options.path.write_bytes(content)
    async with Journal.open(options) as journal:
        report = journal.set_aside
    assert report is not None
    assert report.lost_events == 20 - report.events > 0
    assert told(options.path)["lost"] == report.lost_events
    assert balanced(options.path)


# ---- from the first format ----------------------------------------------------------------------


@contextmanager
def of_format_1(path):
    path.write_bytes(gzip.decompress(FORMAT_1.read_bytes()))
    yield path


async def test_a_journal_of_the_first_format_keeps_its_backlog_and_gets_books(
    options, sender, everything
):
    with of_format_1(options.path):
        async with Journal.open(options) as journal:
            assert journal.set_aside is None
            assert journal.status().events == 13
            assert journal.status().dead_letters == 1
            assert journal.checkpoint("cursor") == b"4"
            await sender(journal).write(event(100))
            first = await journal.read()
            assert [b'"id":"2"' in m.content or b'"id":"3"' in m.content for m in first.batch] == [
                True,
                True,
            ]
            assert dict((await journal.read()).batch[0].metadata) == {"k": "v"}
            first.settle(None)
    assert told(options.path) == {"received": 3, "dead": 1, "delivered": 1, "waiting": 1}
    assert told(options.path, kind="tokens") == {"received": 1, "delivered": 1}
    assert told(options.path, source="api") == {"received": 10, "waiting": 10}
    assert told(options.path, "", "") == {"received": 1, "waiting": 1}
    assert balanced(options.path)
    async with Journal.open(options) as journal:
        assert len(await everything(journal)) == 12
    assert balanced(options.path)
    with reading(options.path) as connection:
        assert connection.execute("PRAGMA user_version").get == FORMAT


async def test_a_kill_in_the_middle_of_an_upgrade_leaves_the_old_file_whole(options, monkeypatch):
    from openmeter_collector.storage import upgrade  # noqa: PLC0415

    class KilledError(BaseException):
        pass

    def killed(connection):
        raise KilledError

    with of_format_1(options.path):
        monkeypatch.setattr(upgrade, "begin_the_books", killed)
        with pytest.raises(KilledError):
            async with Journal.open(options):
                pass
        monkeypatch.undo()
        async with Journal.open(options) as journal:
            assert journal.set_aside is None
            assert journal.status().events == 13
    assert balanced(options.path)


async def test_a_damaged_journal_of_the_first_format_is_salvaged_with_books(options):
    with of_format_1(options.path):
        options.path.with_name("buffer.db.damage").write_text("it broke")
        async with Journal.open(options) as journal:
            assert journal.set_aside.events >= 13
            assert journal.status().dead_letters == 1
    assert balanced(options.path)
    assert told(options.path)["dead"] == 1

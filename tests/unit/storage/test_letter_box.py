"""What a person does with dead letters, beside a running journal and without one."""

import asyncio

import pytest

from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed
from openmeter_collector.message import Message
from openmeter_collector.storage import audit, ledger, letter_box
from openmeter_collector.storage import returned as returned_module
from openmeter_collector.storage import writer as writer_module
from openmeter_collector.storage.dead_letters import Wanted, find_letters
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.visit import changing, reading


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(writer_module, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(writer_module, "_IDLE", 0.01)


@pytest.fixture
def options(tmp_path):
    return JournalOptions(tmp_path / "buffer.db", min_free_bytes=0)


def event(number, kind="request"):
    return b'{"id":"%d","source":"shop","type":"%b","subject":"c"}' % (number, kind.encode())


def refused(content, reason="refused"):
    return Undeliverable(DeadLetter(Message(content), reason, "400", 1, 100.0, 200.0, "out"))


async def bury(journal, sender, *contents, as_=None, metadata=None):
    """Have events refused; `as_` is what processors made of them."""
    await sender(journal).write(*contents, metadata=metadata)
    delivery = await journal.read()
    verdicts = {at: refused(as_ or content) for at, content in enumerate(contents)}
    delivery.settle(BatchFailed(verdicts))
    before = journal.status().dead_letters
    while journal.status().dead_letters < before + len(contents):
        await asyncio.sleep(0.005)


def told(path):
    with reading(path) as connection:
        lines = audit.audited(connection)
    assert all(line.balance == 0 for line in lines), lines
    assert all(line.letters == line.counts["dead"] for line in lines)
    whole = ledger.total(lines)
    counts = whole.counts | {"waiting": whole.waiting}
    return {name: count for name, count in counts.items() if count}


def ids(path, **wanted):
    with reading(path) as connection:
        return [letter.id for letter in find_letters(connection, Wanted(**wanted))]


async def test_a_replayed_letter_is_delivered_by_the_running_collector(options, sender):
    async with Journal.open(options) as journal:
        await bury(journal, sender, event(1), event(2), metadata={"k": "v"})
        with changing(options.path) as connection:
            assert letter_box.replay(connection, [1]) == 1
        delivery = await journal.read()
        assert [message.content for message in delivery.batch] == [event(1)]
        assert dict(delivery.batch[0].metadata) == {"k": "v"}
        assert journal.status().dead_letters == 1
        assert journal.status().events == 1
        delivery.settle(None)
        assert journal.status().events == journal.status().size_bytes == 0
    assert told(options.path) == {"received": 2, "delivered": 1, "dead": 1, "replayed": 1}


async def test_without_a_collector_the_next_start_delivers_it(options, sender, everything):
    async with Journal.open(options) as journal:
        await bury(journal, sender, event(1))
    with changing(options.path) as connection:
        letter_box.replay(connection, [1])
    assert told(options.path) == {"received": 1, "waiting": 1, "replayed": 1}
    async with Journal.open(options) as journal:
        delivery = await journal.read()
        assert [message.content for message in delivery.batch] == [event(1)]
        delivery.settle(None)
    assert told(options.path) == {"received": 1, "delivered": 1, "replayed": 1}


async def test_it_is_the_event_as_it_was_received_that_is_put_back(options, sender):
    """What was refused is what processors made of it; it goes through them again."""
    async with Journal.open(options) as journal:
        await bury(journal, sender, event(1), as_=b'{"id":"mapped","type":"other"}')
        with reading(options.path) as connection:
            (letter,) = find_letters(connection, Wanted())
        assert (letter.event_id, letter.content) == ("mapped", b'{"id":"mapped","type":"other"}')
        with changing(options.path) as connection:
            letter_box.replay(connection, [letter.id])
        delivery = await journal.read()
        assert [message.content for message in delivery.batch] == [event(1)]
        delivery.settle(None)
    assert told(options.path) == {"received": 1, "delivered": 1, "replayed": 1}


async def test_a_letter_that_is_refused_again_is_a_letter_again(options, sender):
    async with Journal.open(options) as journal:
        await bury(journal, sender, event(1))
        with changing(options.path) as connection:
            letter_box.replay(connection, [1])
        delivery = await journal.read()
        delivery.settle(refused(event(1), "still no"))
    assert told(options.path) == {"received": 1, "dead": 1, "replayed": 1}
    assert ids(options.path, reason="still") == [2], "a number is never given twice"


async def test_a_dropped_letter_is_counted_as_dropped_by_a_person(options, sender):
    async with Journal.open(options) as journal:
        await bury(journal, sender, event(1), event(2))
        with changing(options.path) as connection:
            assert letter_box.drop(connection, [2, 77]) == 1
        while journal.status().dead_letters != 1:
            await asyncio.sleep(0.005)
    assert told(options.path) == {"received": 2, "dead": 1, "dropped": 1}
    with reading(options.path) as connection:
        assert ledger.total(audit.audited(connection)).dropped_by == {"dlq drop": 1}


@pytest.mark.parametrize("kind", ["request", "other"])
async def test_an_edited_letter_keeps_what_it_came_with_and_goes_out_as_it_is_now(
    options, sender, kind
):
    async with Journal.open(options) as journal:
        await bury(journal, sender, event(1))
        mended = event(1, kind)[:-1] + b',"data":{}}'
        with changing(options.path) as connection:
            (letter,) = find_letters(connection, Wanted())
            assert letter_box.edit(connection, letter, mended)
            assert not letter_box.edit(connection, letter, b"{}"), "it was changed in between"
            (letter,) = find_letters(connection, Wanted(type=kind))
            assert (letter.content, letter.original) == (mended, event(1))
        assert told(options.path) == {"received": 1, "dead": 1}
        with changing(options.path) as connection:
            letter_box.replay(connection, [1])
        delivery = await journal.read()
        assert [message.content for message in delivery.batch] == [mended]
        delivery.settle(None)
    if kind == "request":
        assert told(options.path) == {"received": 1, "delivered": 1, "replayed": 1}
    else:  # another type is another event in the books
        assert told(options.path) == {
            "received": 2, "dropped": 1, "delivered": 1, "replayed": 1,
        }  # fmt: skip


async def test_all_of_many_letters_come_back(options, sender, monkeypatch, everything):
    monkeypatch.setattr(letter_box, "AT_ONCE", 3)
    monkeypatch.setattr(returned_module, "_AT_ONCE", 2)
    async with Journal.open(options) as journal:
        await bury(journal, sender, *(event(number) for number in range(20)))
        with changing(options.path) as connection:
            assert letter_box.replay(connection, range(1, 21)) == 20
        back = []
        while len(back) < 20:
            delivery = await journal.read()
            back += [message.content for message in delivery.batch]
            delivery.settle(None)
    assert back == [event(number) for number in range(20)]
    assert told(options.path) == {"received": 20, "delivered": 20, "replayed": 20}


@pytest.mark.parametrize("after", ["replay", "move"])
async def test_a_kill_between_the_steps_of_a_replay_neither_loses_nor_doubles(
    options, sender, tmp_path, after, everything
):
    """The files as a kill would leave them, once behind each of the two transactions."""
    async with Journal.open(options) as journal:
        await bury(journal, sender, event(1), event(2))
    if after == "move":
        with changing(options.path) as connection:
            letter_box.replay(connection, [1, 2])
        async with Journal.open(options) as journal:
            await journal.read()
            # Not settled: it was given out and the process is gone.
    else:
        with changing(options.path) as connection:
            letter_box.replay(connection, [1, 2])
    async with Journal.open(options) as journal:
        delivery = await journal.read()
        assert [message.content for message in delivery.batch] == [event(1), event(2)]
        delivery.settle(None)
        assert journal.status().events == 0
    assert told(options.path) == {"received": 2, "delivered": 2, "replayed": 2}


async def test_what_fails_while_replaying_changes_nothing(options, sender):
    async with Journal.open(options) as journal:
        await bury(journal, sender, event(1), event(2))

    def fails(message):
        if b'"2"' in message.content:
            raise KeyError("a defect")
        return message

    with changing(options.path) as connection, pytest.raises(KeyError):
        letter_box.replay(connection, [1, 2], fails)
    assert ids(options.path) == [1, 2]
    assert told(options.path) == {"received": 2, "dead": 2}


async def test_letters_are_found_by_what_is_known_of_them(options, sender):
    async with Journal.open(options) as journal:
        await bury(journal, sender, event(1), event(2, "tokens"))
    path = options.path
    assert ids(path) == [1, 2]
    assert ids(path, type="tokens") == [2]
    assert ids(path, event_id="1", source="shop", subject="c") == [1]
    assert ids(path, reason="fuse") == ids(path, reason="400") == [1, 2]
    assert ids(path, reason="no such") == []
    assert ids(path, since=200.0) == [1, 2]
    assert ids(path, until=200.0) == ids(path, since=201.0) == []
    assert ids(path, letters=(2, 9)) == [2]


async def test_the_history_says_who_did_what_and_stays_bounded(options, sender, monkeypatch):
    monkeypatch.setattr(letter_box, "_MOST_HISTORY", 2)
    async with Journal.open(options) as journal:
        await bury(journal, sender, *(event(number) for number in range(4)))
    with changing(options.path) as connection:
        letter_box.drop(connection, [1])
        letter_box.replay(connection, [2])
        letter_box.edit(connection, next(find_letters(connection, Wanted())), b"{}")
        rows = list(connection.execute("SELECT event_id, what FROM history ORDER BY id"))
    assert rows == [("1", "replayed"), ("2", "edited")]

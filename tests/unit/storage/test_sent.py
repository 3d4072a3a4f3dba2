"""What was delivered is kept when asked for; ids that come again are noticed when asked for."""

import asyncio

import pytest

from openmeter_collector.message import Message
from openmeter_collector.storage import audit, ledger
from openmeter_collector.storage import sent as sent_module
from openmeter_collector.storage import writer as writer_module
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.recovery import mark_damaged
from openmeter_collector.storage.schema import FARTHEST_MS
from openmeter_collector.storage.sent import read_sent
from openmeter_collector.storage.visit import changing, reading


def event(number, data=1):
    return b'{"id":"%d","source":"shop","type":"request","data":%d}' % (number, data)


def options(tmp_path, **more):
    return JournalOptions(tmp_path / "buffer.db", min_free_bytes=0, **more)


def kept(path, since=0, until=FARTHEST_MS):
    with reading(path) as connection:
        return [one.message.content for one in read_sent(connection, since, until)]


def counts(path):
    with reading(path) as connection:
        whole = ledger.total(audit.audited(connection))
    return {name: count for name, count in whole.counts.items() if count}


async def test_what_was_delivered_is_kept_event_by_event(tmp_path, sender):
    asked = options(tmp_path, keep_sent=3600)
    async with Journal.open(asked) as journal:
        assert journal.keeps_sent
        await sender(journal).write(event(1))
        delivery = await journal.read()
        journal.sent([Message(event(1)), Message(b" [%b, %b]" % (event(2), event(3)))])
        delivery.settle(None)
    assert kept(asked.path) == [event(1), event(2), event(3)]
    assert kept(asked.path, until=1) == []


async def test_nothing_is_kept_longer_than_asked_for(tmp_path, sender):
    async with Journal.open(options(tmp_path, keep_sent=3600)) as journal:
        journal.sent([Message(event(1))])
        journal._writer.nudge()
    later = options(tmp_path)
    async with Journal.open(later) as journal:
        assert not journal.keeps_sent
        await sender(journal).write(event(2))
    assert kept(later.path) == []


async def keep(path, numbers, most):
    """Deliver these, each in a commit of its own."""
    options = JournalOptions(path, min_free_bytes=0, keep_sent=3600, keep_sent_bytes=most)
    async with Journal.open(options) as journal:
        for number in numbers:
            committed = asyncio.Event()
            journal.on_group = lambda _, done=committed: done.set()
            journal.sent([Message(event(number))])
            journal._writer.nudge()
            await committed.wait()


def sizes(path):
    """Bytes that are kept, and what the file says of them."""
    with reading(path) as connection:
        return (
            connection.execute("SELECT coalesce(sum(length(payload)), 0) FROM sent").get,
            connection.execute("SELECT value FROM meta WHERE key = 'sent_bytes'").get,
        )


async def test_no_more_is_kept_than_asked_for_and_the_oldest_go_first(tmp_path):
    path = tmp_path / "buffer.db"
    await keep(path, [0], 1 << 20)
    one, said = sizes(path)
    assert said == one
    await keep(path, range(1, 10), 4 * one + 3)
    assert kept(path) == [event(number) for number in range(6, 10)]
    assert sizes(path) == (4 * one, 4 * one)
    await keep(path, [10], 2 * one + 3)
    assert kept(path) == [event(9), event(10)]


async def test_a_bound_that_comes_later_counts_what_is_there(tmp_path):
    path = tmp_path / "buffer.db"
    await keep(path, [1], 1 << 20)
    await keep(path, range(2, 6), 0)
    held, said = sizes(path)
    assert said is None, "nobody counts without a bound"
    await keep(path, [6], held)
    assert kept(path) == [event(number) for number in range(2, 7)]


async def test_what_went_by_its_age_makes_room(tmp_path):
    path = tmp_path / "buffer.db"
    await keep(path, [1, 2], 1 << 20)
    with changing(path) as connection:
        connection.execute("UPDATE sent SET sent_ms = 0 WHERE id = 1")
    await keep(path, [3], 1 << 20)
    assert kept(path) == [event(2), event(3)]
    held, said = sizes(path)
    assert held == said


async def test_after_a_damage_what_is_kept_is_counted_anew(tmp_path):
    path = tmp_path / "buffer.db"
    await keep(path, [1, 2], 1 << 20)
    with changing(path) as connection:
        connection.execute("UPDATE meta SET value = 1 << 40 WHERE key = 'sent_bytes'")
    mark_damaged(path, "a page is gone")
    await keep(path, [3], 1 << 20)
    assert kept(path) == [event(1), event(2), event(3)]
    held, said = sizes(path)
    assert held == said


async def test_a_settlement_is_never_on_the_disk_without_what_was_sent(tmp_path, sender):
    """Both are taken for one commit in the order that keeps this true."""
    async with Journal.open(options(tmp_path, keep_sent=3600)) as journal:
        await sender(journal).write(event(1))
        delivery = await journal.read()
        writer = journal._writer
        order = []
        drain = writer_module._drain

        def watched(queue):
            order.append(id(queue))
            return drain(queue)

        writer_module._drain = watched
        try:
            await sender(journal).write(event(2))
        finally:
            writer_module._drain = drain
        assert order.index(id(writer._settlements)) < order.index(id(writer._sent))
        delivery.settle(None)


async def test_ids_that_come_again_are_counted_and_kept(tmp_path, sender, everything):
    asked = options(tmp_path, detect_conflicts=3600)
    groups = []
    async with Journal.open(asked) as journal:
        journal.on_group = groups.append
        await sender(journal).write(event(1), event(2), b"no event", b"no event")
        await sender(journal).write(event(1), event(2, data=7))
    async with Journal.open(asked) as journal:
        await sender(journal).write(event(2, data=8))
        assert len(await everything(journal)) == 7
    assert [one.id for group in groups for one in group.conflicts] == ["2"]
    told = counts(asked.path)
    assert (told["duplicates"], told["conflicts"], told["received"]) == (1, 2, 7)
    with reading(asked.path) as connection:
        rows = list(connection.execute("SELECT event_id, event_source, what FROM history"))
    assert rows == [("2", "shop", "conflict")] * 2


async def test_the_same_id_of_another_source_is_another_event(tmp_path, sender):
    asked = options(tmp_path, detect_conflicts=3600)
    async with Journal.open(asked) as journal:
        await sender(journal).write(event(1), event(1).replace(b"shop", b"other"))
    assert "duplicates" not in counts(asked.path)
    assert "conflicts" not in counts(asked.path)


@pytest.mark.parametrize(("hours", "remembered"), [(0, True), (1, True), (2, False), (9, False)])
async def test_ids_are_remembered_for_one_window_and_forgotten_after_two(
    tmp_path, sender, monkeypatch, hours, remembered
):
    asked = options(tmp_path, detect_conflicts=3600)
    now = [1_800_000_000 * 10**9 // (3600 * 10**9) * 3600 * 10**9]
    monkeypatch.setattr(writer_module.time, "time_ns", lambda: now[0])
    async with Journal.open(asked) as journal:
        await sender(journal).write(event(1))
        now[0] += hours * 3600 * 10**9
        await sender(journal).write(event(1))
    assert ("duplicates" in counts(asked.path)) == remembered


async def test_it_costs_nothing_unless_it_is_asked_for(tmp_path, sender, monkeypatch):
    monkeypatch.setattr(sent_module.SeenIds, "look", None)
    async with Journal.open(options(tmp_path)) as journal:
        assert not journal.keeps_sent
        assert await sender(journal).write(event(1), event(1)) is None

"""The audit of a journal in use: right, seldom, bounded, and nobody waits for it."""

import asyncio
import re
import threading

import pytest

from kit.pipes import REGISTRY
from openmeter_collector.message import Delivery, Message
from openmeter_collector.storage import watch as module
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.visit import changing, reading
from openmeter_collector.storage.watch import AUDIT_EVERY, BooksWatch
from openmeter_collector.testing.running import running

CONFIG = """
http: {{enabled: false}}
input: {{generate: {{batch_size: 3, interval: 1h, mapping: 'root = {{"id": "a"}}'}}}}
buffer: {{sqlite: {{path: "{path}", min_free_bytes: 0}}}}
output: {{drop: {{}}}}
"""


def spoil(path):
    with changing(path) as connection:
        connection.execute("UPDATE ledger SET received = received + 3")


def received(path):
    with reading(path) as connection:
        return connection.execute("SELECT sum(received) FROM ledger").get


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


class Books:
    """A watch over a journal with one event in it, whose clock is set by hand."""

    def __init__(self, path):
        self.now = 0.0
        self.told = []
        self.watch = BooksWatch(path, lambda: self.now, self.told.append)

    def asked(self):
        """What an audit that begins now finds."""
        self.now += AUDIT_EVERY
        self.watch.imbalance()
        self.watch._executor.submit(lambda: None).result(20)
        return self.watch.imbalance()


@pytest.fixture
async def path(tmp_path):
    path = tmp_path / "buffer.db"
    async with Journal.open(JournalOptions(path, min_free_bytes=0)) as journal:
        safe = asyncio.Event()
        journal.write(Delivery([Message(b'{"id":"1"}')], lambda _: safe.set()))
        await safe.wait()
        yield path


@pytest.fixture
def books(path):
    books = Books(path)
    yield books
    books.watch.close()


def test_books_that_are_right_are_off_by_nothing_and_others_by_what_is_missing(path, books):
    assert books.asked() == 0
    spoil(path)
    assert books.asked() == 3
    assert books.told == []


def test_they_are_looked_at_once_in_a_while_however_often_somebody_asks(path, books):
    assert books.asked() == 0
    spoil(path)
    books.now += AUDIT_EVERY - 1
    assert [books.watch.imbalance() for _ in range(5)] == [0] * 5
    books.watch._executor.submit(lambda: None).result(20)
    assert books.watch.imbalance() == 0


def test_an_audit_that_takes_too_long_is_given_up_and_said_once(path, books, monkeypatch):
    spoil(path)
    assert books.asked() == 3
    monkeypatch.setattr(module, "AUDIT_MOST", -1.0)
    monkeypatch.setattr(module, "_STEPS", 1)
    assert [books.asked(), books.asked()] == [3, 3], "what was known stays"
    assert len(books.told) == 1
    assert "seconds of counting" in books.told[0]


def test_one_that_cannot_be_read_is_said_with_the_reason(tmp_path):
    books = Books(tmp_path / "away.db")
    assert books.asked() == 0
    assert "no such file" in books.told[0]
    books.watch.close()


def test_nothing_begins_after_the_close(path):
    books = Books(path)
    books.watch.close()
    books.now += AUDIT_EVERY
    assert books.watch.imbalance() == 0


async def test_the_metric_of_a_running_collector_says_so(tmp_path):
    path = tmp_path / "buffer.db"
    async with running(CONFIG.format(path=path), REGISTRY) as pipeline:
        # Not asked for metrics before: the first question begins the only audit of five minutes.
        await until(lambda: received(path) == 3)
        spoil(path)

        def shown():
            text = pipeline.metrics.exposition().decode()
            return re.findall(r"^journal_books_imbalance\S* (\S+)$", text, re.MULTILINE)

        await until(lambda: [float(one) for one in shown()] == [3])
    assert not [one for one in threading.enumerate() if one.name.startswith("books-audit")]

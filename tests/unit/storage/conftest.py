"""What the tests of the journal share."""

import asyncio
from collections.abc import Iterator

import pytest

from openmeter_collector.errors import EndOfInput
from openmeter_collector.message import Delivery, Message
from openmeter_collector.storage.journal import Journal
from openmeter_collector.testing.disk import RecordedDisk, recorded_disk


@pytest.fixture
def disk() -> Iterator[RecordedDisk]:
    with recorded_disk() as recorded:
        yield recorded


class Sender:
    """Writes to a journal and keeps what it was told."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.acked: list[bytes] = []
        self.failed: list[tuple[bytes, Exception]] = []

    def write(self, *contents: bytes, checkpoint=None, metadata=None) -> asyncio.Future:
        told = asyncio.get_running_loop().create_future()

        def settle(failure):
            for content in contents:
                if failure is None:
                    self.acked.append(content)
                else:
                    self.failed.append((content, failure))
            told.set_result(failure)

        batch = [Message(content, metadata or {}) for content in contents]
        self.journal.write(Delivery(batch, settle, (checkpoint,) if checkpoint else ()))
        return told


async def read_all(journal: Journal) -> list[Delivery]:
    """Everything that is in a journal, unsettled; ends the journal's giving out."""
    taken = []
    while journal.status().frames > len(taken):
        taken.append(await journal.read())
    return taken


async def drained(journal: Journal) -> list[bytes]:
    """Everything that is in a journal, settled."""
    journal.drain()
    contents = []
    while True:
        try:
            delivery = await journal.read()
        except EndOfInput:
            return contents
        contents += [message.content for message in delivery.batch]
        delivery.settle(None)


@pytest.fixture
def sender():
    return Sender


@pytest.fixture
def everything():
    return drained


@pytest.fixture
def take_all():
    return read_all

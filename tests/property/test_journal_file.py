"""A journal's file with any bytes changed: it starts, gives nothing that was not written, and says."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed, StorageError
from openmeter_collector.message import Delivery, Message
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.visit import reading

CONTENTS = [b'{"id":"%d","source":"s","type":"t","pad":"%b"}' % (n, b"x" * 3000) for n in range(12)]


async def make(path):
    async with Journal.open(JournalOptions(path, min_free_bytes=0)) as journal:
        for content in CONTENTS:
            told = asyncio.get_running_loop().create_future()
            journal.write(Delivery([Message(content)], told.set_result))
            await told
        delivery = await journal.read()
        letter = DeadLetter(delivery.batch[0], "refused", "", 1, 1.0, 1.0, "out")
        delivery.settle(BatchFailed({0: Undeliverable(letter)}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "buffer.db"
    asyncio.run(make(path))
    return path


async def open_and_drain(path):
    async with Journal.open(JournalOptions(path, min_free_bytes=0)) as journal:
        found = []
        journal.drain()
        while journal.status().frames:
            try:
                delivery = await asyncio.wait_for(journal.read(), 10)
            except Exception:  # noqa: BLE001 - damage that shows while reading, or the end
                break
            found += [message.content for message in delivery.batch]
            delivery.settle(None)
        return found, journal.set_aside, journal.damaged_frames


changes = st.lists(
    st.tuples(st.floats(0, 0.999999), st.binary(min_size=1, max_size=40)), min_size=1, max_size=4
)


@given(changes=changes, cut=st.none() | st.floats(0.05, 1))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_changed_bytes_never_make_another_event_and_never_stop_it(whole, changes, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "buffer.db"
        content = bytearray(whole.read_bytes())
        for at, data in changes:
            place = int(at * len(content))
            content[place : place + len(data)] = data
        del content[int((cut or 1) * len(content)) :]
        path.write_bytes(content)
        kept = bytes(content)
        try:
            found, report, damaged = asyncio.run(open_and_drain(path))
        except StorageError as refused:
            # What says that it is another program's, or a newer one's, is not touched.
            assert "another" in str(refused) or "newer" in str(refused)
            assert path.read_bytes() == kept
            return
        assert set(found) <= set(CONTENTS), "delivered what nobody sent"
        if len(found) < len(CONTENTS) - 1:
            assert report is not None or damaged or list(path.parent.glob("*.damage"))
        if report is not None:
            assert report.path.exists(), "the damaged file is kept"
            with reading(path) as connection:
                assert all(line.balance == 0 for line in audited(connection))
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir()

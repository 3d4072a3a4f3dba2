"""14. Long use, in short: nothing grows with the number of events that went through.

The long version is `openmeter-collector selftest --minutes 600 --dir DIR` beside a look at the process.
"""

import asyncio
import gc
import os
import threading
from pathlib import Path

import pytest

from openmeter_collector.message import Delivery, Message
from openmeter_collector.storage.journal import Journal, JournalOptions

ROUNDS = 12
PER_ROUND = 4_000


def memory():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
async def test_memory_descriptors_threads_and_the_file_stay_as_they_are(tmp_path):
    path = tmp_path / "buffer.db"
    seen = []
    options = JournalOptions(path, min_free_bytes=0, keep_sent=0.0)
    async with Journal.open(options) as journal:
        for number in range(ROUNDS):
            for start in range(0, PER_ROUND, 200):
                told = asyncio.get_running_loop().create_future()
                batch = [
                    Message(
                        b'{"id":"%d","source":"s","type":"t"}' % (number * PER_ROUND + start + at)
                    )
                    for at in range(200)
                ]
                journal.write(Delivery(batch, told.set_result))
                assert await told is None
                (await journal.read()).settle(None)
            while journal.status().frames:
                await asyncio.sleep(0.005)
            side = path.with_name("buffer.db-wal")
            seen.append(
                (
                    memory(),
                    len(os.listdir("/proc/self/fd")),  # noqa: PTH208
                    threading.active_count(),
                    path.stat().st_size + side.stat().st_size,
                )
            )
        assert journal.status().events == journal.status().size_bytes == 0
    half = len(seen) // 2
    for what, slack in ((0, 12 << 20), (1, 2), (2, 0), (3, 24 << 20)):
        early, late = max(one[what] for one in seen[:half]), max(one[what] for one in seen[half:])
        assert late <= early + slack, (what, seen)

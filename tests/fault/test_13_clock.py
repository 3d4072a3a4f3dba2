"""13. The machine's clock jumps: nothing that is kept or counted depends on its going forward."""

import pytest

from openmeter_collector.message import Delivery, Message
from openmeter_collector.storage import writer as writer_module
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.ledger import total
from openmeter_collector.storage.visit import reading

HOUR = 3600 * 10**9
JUMPS = {
    "a day forward": [24 * HOUR],
    "a day back": [-24 * HOUR],
    "to and fro": [HOUR, -5 * HOUR, 400 * 24 * HOUR, -400 * 24 * HOUR],
    "to before 1970": [-100 * 365 * 24 * HOUR],
    "far into the future": [200 * 365 * 24 * HOUR],
    "over a leap second": [-(10**9), 10**9],
}


@pytest.mark.parametrize("name", sorted(JUMPS))
@pytest.mark.parametrize("more", [{}, {"detect_conflicts": 3600.0, "keep_sent": 3600.0}])
async def test_whatever_the_clock_does_nothing_is_lost_and_the_books_balance(
    tmp_path, monkeypatch, name, more
):
    path = tmp_path / "buffer.db"
    now = [1_800_000_000 * 10**9]
    monkeypatch.setattr(writer_module.time, "time_ns", lambda: now[0])
    monkeypatch.setattr("time.time", lambda: now[0] / 10**9)
    options = JournalOptions(path, min_free_bytes=0, **more)
    import asyncio  # noqa: PLC0415

    number = 0
    found = []
    for jump in [0, *JUMPS[name]]:
        async with Journal.open(options) as journal:
            for _ in range(3):
                told = asyncio.get_running_loop().create_future()
                content = b'{"id":"%d","source":"s","type":"t"}' % number
                journal.write(Delivery([Message(content)], told.set_result))
                assert await told is None
                number += 1
                now[0] += jump
                assert journal.status().oldest_age >= 0
            delivery = await journal.read()
            if more:
                journal.sent(delivery.batch)
            found += [message.content for message in delivery.batch]
            delivery.settle(None)
    async with Journal.open(options) as journal:
        while journal.status().events:
            delivery = await journal.read()
            found += [message.content for message in delivery.batch]
            delivery.settle(None)
    assert len(found) == len(set(found)) == number
    with reading(path) as connection:
        lines = audited(connection)
    assert all(line.balance == 0 for line in lines)
    # Books of hours that seem long past, and are settled, may be let go.
    assert total(lines).counts["received"] == total(lines).counts["delivered"] <= number

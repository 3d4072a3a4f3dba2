import re

import pytest

from openmeter_collector.cli.demo import picture
from openmeter_collector.testing.demo import Outcome, Snapshot
from openmeter_collector.testing.seeder import Ledger


@pytest.mark.parametrize(
    ("delivered", "left", "dead", "missing"),
    [("123", 0, 0, 0), ("12", 1, 0, 0), ("12", 0, 1, 0), ("12", 0, 0, 1), ("", 1, 1, 1)],
)
def test_what_was_acknowledged_is_delivered_or_kept_or_missing(delivered, left, dead, missing):
    ledger = Ledger(issued=dict.fromkeys("1234", b""), accepted=set("123"))
    outcome = Outcome(ledger, set(delivered), 0, left, 0, dead, 0)
    assert outcome.missing == missing


def test_the_picture_shows_every_type_and_customer():
    now = Snapshot(
        seconds=12.0,
        sandbox_up=False,
        sent=1200,
        received=1190,
        buffered_events=690,
        buffered_bytes=172_500,
        oldest_seconds=3.5,
        delivered=500,
        dead_letters=2,
        duplicates=1,
        rates={"sent": 50.0, "received": 50.0, "delivered": 0.0},
        sent_by_type={"request": 1000, "tokens": 200},
        delivered_by_type={"request": 500},
        sent_by_subject={f"customer-{n}": n for n in range(12)},
        delivered_by_subject={},
        news="12:00:00 warn: delivery failed, backing off",
    )
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(picture(now)))
    assert "local OpenMeter is DOWN" in text
    assert re.search(r"buffered +690 +172\.5 kB, oldest 3\.5 s", text)
    assert re.search(r"tokens +200 +0", text)
    assert re.search(r"customer-1 +1 +0", text)
    assert "delivery failed" in text

"""8. Every way in which a destination fails, one by one and mixed: on a journal, over a real wire.

What holds for all of them: every event arrives as it was sent, in spite of repetitions the destination
has it once, nothing good is a dead letter, and the books balance.
"""

import asyncio
import random
import time
from pathlib import Path

import pytest

from kit.pipes import REGISTRY
from openmeter_collector.config import load
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.run import Control, Pipeline
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.ledger import total
from openmeter_collector.storage.visit import reading
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.testing.sandbox import Sandbox
from openmeter_collector.testing.sandbox import faults as f

EVENTS = 120
_FASTER = 20
CONFIG = """
input:
  generate:
    count: {events}
    interval: ""
    batch_size: 30
    mapping: |
      root.specversion = "1.0"
      root.id = "e%d".format(counter())
      root.source = "wire"
      root.type = if this.or(null) == null {{ "t" }}
      root.subject = "s"
      root.time = "2026-01-01T00:00:00Z"
buffer: {{sqlite: {{path: "{path}", min_free_bytes: 0}}}}
output:
  openmeter:
    url: {url}
    timeout: 300ms
    max_in_flight: 2
    batching: {{count: 20}}
"""
FAULTS = {
    "refused": [f.Down(seconds=0.2)],
    "slow": [f.Slow(seconds=0.1, times=3)],
    "hangs": [f.Hang(seconds=2.0, times=2)],
    "hangs_and_took_it": [f.Hang(seconds=2.0, ingest=True, times=2)],
    "late": [f.Late(seconds=2.0, times=2)],
    "reset": [f.Reset(times=2, ingest=False)],
    "reset_and_took_it": [f.Reset(times=2)],
    "reset_at_once": [f.Reset(bytes=0, times=2)],
    "500": [f.Status(status=500, times=2)],
    "503_with_retry_after": [f.Status(status=503, retry_after=0.1, times=2)],
    "429": [f.Status(status=429, times=2)],
    "429_with_retry_after": [f.Status(status=429, retry_after=0.1, times=2)],
    "partial": [f.Partial(keep=7, times=3)],
    "too_large": [f.TooLarge(bytes=1000)],
    "junk": [f.Status(status=200, body="<html>Sign in", content_type="text/html", times=1)],
    "drip": [f.Drip(seconds=0.001, times=2)],
    "wrong_length": [f.WrongLength(times=2)],
    "one_bad": [f.Refuse(id="^e77$")],
}
REFUSED = {"one_bad": {"e77"}}


async def deliver(folder, *faults, seed=None):
    """Run a pipeline against the sandbox with these faults; what arrived, and what the books say."""

    # Pauses of the collector pass twenty times as fast; the wire has its own time.
    async def sleep(seconds):
        await asyncio.sleep(seconds / _FASTER)

    log = Log(LogOptions(level="off"), lambda _: None)
    around = Surroundings(
        log, MetricStore(), listen=None, mount=None, sleep=sleep,
        monotonic=lambda: time.monotonic() * _FASTER,
    )  # fmt: skip
    async with Sandbox().serve() as sandbox:
        down = [one for one in faults if isinstance(one, f.Down)]
        sandbox.set_faults(*(one for one in faults if one not in down), seed=seed)
        for one in down:
            sandbox.down_for(one.seconds)
        path = Path(folder) / "buffer.db"
        config = load(CONFIG.format(events=EVENTS, path=path, url=sandbox.url), REGISTRY, env={})
        async with asyncio.timeout(60):
            await Pipeline(config, around).run(Control())
        arrived = {event.id: event for event in sandbox.events}
        requests = len(sandbox.requests)
    with reading(path) as connection:
        lines = audited(connection)
        dead = {row[0] for row in connection.execute("SELECT event_id FROM dead_letters")}
    assert all(line.balance == 0 for line in lines)
    counts = total(lines).counts
    assert counts["received"] == EVENTS
    assert total(lines).waiting == 0
    assert counts["delivered"] == EVENTS - len(dead)
    assert not any(event.conflicts for event in arrived.values()), "repeated with other bytes"
    return set(arrived), dead, requests


def everything():
    return {f"e{number}" for number in range(1, EVENTS + 1)}


@pytest.mark.parametrize("name", sorted(FAULTS))
async def test_each_by_itself_costs_no_event(tmp_path, name):
    arrived, dead, requests = await deliver(tmp_path, *FAULTS[name])
    assert dead == REFUSED.get(name, set())
    assert arrived == everything() - dead
    assert requests < 8 * EVENTS, "it is not stormed"


@pytest.mark.parametrize("round_", range(3))
async def test_several_at_a_time_cost_no_event(tmp_path, round_):
    seed = random.SystemRandom().randrange(10**6) + round_
    chance = random.Random(seed)
    names = chance.sample(sorted(set(FAULTS) - {"too_large", "one_bad", "refused"}), 4)
    arrived, dead, _ = await deliver(
        tmp_path, *(one for name in names for one in FAULTS[name]), seed=seed
    )
    assert (arrived, dead) == (everything(), set()), (seed, names)

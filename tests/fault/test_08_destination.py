"""8. Every way in which a destination fails, one by one and mixed: on a journal, over a real wire.

What holds for all of them: every event arrives as it was sent, in spite of repetitions the destination
has it once, nothing good is a dead letter, and the books balance.
"""

import asyncio
import json
import random
import ssl
import time
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

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
{more}
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


def pipeline(folder, url, more="", *, lines=None, faster=_FASTER):
    """Pauses of the collector pass `faster` times as fast; the wire and the disk have their own time."""

    async def sleep(seconds):
        await asyncio.sleep(seconds / faster)

    logged = [] if lines is None else lines
    log = Log(LogOptions(level="info", format="json"), logged.append)
    around = Surroundings(
        log, MetricStore(), listen=None, mount=None, sleep=sleep,
        monotonic=lambda: time.monotonic() * faster,
    )  # fmt: skip
    text = CONFIG.format(events=EVENTS, path=Path(folder) / "buffer.db", url=url, more=more)
    return Pipeline(load(text, REGISTRY, env={}), around)


async def deliver(folder, *faults, seed=None):
    """Run a pipeline against the sandbox with these faults; what arrived, and what the books say."""
    async with Sandbox().serve() as sandbox:
        down = [one for one in faults if isinstance(one, f.Down)]
        sandbox.set_faults(*(one for one in faults if one not in down), seed=seed)
        for one in down:
            sandbox.down_for(one.seconds)
        async with asyncio.timeout(60):
            await pipeline(folder, sandbox.url).run(Control())
        arrived, dead = judged(folder, sandbox)
        return arrived, dead, len(sandbox.requests)


def judged(folder, sandbox):
    """What arrived, and what is dead, when all is over and the books balance."""
    arrived = {event.id: event for event in sandbox.events}
    with reading(Path(folder) / "buffer.db") as connection:
        lines = audited(connection)
        dead = {row[0] for row in connection.execute("SELECT event_id FROM dead_letters")}
    assert all(line.balance == 0 for line in lines)
    counts = total(lines).counts
    assert counts["received"] == EVENTS
    assert total(lines).waiting == 0
    assert counts["delivered"] == EVENTS - len(dead)
    assert not any(event.conflicts for event in arrived.values()), "repeated with other bytes"
    return set(arrived), dead


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


# ---- what a person has to mend -------------------------------------------------------------------


@asynccontextmanager
async def under_way(folder, url, more="", **options):
    """The pipeline at work, and a condition to wait for; at the end of the block it is to end by itself."""
    lines = []
    made = pipeline(folder, url, more, lines=lines, **options)

    async def until(condition):
        while not condition():
            assert not running.done(), "it has ended, or failed"
            await asyncio.sleep(0.005)

    async with asyncio.timeout(60):
        running = asyncio.ensure_future(made.run(Control()))
        try:
            yield made.status, lines, until
            await running
        finally:
            running.cancel()


def stored(status):
    """All of it is in the journal, and none of it is delivered."""
    return status.buffer is not None and status.buffer().events == EVENTS


def said(lines, event, reason=""):
    found = [one for one in map(json.loads, lines) if event in json.dumps(one)]
    return [one for one in found if reason in json.dumps(one)]


@asynccontextmanager
async def tls_before(sandbox, context):
    """A port that speaks TLS with a context, whose certificate may be exchanged, before the sandbox."""

    async def pump(source, target):
        with closing(target):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()

    async def relay(reader, writer):
        back, forth = await asyncio.open_connection(sandbox.host, sandbox.port)
        # One of them hangs up, in order or not, and the other is told so.
        await asyncio.gather(pump(reader, forth), pump(back, writer), return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


LONG_AGO = datetime.now(UTC) - timedelta(days=90)
CERTIFICATES = {
    "expired": (
        lambda ca: ca.issue_cert(
            "localhost", not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=30)
        ),
        "certificate has expired",
    ),
    "another_name": (lambda ca: ca.issue_cert("elsewhere.test"), "not valid for 'localhost'"),
    "a_stranger": (lambda _: trustme.CA().issue_cert("localhost"), "certificate verify failed"),
}


@pytest.mark.parametrize("name", sorted(CERTIFICATES))
async def test_a_wrong_certificate_holds_everything_until_it_is_right(tmp_path, name):
    make, reason = CERTIFICATES[name]
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    make(authority).configure_cert(context)
    more = f"    tls: {{enabled: true, root_cas_file: {tmp_path}/ca.pem}}"
    async with (
        Sandbox().serve() as sandbox,
        tls_before(sandbox, context) as url,
    ):
        async with under_way(tmp_path, url, more) as (status, lines, until):
            await until(lambda: stored(status) and said(lines, "backing off"))
            assert said(lines, "backing off", reason), lines
            assert len(sandbox.requests) == 0, "nothing is told to whom nobody vouches for"
            assert stored(status)
            authority.issue_cert("localhost").configure_cert(context)
        assert said(lines, "delivery recovered")
        assert judged(tmp_path, sandbox) == (everything(), set())


async def test_an_hour_in_which_we_are_not_known_costs_no_event(tmp_path):
    faster = 3600
    async with Sandbox().serve() as sandbox:
        sandbox.set_faults(f.Status(status=401))
        async with under_way(tmp_path, sandbox.url, faster=faster) as (status, lines, until):
            await until(lambda: stored(status) and said(lines, "delivery paused"))
            began = time.monotonic()
            await until(lambda: time.monotonic() - began >= 3600 / faster)
            await until(lambda: len(sandbox.requests) > 3)  # it keeps asking
            passed = (time.monotonic() - began) * faster
            assert stored(status)
            assert len(sandbox.events) == 0
            assert len(sandbox.requests) < 10 + passed / 30, "it storms nobody"
            assert len(said(lines, "delivery paused", "401")) == 1
            sandbox.set_faults()
        assert said(lines, "delivery recovered")
        assert judged(tmp_path, sandbox) == (everything(), set())

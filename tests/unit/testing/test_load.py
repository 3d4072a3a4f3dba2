import asyncio
import json
import sys

import pytest

from openmeter_collector.testing.load import Load, event_bytes, run_load
from openmeter_collector.testing.sandbox import Sandbox
from openmeter_collector.testing.sandbox import faults as fault


async def test_every_event_arrives_once_and_is_accounted_for():
    async with Sandbox().serve() as running:
        report = await run_load(Load(running.url, connections=5, requests=40, batch=3, seconds=0))
        assert {e.id: e.raw for e in running.events} == {
            f"load-{n:012}": event_bytes("load", n, 10) for n in range(120)
        }
    assert sorted(report.accepted) == list(range(40))
    assert report.answered == {204: 40}
    assert len(report.latencies) == 40
    assert report.summary()["events"] == 120


async def test_answers_are_counted_by_status_and_nothing_is_sent_twice():
    async with Sandbox().serve() as running:
        running.set_faults(fault.Status(status=503, times=3), fault.Reset(times=2, bytes=0))
        report = await run_load(Load(running.url, connections=1, requests=10, seconds=0))
        assert running.stats()["duplicates"] == 0
    assert report.answered == {204: 5, 503: 3}
    assert report.cut == 2
    assert len(report.accepted) == 5


async def test_it_stops_in_time_when_nobody_answers():
    async with Sandbox().serve() as running:
        running.set_faults(fault.Hang())
        report = await asyncio.wait_for(run_load(Load(running.url, seconds=0.1)), 10)
    assert report.cut == 64
    assert report.seconds < 1


async def test_nobody_listening_is_an_error():
    async with Sandbox().serve() as running:
        running.down()
        with pytest.raises(ConnectionRefusedError):
            await run_load(Load(running.url, connections=2))


async def test_it_runs_as_a_process_and_prints_json():
    async with Sandbox(light=True, tokens=["t"]).serve() as running:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "openmeter_collector.testing.load", running.url + "/api/v1/events",
            "--requests", "500", "--seconds", "0", "--batch", "10", "--token", "t",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed, _ = await process.communicate()
        assert running.stats()["accepted"] == 5000
    assert process.returncode == 0
    figures = json.loads(printed)
    assert figures["statuses"] == {"204": 500}
    assert figures["latency_ms"]["p50"] > 0

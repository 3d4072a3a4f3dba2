"""`run --workers`: several processes on one port, killed, stopped, and started with fewer of them."""

import json
import os
import signal
import socket
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest
from sink import free_port

from kit.traffic import Running, Traffic
from kit.waiting import until_true

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="children are looked up in /proc"
)

CONFIG = """\
logger: {{format: json}}
shutdown_timeout: {patience}
http: {{enabled: {http}, address: "127.0.0.1:{admin}"}}
input:
  broker:
    inputs:
      - cloudevents: {{address: "127.0.0.1:{port}"}}
      - label: once
        generate:
          interval: ""
          count: 1
          mapping: |
            root = {{"id": "made", "source": "g", "type": "t", "specversion": "1.0", "subject": "s"}}
buffer:
  sqlite: {{path: "{folder}/buffer.db", min_free_bytes: 1MiB}}
output:
  openmeter: {{url: "{url}", batching: {{count: 100, period: 20ms}}}}
"""


@pytest.fixture
def place(tmp_path, sink):
    """A config on a port of its own; `place(workers, ...)` is a collector for it."""
    port = free_port()

    def of(workers, *, admin=0, patience="10s"):
        config = tmp_path / "config.yaml"
        config.write_text(
            CONFIG.format(
                folder=tmp_path,
                url=sink.url,
                port=port,
                admin=admin,
                http=str(bool(admin)).lower(),
                patience=patience,
            )
        )
        more = ("--workers", str(workers)) if workers else ()
        return Running(config, tmp_path / f"log-{workers}", *more)

    of.port = port
    of.folder = tmp_path
    return of


def two_ports_in_a_row():
    while True:
        first = free_port()
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", first + 1))
            return first


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


def stored(path):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        return connection.execute("SELECT coalesce(sum(events), 0) FROM frames").fetchone()[0]


def test_a_worker_that_is_killed_comes_back_and_no_event_is_lost(place, sink):
    with place(2) as collector:
        collector.says("taking events", 2)
        with Traffic(place.port) as traffic:
            for index in (1, 0):
                traffic.more(200)
                at_work = collector.lines("taking events")
                os.kill(collector.workers()[index], signal.SIGKILL)
                collector.says("taking events", len(at_work) + 1)
            traffic.more(200)
        until_true(lambda: traffic.acked <= sink.got.keys())
        assert collector.end() == 0
    died = collector.lines("a worker died and is started again")
    assert [(one["worker"], one["died_of"]) for one in died] == [(1, "SIGKILL"), (0, "SIGKILL")]
    assert sink.got.keys() - {"made"} <= traffic.issued


def test_all_workers_take_events_and_the_first_alone_runs_other_inputs(place, sink):
    with place(3) as collector:
        collector.says("taking events", 3)
        with Traffic(place.port, threads=8) as traffic:
            traffic.more(600)
        assert collector.end() == 0
    assert traffic.acked | {"made"} <= sink.got.keys()
    assert len(sink.got["made"]) == 1
    by_worker = {
        one["worker"]: one["delivered"]
        for one in collector.lines("stopped, nothing is left to deliver")
    }
    assert by_worker.keys() == {0, 1, 2}
    assert all(by_worker.values()), by_worker
    left_out = collector.lines("input does not run here")
    assert {(one["worker"], one["label"]) for one in left_out} == {(1, "once"), (2, "once")}


@pytest.mark.parametrize("later", [0, 2])
def test_fewer_workers_deliver_what_the_others_left(place, sink, later):
    sink.status = 503
    with place(3, patience="200ms") as collector:
        collector.says("taking events", 3)
        with Traffic(place.port, threads=8) as traffic:
            traffic.more(300)
        assert collector.end() == 0
    assert all(stored(place.folder / f"buffer.{index}.db") for index in (1, 2))
    assert sink.got == {}
    sink.status = 204
    with place(later) as collector:
        # Those that only deliver end by themselves.
        collector.says("the journal of a worker that is no more is empty", 3 - (later or 1))
        until_true(lambda: traffic.acked <= sink.got.keys())
        assert collector.end() == 0
    assert json.loads((place.folder / "buffer.db.workers").read_text()) == {
        "workers": max(later, 1)
    }
    assert sink.got.keys() - {"made"} <= traffic.issued


def test_journals_stay_on_the_roll_until_they_are_delivered(place, sink):
    sink.status = 503
    with place(2, patience="200ms") as collector:
        collector.says("taking events", 2)
        with Traffic(place.port, threads=8) as traffic:
            traffic.more(200)
        assert collector.end() == 0
    with place(0, patience="200ms") as collector:  # the destination is still away
        collector.says("taking events")
        assert collector.end() == 0
    assert json.loads((place.folder / "buffer.db.workers").read_text()) == {"workers": 2}
    assert stored(place.folder / "buffer.1.db")


def test_workers_end_with_the_process_that_started_them(place):
    with place(2) as collector:
        collector.says("taking events", 2)
        workers = collector.workers()
        assert len(workers) == 2
        assert collector.end(signal.SIGKILL) == -signal.SIGKILL
    try:
        until_true(lambda: not any(map(is_there, workers.values())))
    finally:
        for pid in workers.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert len(collector.lines("stopped, nothing is left to deliver")) == 2


def test_a_config_that_cannot_be_opened_ends_all_with_its_reason(place):
    with socket.create_server(("127.0.0.1", place.port)), place(2) as collector:
        assert collector.process.wait(60) == 1
    assert "cannot be bound" in collector.log.read_text()
    assert collector.lines("a worker died and is started again") == []


def test_each_worker_serves_metrics_at_the_next_port(place):
    admin = two_ports_in_a_row()
    with place(2, admin=admin) as collector:
        collector.says("taking events", 2)
        served = {
            one["worker"]: one["address"] for one in collector.lines("serving probes and metrics")
        }
        assert served == {0: f"127.0.0.1:{admin}", 1: f"127.0.0.1:{admin + 1}"}
        assert collector.end() == 0

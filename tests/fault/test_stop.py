"""SIGTERM in every situation: nothing acknowledged is lost, the exit code says 0, it is quick."""

import signal
import threading
import time

import pytest
from rounds import Series
from sink import listening, verdict, wait_for


@pytest.fixture
def series(tmp_path):
    made = Series(tmp_path, seed=7)
    yield made
    made.sink.close()


def started(series):
    process, port = series.start()
    wait_for(lambda: listening(port) or process.poll() is not None, what="a listening port")
    return process, port


def load(series, port, least):
    until = threading.Event()
    workers = series.senders.run(port, until)
    wait_for(lambda: len(series.senders.acked) >= least, what="load")
    return until, workers


def stopped(process, seconds=30):
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output.decode()


def test_idle(series):
    process, _ = started(series)
    process.send_signal(signal.SIGTERM)
    assert stopped(process)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_under_load_everything_acknowledged_is_delivered_before_it_ends(series, number):
    process, port = started(series)
    until, workers = load(series, port, 200)
    process.send_signal(number)
    code, output = stopped(process)
    until.set()
    for worker in workers:
        worker.join()
    assert code == 0, output
    assert verdict(series.senders, series.sink) == []


@pytest.mark.slow
def test_with_the_destination_down_the_rest_stays_on_disk_and_is_sent_by_the_next(series):
    series.sink.status = 503
    process, port = started(series)
    until, workers = load(series, port, 100)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    code, output = stopped(process)
    until.set()
    for worker in workers:
        worker.join()
    assert code == 0, output
    assert "undelivered events" in output
    assert time.monotonic() - began < 20
    assert series.sink.got == {}
    series.sink.status = 204
    process, port = started(series)
    wait_for(lambda: series.senders.acked <= set(series.sink.got), what="delivery")
    process.send_signal(signal.SIGTERM)
    assert stopped(process)[0] == 0
    assert verdict(series.senders, series.sink) == []


def test_a_second_signal_ends_it_at_once_and_loses_nothing(series):
    series.sink.status = 503
    process, port = started(series)
    until, workers = load(series, port, 100)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    code, output = stopped(process, 5)
    until.set()
    for worker in workers:
        worker.join()
    assert code == 1, output
    series.sink.status = 204
    process, port = started(series)
    wait_for(lambda: series.senders.acked <= set(series.sink.got), what="delivery")
    process.send_signal(signal.SIGTERM)
    assert stopped(process)[0] == 0
    assert verdict(series.senders, series.sink) == []

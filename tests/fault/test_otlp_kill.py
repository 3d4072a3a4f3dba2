"""kill -9 while OTLP comes in: what was answered is delivered, counters add up, ids stay."""

import json
import random
import threading
import time

import grpc
import pytest
from lives import Lives
from sink import free_port, listening

from kit.otlp import METHODS, counter_request, log_request

CONFIG = """
input:
  otlp:
    grpc_address: 127.0.0.1:{port}
    http_address: ""
    cumulative_counters: delta
    initial_value: keep
pipeline:
  processors:
    - mapping: |
        root.id = meta("otlp_id")
        root.signal = this.signal
        root.body = this.record.body
        root.customer = this.point.attributes.customer
        root.value = this.point.value
"""
ROUNDS = 8


class Exporter(threading.Thread):
    """Sends requests one after the other, each until it is answered, as an exporter does."""

    def __init__(self, port, signal, requests, ended):
        super().__init__(daemon=True)
        self._port, self._signal, self._requests, self._ended = port, signal, requests, ended
        self.acked = 0

    def run(self):
        while not self._ended.is_set():
            body = next(self._requests).SerializeToString()
            while not self._ended.is_set():
                try:
                    with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
                        channel.unary_unary(METHODS[self._signal])(body, timeout=3)
                except grpc.RpcError:
                    time.sleep(0.05)
                    continue
                self.acked += 1
                break


def counters(who, truth):
    """A counter that only grows, exported cumulatively."""
    start = time.time()
    total = 0
    for number in range(1, 1_000_000):
        total += random.randrange(5)
        truth[who] = total
        yield counter_request((who, start, start + number, total), instance=who)


def logs(who, truth):
    for number in range(1_000_000):
        body = f"{who}-{number}"
        truth.append(body)
        yield log_request(body, time_unix_nano=number + 1)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_whenever_the_collector_is_killed_counters_add_up_and_records_arrive_once(tmp_path, capsys):
    port = free_port()
    lives = Lives(tmp_path, CONFIG.format(port=port))
    totals, bodies, ended = {}, [], threading.Event()
    exporters = [Exporter(port, "metrics", counters(who, totals), ended) for who in "ab"]
    exporters.append(Exporter(port, "logs", logs("log", bodies), ended))
    for exporter in exporters:
        exporter.start()
    for _ in range(ROUNDS):
        lives.one(0.7, lambda: listening(port))
    acked = [exporter.acked for exporter in exporters]

    def stop_and_look():
        if not ended.is_set():
            if any(one.acked < before + 3 for one, before in zip(exporters, acked, strict=True)):
                return False
            ended.set()
            for exporter in exporters:
                exporter.join()
        return delivered()["log"] >= exporters[2].acked and not missing()

    def delivered():
        events = [json.loads(copies[0]) for copies in list(lives.sink.got.values())]
        sums = dict.fromkeys("ab", 0) | {"log": 0}
        for event in events:
            if event["signal"] == "logs":
                sums["log"] += 1
            else:
                sums[event["customer"]] += event["value"]
        return sums

    def missing():
        sums = delivered()
        return any(sums[who] < totals[who] - 4 for who in "ab")

    lives.last(stop_and_look)
    sums = delivered()
    got = {json.loads(copies[0]).get("body") for copies in lives.sink.got.values()} - {None}
    with capsys.disabled():
        print(
            f"\n  OTLP, {lives.killed} kills: {acked} answered before the last life, "
            f"{len(lives.sink.got)} delivered, {lives.repeated()} repeated",
            end="",
        )
    assert all(acked)
    # The last request of each may not have been answered when all was stopped.
    assert set(bodies[: exporters[2].acked]) <= got <= set(bodies)
    assert len(got) == delivered()["log"]
    for who in "ab":
        assert totals[who] - 4 <= sums[who] <= totals[who]

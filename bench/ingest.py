"""Durable ingest over HTTP, against the bare ASGI ceiling; and end to end to a local sink."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.harness import COLLECTOR, config, folder, free_port, load, metric, started

SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))
PATH = "/api/v1/events"


def main() -> None:
    port = free_port()
    with started(["-m", "bench.bare", str(port)], port) as bare:
        before = bare.cpu
        ceiling = load(f"http://127.0.0.1:{port}{PATH}", seconds=SECONDS)
        bare_cpu = (bare.cpu - before) / ceiling["requests"] * 1e6
    print(
        f"bare ASGI app: {ceiling['requests_per_second']:,.0f} POST/s, {bare_cpu:.1f} us CPU each"
    )
    with folder() as where:
        print(f"bare fsync: {fsyncs(where):,.0f} appends of 300 bytes with fdatasync a second")
        for durability in ("durable", "os", "memory"):
            single(where / durability, durability, ceiling["requests_per_second"], bare_cpu)
        for count in (100, 1000):
            end_to_end(where / f"sink-{count}", count)


def single(where: Path, durability: str, ceiling: float, bare_cpu: float) -> None:
    """Single events and batches of 100 into the journal; the output throws away."""
    where.mkdir()
    ingest, admin = free_port(), free_port()
    path = config(where, ingest, admin, "drop: {}", f", durability: {durability}")
    with started([*COLLECTOR, str(path)], ingest) as collector:
        before = collector.cpu
        figures = load(f"http://127.0.0.1:{ingest}{PATH}", seconds=SECONDS)
        cpu = (collector.cpu - before) / figures["requests"] * 1e6
        rate = figures["requests_per_second"]
        group = metric(admin, "journal_commit_events_sum") / max(
            1, metric(admin, "journal_commit_events_count")
        )
        print(
            f"{durability}: {rate:,.0f} POST/s = {rate / ceiling:.2f} of bare; "
            f"{cpu:.1f} us CPU each = {bare_cpu / cpu:.2f} of bare; "
            f"p50 {figures['latency_ms']['p50']} ms, p99 {figures['latency_ms']['p99']} ms; "
            f"{group:.0f} events a commit"
        )
        before = collector.cpu
        figures = load(
            f"http://127.0.0.1:{ingest}{PATH}",
            seconds=SECONDS,
            batch=100,
            connections=16,
            put_off=durability == "memory",
        )
        cpu = (collector.cpu - before) / figures["events"] * 1e6
        print(
            f"{durability}, batches of 100: {figures['events_per_second']:,.0f} events/s stored; "
            f"{cpu:.2f} us CPU an event; RSS {collector.rss_mb:.0f} MB"
        )


def end_to_end(where: Path, count: int) -> None:
    """HTTP in, disk, HTTP out to the sandbox, all on this machine's cores together."""
    where.mkdir()
    ingest, admin, sink = free_port(), free_port(), free_port()
    output = f"openmeter: {{url: 'http://127.0.0.1:{sink}', batching: {{count: {count}}}}}"
    path = config(where, ingest, admin, output)
    sandbox = ["-m", "openmeter_collector.cli.main", "sandbox", "--light"]
    with (
        started([*sandbox, "--listen", f"127.0.0.1:{sink}"], sink),
        started([*COLLECTOR, str(path)], ingest) as collector,
    ):
        began = time.perf_counter()
        before = collector.cpu
        figures = load(
            f"http://127.0.0.1:{ingest}{PATH}", seconds=SECONDS, batch=100, connections=16
        )
        while metric(admin, "journal_events"):
            time.sleep(0.02)
        took = time.perf_counter() - began
        delivered = metric(admin, "output_sent")
        cpu = (collector.cpu - before) / delivered * 1e6
        print(
            f"end to end, {count} events a request: {delivered / took:,.0f} events/s delivered to a local sink "
            f"({figures['events_per_second']:,.0f} events/s taken); {cpu:.2f} us CPU an event"
        )


def fsyncs(where: Path, seconds: float = 1.0) -> float:
    """What the disk gives: appends with an fdatasync each."""
    handle = os.open(where / "ceiling", os.O_CREAT | os.O_WRONLY)
    try:
        count = 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            os.write(handle, b"x" * 300)
            os.fdatasync(handle)
            count += 1
    finally:
        os.close(handle)
    return count / seconds


if __name__ == "__main__":
    main()

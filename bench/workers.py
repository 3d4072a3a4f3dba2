"""Durable single POSTs with one process and with several on the same port, against the bare ceiling."""

from __future__ import annotations

import os

from bench.harness import COLLECTOR, config, folder, free_port, load, started

SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))
PATH = "/api/v1/events"


def main() -> None:
    port = free_port()
    with started(["-m", "bench.bare", str(port)], port):
        ceiling = load(f"http://127.0.0.1:{port}{PATH}", seconds=SECONDS)["requests_per_second"]
    print(f"bare ASGI app, one process: {ceiling:,.0f} POST/s")
    with folder() as where:
        for count in (1, 2):
            place = where / str(count)
            place.mkdir()
            ingest = free_port()
            path = config(place, ingest, free_port(), "drop: {}")
            with started([*COLLECTOR, str(path), "--workers", str(count)], ingest):
                for batch, connections in ((1, 64), (100, 32)):
                    # Connections are divided by chance: the mean of several loads, each with its own.
                    runs = [
                        load(
                            f"http://127.0.0.1:{ingest}{PATH}",
                            seconds=SECONDS,
                            batch=batch,
                            connections=connections,
                        )
                        for _ in range(3)
                    ]
                    rate = sum(one["requests_per_second"] for one in runs) / len(runs)
                    p99 = max(one["latency_ms"]["p99"] for one in runs)
                    print(
                        f"{count} worker(s), {batch} event(s) a POST: {rate * batch:,.0f} events/s, "
                        f"{rate:,.0f} POST/s = {rate / ceiling:.2f} of bare; p99 {p99} ms"
                    )


if __name__ == "__main__":
    main()

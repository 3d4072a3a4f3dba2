"""From the start of the process to ready, and memory when idle."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench.harness import COLLECTOR, Running, config, folder, free_port


def main() -> None:
    times, sizes = [], []
    with folder() as where:
        for _ in range(7):
            took, rss = once(where)
            times.append(took)
            sizes.append(rss)
    bare = statistics.median(interpreter() for _ in range(5))
    print(
        f"start to ready: median {statistics.median(times):.2f} s, worst {max(times):.2f} s "
        f"(an empty interpreter takes {bare:.2f} s); idle RSS {max(sizes):.0f} MB"
    )


def once(where: Path) -> tuple[float, float]:
    ingest, admin = free_port(), free_port()
    path = config(where, ingest, admin, "openmeter: {url: 'http://127.0.0.1:9'}")
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *COLLECTOR, str(path)], stdout=subprocess.DEVNULL)
    try:
        while not ready(admin):
            time.sleep(0.002)
        took = time.perf_counter() - began
        time.sleep(1.0)
        return took, Running(process).rss_mb  # type: ignore[arg-type]
    finally:
        process.terminate()
        process.wait()


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def interpreter() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

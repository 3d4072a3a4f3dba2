"""`./dev bench [name...]`: all benchmarks, or those named."""

from __future__ import annotations

import importlib
import sys

NAMES = ("ingest", "workers", "generic", "drain", "start", "sources", "bloblang")


def main() -> None:
    for name in sys.argv[1:] or NAMES:
        print(f"== {name}")
        importlib.import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main()

"""Draining a backlog: the rate must not depend on how much is waiting."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import uvloop

from bench.harness import folder
from openmeter_collector.message import Delivery, Message
from openmeter_collector.storage.journal import Journal, JournalOptions

EVENT = (
    b'{"specversion":"1.0","type":"prompt","id":"00000000-0000-0000-0000-%012d",'
    b'"time":"2026-02-01T16:41:37.188Z","source":"my-app","subject":"customer-1",'
    b'"data":{"tokens":"12345","provider":"openai","model":"gpt-5-nano","type":"output"}}'
)
SIZES = [int(text) for text in os.environ.get("BENCH_DRAIN", "100000,1000000").split(",")]


def main() -> None:
    with folder() as where:
        rates = [uvloop.run(drain(where, size)) for size in SIZES]
    for size, rate in zip(SIZES, rates, strict=True):
        print(f"drain of {size:,}: {rate:,.0f} events/s = {rate / rates[0]:.2f} of the smallest")


async def drain(where: Path, size: int) -> float:
    """Fill without reading, open again, then read and acknowledge everything."""
    options = JournalOptions(where / f"{size}.db")
    async with Journal.open(options) as journal:
        await fill(journal, size)
    async with Journal.open(options) as journal:
        began = time.perf_counter()
        left = size
        while left:
            delivery = await journal.read()
            left -= len(delivery.batch)
            delivery.settle(None)
        rate = size / (time.perf_counter() - began)
    print(f"  {size:,}: file {options.path.stat().st_size / 1e6:.0f} MB after the drain")
    return rate


async def fill(journal: Journal, size: int) -> None:
    loop = asyncio.get_running_loop()
    for start in range(0, size, 1000):
        safe = loop.create_future()
        batch = [Message(EVENT % number) for number in range(start, min(size, start + 1000))]
        journal.write(Delivery(batch, safe.set_result))
        await safe


if __name__ == "__main__":
    main()

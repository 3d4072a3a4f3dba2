"""Reading a table: through the input, against the bare driver reading the same rows.

Needs PostgreSQL, as the tests do; `BENCH_ROWS` sets how many rows are read.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import aclosing
from pathlib import Path

import psycopg
import uvloop

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import Config, read
from openmeter_collector.engine.input_loop import PullInput
from openmeter_collector.message import Delivery
from openmeter_collector.testing.env import FakeEnv

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from kit.databases import postgres

ROWS = int(os.environ.get("BENCH_ROWS", "300000"))
QUERY = (
    "SELECT g AS id, 'customer-' || g % 1000 AS customer, (g * 0.25)::numeric(12,2) AS amount, "
    f"now() AS at, true AS paid FROM generate_series(1, {ROWS}) g"
)


class Forgetting:
    """An intake that takes every row, makes its bytes, as a buffer would, if told to, and forgets it."""

    def __init__(self, *, encode: bool) -> None:
        self._encode = encode

    async def put(self, delivery: Delivery) -> None:
        if self._encode:
            for message in delivery.batch:
                message.content  # noqa: B018 - what is measured
        delivery.settle(None)


async def bare(dsn: str) -> float:
    """Rows a second of the driver with its own types."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        began = time.process_time()
        async with connection.cursor() as cursor:
            async with aclosing(cursor.stream(QUERY, size=1000)) as rows:
                async for _ in rows:
                    pass
        return ROWS / (time.process_time() - began)


async def ours(dsn: str, *, encode: bool) -> float:
    """Rows a second of the input."""
    text = f"input: {{sql_raw: {{driver: postgres, dsn: '{dsn}', query: \"{QUERY}\"}}}}"
    config = read(text, standard_registry(), Config, env={}, file="bench").config
    env = FakeEnv(config.input)
    async with config.input.config.open(env) as opened:
        began = time.process_time()
        await PullInput(env, opened).run(Forgetting(encode=encode))
        return ROWS / (time.process_time() - began)


def main() -> None:
    with postgres() as server:
        there = uvloop.run(bare(server.dsn))
        here = uvloop.run(ours(server.dsn, encode=False))
        encoded = uvloop.run(ours(server.dsn, encode=True))
    print(f"bare driver, rows as tuples: {there:,.0f} rows a second of processor time")
    print(f"sql_raw, rows as messages: {here:,.0f} = {here / there:.2f} of bare")
    print(f"sql_raw, and as JSON: {encoded:,.0f} = {encoded / there:.2f} of bare")


if __name__ == "__main__":
    main()

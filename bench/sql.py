"""Reading a table: through the input, against the bare driver reading the same rows.

Processor time of this process only, which for SQLite and DuckDB includes the database. Needs the servers
that the tests need, and names those that are not there; `BENCH_ROWS` sets how many rows are read.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
import asyncmy
import clickhouse_connect
import duckdb
import orjson
import psycopg
import pytest
import uvloop
from asyncmy.cursors import SSCursor

from bench.sources import best
from openmeter_collector.cli.process import collect_garbage_seldom
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.components.sql.clickhouse import target_of as clickhouse_target
from openmeter_collector.components.sql.mysql import target_of as mysql_target
from openmeter_collector.config import Config, read
from openmeter_collector.engine.input_loop import PullInput
from openmeter_collector.message import Delivery
from openmeter_collector.testing.env import FakeEnv

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from kit.databases import SERVERS

ROWS = int(os.environ.get("BENCH_ROWS", "300000"))
BLOCK = 1000
AMOUNT = "CAST(g * 0.25 AS DECIMAL(12,2))"
QUERIES = {
    "postgres": f"SELECT g AS id, 'customer-' || g % 1000 AS customer, {AMOUNT} AS amount, "
    f"now() AS at, true AS paid FROM generate_series(1, {ROWS}) g",
    "mysql": f"SELECT seq AS id, concat('customer-', seq % 1000) AS customer, "
    f"{AMOUNT.replace('g', 'seq')} AS amount, now(3) AS at, true AS paid FROM seq_1_to_{ROWS}",
    "clickhouse": "SELECT number AS id, concat('customer-', toString(number % 1000)) AS customer, "
    "toDecimal64(number, 2) / 4 AS amount, now64(3, 'UTC') AS at, true AS paid "
    f"FROM numbers({ROWS})",
    "sqlite": "WITH RECURSIVE s(g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM s "
    f"WHERE g < {ROWS}) SELECT g AS id, 'customer-' || (g % 1000) AS customer, g * 0.25 AS amount, "
    "'2026-01-01 00:00:00' AS at, true AS paid FROM s",
    "duckdb": f"SELECT g AS id, 'customer-' || (g % 1000) AS customer, {AMOUNT} AS amount, "
    f"now() AS at, true AS paid FROM range(1, {ROWS} + 1) t(g)",
}
Rows = AsyncGenerator[Sequence[Sequence[Any]], None]


class Forgetting:
    """An intake that takes every row, makes its bytes, as a buffer would, if told to, and forgets it."""

    def __init__(self, *, encode: bool) -> None:
        self.count = 0
        self._encode = encode

    async def put(self, delivery: Delivery) -> None:
        self.count += len(delivery.batch)
        if self._encode:
            for message in delivery.batch:
                message.content  # noqa: B018 - what is measured
        delivery.settle(None)


async def of_postgres(dsn: str) -> Rows:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        async with connection.cursor() as cursor:
            async with aclosing(cursor.stream(QUERIES["postgres"], size=BLOCK)) as rows:
                async for row in rows:
                    yield (row,)


async def of_mysql(dsn: str) -> Rows:
    target = mysql_target(dsn, "bench")
    host, port = target.places[0]
    connection = await asyncmy.connect(
        host=host, port=port, user=target.user, password=target.password, db=target.database
    )
    cursor = SSCursor(connection)
    await cursor.execute(QUERIES["mysql"])
    while rows := await cursor.fetchmany(BLOCK):
        yield rows
    await cursor.close()
    connection.close()


async def of_clickhouse(dsn: str) -> Rows:
    host, port = clickhouse_target(dsn, "bench").places[0]
    client = clickhouse_connect.get_client(host=host, port=port)
    with client.query_row_block_stream(QUERIES["clickhouse"]) as blocks:
        for rows in blocks:
            yield rows
    client.close()


async def of_sqlite(dsn: str) -> Rows:
    del dsn
    rows = apsw.Connection(":memory:").execute(QUERIES["sqlite"])
    while some := list(islice(rows, BLOCK)):
        yield some


async def of_duckdb(dsn: str) -> Rows:
    result = duckdb.connect(dsn).execute(QUERIES["duckdb"])
    while rows := result.fetchmany(BLOCK):
        yield rows


BARE: dict[str, Callable[[str], Rows]] = {
    "postgres": of_postgres,
    "mysql": of_mysql,
    "clickhouse": of_clickhouse,
    "sqlite": of_sqlite,
    "duckdb": of_duckdb,
}


async def bare(driver: str, dsn: str, *, encode: bool) -> tuple[int, float]:
    """The driver with its own types; as JSON with what is written fastest, which loses digits."""
    began, count = time.process_time(), 0
    async with aclosing(BARE[driver](dsn)) as blocks:
        async for rows in blocks:
            count += len(rows)
            if encode:
                for row in rows:
                    orjson.dumps(row, default=str)
    return count, time.process_time() - began


async def ours(driver: str, dsn: str, *, encode: bool) -> tuple[int, float]:
    """The input."""
    text = f'input: {{sql_raw: {{driver: {driver}, dsn: "{dsn}", query: "{QUERIES[driver]}"}}}}'
    config = read(text, standard_registry(), Config, env={}, file="bench").config
    env = FakeEnv(config.input)
    intake = Forgetting(encode=encode)
    async with config.input.config.open(env) as opened:
        began = time.process_time()
        await PullInput(env, opened).run(intake)
        return intake.count, time.process_time() - began


def _run(read_all: Any, driver: str, dsn: str, encode: bool) -> tuple[int, float]:
    made: tuple[int, float] = uvloop.run(read_all(driver, dsn, encode=encode))
    return made


def measure(driver: str, dsn: str) -> None:
    for what, encode in (("rows as messages (bare: as tuples)", False), ("each as JSON", True)):
        mine, theirs = best(
            partial(_run, ours, driver, dsn, encode=encode),
            partial(_run, bare, driver, dsn, encode=encode),
            3,
        )
        assert mine[0] == theirs[0] == ROWS, (mine, theirs)
        print(
            f"{driver}, {what}: {ROWS / mine[1]:,.0f} rows a second of processor time; "
            f"bare {ROWS / theirs[1]:,.0f}: {theirs[1] / mine[1]:.2f} of bare"
        )


def main() -> None:
    collect_garbage_seldom()
    for driver, start in SERVERS.items():
        try:
            with start() as server:
                measure(driver, server.dsn)
        except pytest.skip.Exception as missing:
            print(f"{driver}: not measured, {missing}")


if __name__ == "__main__":
    main()

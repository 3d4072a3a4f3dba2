"""kill -9 while a table is read: every row comes, and comes once, whatever the moment.

The destination is down in all lives but the last, so that nothing leaves the journal before; what comes in
the last life is what all lives together have read, and a row that was read twice would come twice.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from sink import Sink, wait_for

from kit.databases import SERVERS
from kit.sql import driver_for

LIVES = 3
TABLES = {
    "postgres": "CREATE TABLE orders (id BIGSERIAL PRIMARY KEY, changed TIMESTAMPTZ DEFAULT now(), pad TEXT)",
    "mysql": "CREATE TABLE orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, "
    "changed DATETIME(3) DEFAULT now(3), pad VARCHAR(100))",
    "clickhouse": "CREATE TABLE orders (id UInt64, changed DateTime64(3, 'UTC') DEFAULT now64(3), pad String) "
    "ENGINE = MergeTree ORDER BY id",
}
ROWS = {
    "postgres": "INSERT INTO orders (pad) SELECT repeat('x', 50) FROM generate_series(1, {count})",
    "mysql": "INSERT INTO orders (pad) SELECT repeat('x', 50) FROM seq_1_to_{count}",
    "clickhouse": "INSERT INTO orders (id, pad) SELECT {start} + number, repeat('x', 50) FROM numbers({count})",
}
CONFIG = """
http: {{enabled: false}}
logger: {{level: warn}}
input:
  label: orders
  sql_select:
    driver: {driver}
    dsn: "{dsn}"
    table: orders
    columns: [id, changed, pad]
    cursor: {{column: changed, key: [id], page_size: 700, lag: 200ms}}
    interval: 100ms
    batch_size: 150
  processors:
    - mapping: |
        root = {{"specversion": "1.0", "id": "orders/%d".format(this.id), "source": "shop", "type": "order",
          "subject": "s", "time": this.changed, "data": {{"pad": this.pad}}}}
buffer:
  sqlite: {{path: {folder}/buffer.db, min_free_bytes: 1MiB}}
output:
  openmeter:
    url: {url}
    batching: {{count: 50}}
"""


class Writer(threading.Thread):
    """Inserts rows in uneven transactions until it is told to stop."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server = server
        self.count = 0
        self.stop = threading.Event()

    def run(self):
        asyncio.run(self._write())

    async def _write(self):
        database = driver_for(self.server)
        chance = random.Random(1)
        while not self.stop.is_set():
            count = chance.choice((1, 7, 400))
            statement = ROWS[self.server.driver].format(start=self.count, count=count)
            await database.script(statement)
            self.count += count
            self.stop.wait(0.03)
        await database.close()


@pytest.mark.slow
@pytest.mark.parametrize("driver", TABLES)
def test_a_table_is_read_once_whenever_the_collector_is_killed(driver, tmp_path):
    chance = random.SystemRandom()
    with SERVERS[driver]() as server:
        asyncio.run(prepare(server))
        sink, writer = Sink(), Writer(server)
        config = tmp_path / "config.yaml"
        config.write_text(
            CONFIG.format(driver=driver, dsn=server.dsn, folder=tmp_path, url=sink.url)
        )
        sink.status = 503
        writer.start()
        try:
            for _ in range(LIVES):
                process = start(config)
                wait_for((tmp_path / "buffer.db").exists, what="the journal")
                time.sleep(0.3 + chance.random())
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
            writer.stop.set()
            writer.join()
            sink.status = 204
            process = start(config)
            wait_for(
                lambda: len(sink.got) >= writer.count or process.poll() is not None, 60, "rows"
            )
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate()
        finally:
            writer.stop.set()
            sink.close()
        expected = set(asyncio.run(ids_of(server)))
    assert set(sink.got) == expected, output
    assert len(expected) == writer.count > 500
    assert [one for one, copies in sink.got.items() if len(copies) != 1] == []


async def prepare(server):
    database = driver_for(server)
    await database.script(TABLES[server.driver])
    await database.close()


async def ids_of(server):
    from openmeter_collector.components.sql.contract import Statement  # noqa: PLC0415

    database = driver_for(server)
    ((*rows,),) = [await database.run([Statement("SELECT id FROM orders")], 10**6)]
    await database.close()
    return [f"orders/{row['id']}" for row in rows[0]]


def start(config):
    return subprocess.Popen(
        [sys.executable, "-m", "openmeter_collector.cli.main", "run", "-c", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
    )


@pytest.mark.slow
def test_a_large_result_is_read_in_bounded_memory(tmp_path):
    """80 MB of rows pass through; what the process needs for them is a small part of that."""
    small, large = (peak_of(tmp_path, rows) for rows in (1_000, 400_000))
    assert large - small < 25, f"{small:.0f} MB for a thousand rows, {large:.0f} MB for 400,000"


def peak_of(folder, rows):
    """The most memory a collector used that read so many rows, in MB."""
    with SERVERS["postgres"]() as server:
        config = folder / "config.yaml"
        config.write_text(f"""
http: {{enabled: false}}
input:
  sql_raw:
    driver: postgres
    dsn: "{server.dsn}"
    query: SELECT g AS id, repeat('x', 200) AS pad FROM generate_series(1, {rows}) g
output: {{file: {{path: "{folder}/rows"}}}}
""")
        process = start(config)
        with process.stdout as stream:
            output = stream.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, output
        assert f"delivered={rows}".encode() in output
    return usage.ru_maxrss / 1024

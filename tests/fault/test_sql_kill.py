"""kill -9 while a table is read: every row comes, and comes once, whatever the moment.

The destination is down in all lives but the last, so that nothing leaves the journal before; what comes in
the last life is what all lives together have read, and a row that was read twice would come twice.
"""

import asyncio
import json
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
from kit.sql import driver_for, execute

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
    return [f"orders/{row['id']}" for row in await rows_of(server, "SELECT id FROM orders")]


async def rows_of(server, query):
    from openmeter_collector.components.sql.contract import Statement  # noqa: PLC0415

    database = driver_for(server)
    (rows,) = await database.run([Statement(query)], 10**6)
    await database.close()
    return rows


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


FOLLOW = """
http: {{enabled: false}}
logger: {{level: info}}
input:
  label: orders
  postgres_cdc:
    dsn: "{dsn}"
    schema: public
    tables: [orders]
    slot_name: meter
    stream_snapshot: true
    snapshot_batch_size: 500
    checkpoint_limit: 40
    poll_interval: 10ms
    pg_standby_timeout: 50ms
  processors:
    - mapping: |
        let place = meta("lsn").or("snapshot")
        let row = if content().length() == 0 {{ {{}} }} else {{ this }}
        let about = {{"row": $row.id.or(0), "version": $row.version.or(0), "operation": meta("operation"), "lsn": $place}}
        root = {{"specversion": "1.0", "id": "%s/%d/%d/%s".format($place, $about.row, $about.version, $about.operation),
          "source": "shop", "type": "order", "subject": "s", "data": $about}}
buffer:
  sqlite: {{path: {folder}/buffer.db, min_free_bytes: 1MiB}}
output:
  openmeter:
    url: {url}
    max_in_flight: 1
    batching: {{count: 200}}
"""
FOLLOWED = """
CREATE TABLE orders (id BIGSERIAL PRIMARY KEY, version INT NOT NULL DEFAULT 1, changed TIMESTAMPTZ DEFAULT now());
CREATE TABLE history (at BIGSERIAL, operation TEXT, id BIGINT, version INT);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
  IF TG_OP = ''TRUNCATE'' THEN INSERT INTO history (operation, id, version) VALUES (''truncate'', 0, 0);
  ELSIF TG_OP = ''DELETE'' THEN INSERT INTO history (operation, id, version) VALUES (''delete'', OLD.id, 0);
  ELSE INSERT INTO history (operation, id, version) VALUES (lower(TG_OP), NEW.id, NEW.version);
  END IF; RETURN NULL; END';
CREATE TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION remember();
CREATE TRIGGER emptied AFTER TRUNCATE ON orders EXECUTE FUNCTION remember();
INSERT INTO orders (version) SELECT 1 FROM generate_series(1, 3000)
"""
# Each is a transaction; a row may change twice in one, and one may need many batches.
CHANGES = (
    "INSERT INTO orders DEFAULT VALUES",
    "INSERT INTO orders (version) SELECT 1 FROM generate_series(1, 100)",
    "INSERT INTO orders (version) SELECT 1 FROM generate_series(1, 100)",
    "UPDATE orders SET version = version + 1, changed = now() WHERE id % 500 = {some}",
    """BEGIN; UPDATE orders SET version = version + 1 WHERE id % 4 = {some} % 4;
    UPDATE orders SET version = version + 1 WHERE id % 180 = {some} % 180; COMMIT""",
    "DELETE FROM orders WHERE id % 60 = {some} % 60",
    """BEGIN; UPDATE orders SET version = version + 1 WHERE id % 90 = {some} % 90;
    DELETE FROM orders WHERE id % 90 = {some} % 90; COMMIT""",
    "BEGIN; UPDATE orders SET version = version + 1; DELETE FROM orders WHERE id % 2 = 0; ROLLBACK",
)
# Now and then, among the others.
EMPTIED = "BEGIN; TRUNCATE orders; INSERT INTO orders (version) SELECT 1 FROM generate_series(1, 300); COMMIT"
PLACE = "SELECT confirmed_flush_lsn::text AS place FROM pg_replication_slots"


class Changer(Writer):
    """Inserts, updates and deletes rows, and empties the table, until it is told to stop."""

    async def _write(self):
        database = driver_for(self.server)
        chance = random.Random(2)
        while not self.stop.is_set():
            self.count += 1
            change = EMPTIED if self.count % 40 == 0 else chance.choice(CHANGES)
            await database.script(change.format(some=chance.randrange(500)))
            self.stop.wait(0.03)
        await database.close()


@pytest.mark.slow
def test_changes_are_followed_once_and_in_order_whenever_the_collector_is_killed(tmp_path):
    chance = random.SystemRandom()
    with SERVERS["postgres"]() as server:
        asyncio.run(execute(server, FOLLOWED))
        sink, changer = Sink(), Changer(server)
        sink.status = 503
        config = tmp_path / "config.yaml"
        config.write_text(FOLLOW.format(dsn=server.dsn, folder=tmp_path, url=sink.url))
        changer.start()
        process = start(config)
        try:
            # The first lives end about the time of the snapshot, the others among the changes.
            for moves, most in ((0, 0.5), (1, 0.2), (2, 0.5), (2, 0.5), (2, 0.5)):
                wait_for((tmp_path / "buffer.db").exists, what="the journal")
                wait_for_moves(server, moves)
                time.sleep(chance.uniform(0, most))
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
                process = start(config)
            sink.status = 204
            wait_for(
                lambda: (
                    any("/truncate" in one for one in list(sink.got))
                    and sum(not one.startswith("snapshot") for one in list(sink.got)) > 500
                ),
                what="the changes",
            )
            changer.stop.set()
            changer.join()
            asyncio.run(execute(server, "INSERT INTO orders (id) VALUES (-1)"))
            wait_for(
                lambda: list(sink.got)[-1].endswith("/-1/1/insert") or process.poll() is not None,
                60,
                "the last change",
            )
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate()
        finally:
            process.kill()
            changer.stop.set()
            sink.close()
        history = asyncio.run(
            rows_of(server, "SELECT operation, id, version FROM history ORDER BY at")
        )
    read, changed, places = {}, [], []
    for copies in sink.got.values():
        # A snapshot that is begun anew reads rows again: the same row in the same version is the same event.
        assert len(set(copies)) == 1
        data = json.loads(copies[0])["data"]
        change = data["operation"], data["row"], data["version"]
        if change[0] == "read":
            assert not places, "a row of the snapshot after a change"
            read[change[1]] = max(change[2], read.get(change[1], 0))
            continue
        assert len(copies) == 1, copies
        changed.append(change)
        places.append(tuple(int(part, 16) for part in data["lsn"].split("/")))
    # The server's own book has every change in its order; the snapshot stands for those before the rest.
    book = [(line["operation"], line["id"], line["version"]) for line in history]
    before = len(book) - len(changed)
    assert changed == book[before:], output
    # What was deleted between two beginnings of the snapshot was read once and is not there any more.
    shown = state_after(book[:before])
    assert {row: read.get(row) for row in shown} == shown
    assert places == sorted(places)
    assert len(read) >= 200
    assert len(places) > 500
    assert {change[0] for change in changed} == {"insert", "update", "delete", "truncate"}
    total = sum(len(copies) for copies in sink.got.values())
    assert f"delivered={total}".encode() in output


ONE_TRANSACTION = """
http: {{enabled: false}}
input:
  postgres_cdc:
    dsn: "{dsn}"
    schema: public
    tables: [notes]
    slot_name: meter
    poll_interval: 10ms
output: {{file: {{path: "{folder}/rows", codec: lines}}}}
"""


@pytest.mark.slow
def test_a_large_transaction_is_followed_in_bounded_memory(tmp_path):
    """60 MB of rows come in one commit; what the process needs for them is a small part of that."""
    small, large = (peak_of_a_transaction(tmp_path, rows) for rows in (1_000, 300_000))
    assert large - small < 25, f"{small:.0f} MB for a thousand rows, {large:.0f} MB for 300,000"


def peak_of_a_transaction(folder, rows):
    """The most memory a collector used that followed a commit of so many rows, in MB."""
    folder = folder / str(rows)
    folder.mkdir()
    written = folder / "rows"
    with SERVERS["postgres"]() as server:
        asyncio.run(execute(server, "CREATE TABLE notes (id BIGINT PRIMARY KEY, pad TEXT)"))
        config = folder / "config.yaml"
        config.write_text(ONE_TRANSACTION.format(dsn=server.dsn, folder=folder))
        process = start(config)
        try:
            wait_for(lambda: asyncio.run(rows_of(server, PLACE)), what="the slot")
            insert = "INSERT INTO notes SELECT g, repeat('x', 200) FROM generate_series(1, {}) g"
            asyncio.run(execute(server, insert.format(rows)))
            wait_for(
                lambda: written.exists() and written.read_bytes().count(b"\n") >= rows,
                120,
                "the rows",
            )
        finally:
            process.send_signal(signal.SIGTERM)
            with process.stdout as stream:
                output = stream.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    assert f"delivered={rows}".encode() in output, output
    return usage.ru_maxrss / 1024


def state_after(changes):
    """The version of each row that is there after some changes."""
    rows = {}
    for operation, row, version in changes:
        if operation == "truncate":
            rows.clear()
        elif operation == "delete":
            rows.pop(row)
        else:
            rows[row] = version
    return rows


def wait_for_moves(server, count):
    """Wait until the slot was made or moved on so many times: what came before is safe."""
    for _ in range(count):
        before = asyncio.run(rows_of(server, PLACE))
        wait_for(
            lambda before=before: asyncio.run(rows_of(server, PLACE)) != before,
            what="a safe change",
        )

"""Following a real server's changes."""

import asyncio
from contextlib import asynccontextmanager

import psycopg
import pytest

from kit.sql import Kept, RealTime, driver_for, execute, node_of, read_until
from kit.waiting import eventually
from openmeter_collector.components.sql.contract import Statement
from openmeter_collector.errors import ConfigError
from openmeter_collector.values import json


@pytest.fixture
async def shop(postgres):
    await execute(
        postgres,
        "DROP TABLE IF EXISTS cdc_orders",
        "CREATE TABLE cdc_orders (id BIGINT PRIMARY KEY, amount NUMERIC, doc JSONB, big TEXT, at TIMESTAMPTZ)",
        "ALTER TABLE cdc_orders ALTER COLUMN big SET STORAGE EXTERNAL",
    )
    yield postgres
    await execute(
        postgres,
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots",
        "DROP PUBLICATION IF EXISTS pglog_stream_meter",
        "DROP TABLE cdc_orders",
    )


def follow(server, **more):
    fields = {
        "dsn": server.dsn,
        "schema": "public",
        "tables": ["cdc_orders"],
        "slot_name": "meter",
        "poll_interval": "10ms",
        "pg_standby_timeout": "20ms",
    }
    return node_of("input", "postgres_cdc", **(fields | more))


def insert(first, last):
    return (
        "INSERT INTO cdc_orders SELECT g, g + 0.50, '{\"a\": [1]}', repeat('x', 10), "
        f"'2026-01-01 00:00:00Z' FROM generate_series({first}, {last}) g"
    )


async def ask(server, query):
    database = driver_for(server)
    ((row, *_),) = await database.run([Statement(query)], 1000)
    await database.close()
    return row


async def until_followed(server):
    """Until the slot has its beginning; it is listed earlier."""
    query = "SELECT count(confirmed_flush_lsn) AS n FROM pg_replication_slots"
    async with asyncio.timeout(30):
        while not (await ask(server, query))["n"]:
            await asyncio.sleep(0.02)


async def crash(node, count, state):
    """Read so many rows, and then be gone."""
    kept = Kept(state)
    kept.stop_after = count
    reading = asyncio.ensure_future(read_until(node, 10**9, kept))
    await kept.until(count)
    reading.cancel()
    await asyncio.wait({reading})
    return kept


async def test_changes_come_in_order_with_their_operation(shop):
    kept = Kept()
    reading = asyncio.ensure_future(read_until(follow(shop), 4, kept))
    await until_followed(shop)
    await execute(
        shop,
        insert(1, 2),
        "UPDATE cdc_orders SET amount = 12345678901234567890.10 WHERE id = 1",
        "DELETE FROM cdc_orders WHERE id = 2",
    )
    await reading
    assert [(m.metadata["operation"], m.structured()["id"]) for m in kept.messages] == [
        ("insert", 1), ("insert", 2), ("update", 1), ("delete", 2),
    ]  # fmt: skip
    assert kept.messages[0].content == (
        b'{"amount":1.50,"at":"2026-01-01T00:00:00Z","big":"xxxxxxxxxx","doc":{"a":[1]},"id":1}'
    )
    assert b'"amount":12345678901234567890.10' in kept.messages[2].content
    assert kept.messages[3].structured() == {
        "id": 2, "amount": None, "doc": None, "big": None, "at": None,
    }  # fmt: skip
    assert kept.messages[0].metadata["table"] == "cdc_orders"


async def test_a_snapshot_and_what_follows_it_have_each_row_once(shop):
    await execute(shop, insert(1, 2500))
    kept = Kept()
    node = follow(shop, stream_snapshot=True)
    reading = asyncio.ensure_future(read_until(node, 5000, kept))
    for start in range(2501, 5001, 100):
        await execute(shop, insert(start, start + 99))
    await reading
    assert sorted(row["id"] for row in kept.rows) == list(range(1, 5001))
    operations = [message.metadata["operation"] for message in kept.messages]
    assert operations.count("read") >= 2500
    assert operations == sorted(operations, key=["read", "insert"].index)


@pytest.mark.parametrize("stop", [1, 30, 75])
async def test_after_a_crash_each_change_comes_once_also_in_the_middle_of_a_transaction(shop, stop):
    node = follow(shop, checkpoint_limit=10)
    state = {}
    first = asyncio.ensure_future(crash(node, stop, state))
    await until_followed(shop)
    await execute(shop, insert(1, 25), insert(26, 90), insert(91, 91))
    first = await first
    second = await read_until(node, 91 - len(first.rows), Kept(state))
    assert [row["id"] for row in first.rows + second.rows] == list(range(1, 92))


async def test_the_slot_moves_on_only_when_changes_are_safe(shop):
    held = []

    class Holding(Kept):
        async def put(self, delivery):
            held.append(delivery)

    reading = asyncio.ensure_future(read_until(follow(shop), 10**9, Holding()))
    await until_followed(shop)
    await execute(shop, insert(1, 3))
    await eventually(lambda: held)
    place = "SELECT confirmed_flush_lsn::text AS at FROM pg_replication_slots"
    before = await ask(shop, place)
    await execute(shop, "SELECT pg_sleep(0.3)")  # it has had time to move, if it were to
    assert await ask(shop, place) == before
    held[0].settle(None)

    async def moved():
        return await ask(shop, place) != before

    await eventually(moved)
    reading.cancel()
    await asyncio.wait({reading})


async def test_the_slot_of_a_snapshot_is_made_only_when_it_is_safe_that_the_snapshot_was_begun(
    shop,
):
    """A slot that is there without that note would be followed, and the rows before it never read."""
    held = []

    class Holding(Kept):
        async def put(self, delivery):
            held.append(delivery)

    node = follow(shop, stream_snapshot=True)
    reading = asyncio.ensure_future(read_until(node, 10**9, Holding()))
    await eventually(lambda: held)
    await execute(shop, "SELECT pg_sleep(0.3)")  # there has been time to make it
    slots = "SELECT count(*) AS n FROM pg_replication_slots"
    assert (await ask(shop, slots))["n"] == 0
    held[0].settle(None)
    await until_followed(shop)
    reading.cancel()
    await asyncio.wait({reading})


async def test_a_large_value_that_did_not_change_is_said_or_known(shop):
    kept = Kept()
    node = follow(shop, unchanged_toast_value="(unchanged)")
    reading = asyncio.ensure_future(read_until(node, 4, kept))
    await until_followed(shop)
    await execute(
        shop,
        "INSERT INTO cdc_orders (id, amount, big) VALUES (1, 1, repeat('y', 5000))",
        "UPDATE cdc_orders SET amount = 2",
        "ALTER TABLE cdc_orders REPLICA IDENTITY FULL",
        "UPDATE cdc_orders SET amount = 3",
        "UPDATE cdc_orders SET big = 'short'",
    )
    await reading
    values = [row["big"] for row in kept.rows]
    assert values == ["y" * 5000, "(unchanged)", "y" * 5000, "short"]


async def test_a_table_that_is_altered_goes_on_with_its_new_columns(shop):
    kept = Kept()
    reading = asyncio.ensure_future(read_until(follow(shop), 2, kept))
    await until_followed(shop)
    await execute(
        shop,
        "INSERT INTO cdc_orders (id) VALUES (1)",
        "ALTER TABLE cdc_orders ADD COLUMN plan TEXT DEFAULT 'free', DROP COLUMN doc",
        "INSERT INTO cdc_orders (id) VALUES (2)",
    )
    await reading
    assert "plan" not in kept.rows[0]
    assert kept.rows[1]["plan"] == "free"
    assert "doc" not in kept.rows[1]


async def test_the_slot_moves_on_while_nothing_changes_in_the_tables(shop):
    reading = asyncio.ensure_future(read_until(follow(shop), 1))
    await until_followed(shop)
    place = "SELECT confirmed_flush_lsn::text AS at FROM pg_replication_slots"
    before = await ask(shop, place)
    await execute(
        shop, "CREATE TABLE cdc_noise AS SELECT generate_series(1, 1000)", "DROP TABLE cdc_noise"
    )
    async with asyncio.timeout(30):
        while await ask(shop, place) == before:
            await asyncio.sleep(0.02)
    reading.cancel()
    await asyncio.wait({reading})


async def test_transactions_can_be_seen(shop):
    kept = Kept()
    node = follow(shop, include_transaction_markers=True)
    reading = asyncio.ensure_future(crash(node, 3, {}))
    await until_followed(shop)
    await execute(shop, insert(1, 1))
    kept = await reading
    assert [m.metadata["operation"] for m in kept.messages] == ["begin", "insert", "commit"]


# ---- temporary slots ------------------------------------------------------------------------------


async def test_a_temporary_slot_and_its_snapshot_have_each_row_once_whoever_writes_meanwhile(shop):
    """Transactions are open, begun and ended all the time while slot and snapshot are made."""
    ended = asyncio.Event()
    written = 0

    async def writer(first):
        nonlocal written
        database = driver_for(shop)
        at = first
        while not ended.is_set():
            await database.script(f"BEGIN; {insert(at, at + 2)}; SELECT pg_sleep(0.002); COMMIT")
            at, written = at + 3, written + 3
        await database.close()

    writers = [asyncio.ensure_future(writer(number * 1_000_000)) for number in range(1, 6)]
    for last in (False, False, False, True):
        kept = Kept()
        node = follow(shop, stream_snapshot=True, temporary_slot=True, snapshot_batch_size=50)
        await eventually(lambda: written > 50)
        before = written
        reading = asyncio.ensure_future(read_until(node, 10**9, kept))
        await eventually(lambda kept=kept: any("lsn" in m.metadata for m in kept.messages))
        await eventually(lambda before=before: written > before + 100)
        if last:
            ended.set()
            await asyncio.gather(*writers)
            await eventually(lambda kept=kept: len(kept.rows) >= written)
        reading.cancel()
        await asyncio.wait({reading})
        ids = [row["id"] for row in kept.rows]
        assert len(ids) == len(set(ids))
    assert len(ids) == written
    operations = [message.metadata["operation"] for message in kept.messages]
    assert operations == sorted(operations, key=["read", "insert"].index)
    assert (await ask(shop, "SELECT count(*) AS n FROM pg_replication_slots"))["n"] == 0


@pytest.fixture
async def unconfirmed(shop):
    """Commits wait for a standby that does not exist, until the event is set."""
    # Not left to the input: that commit would wait, too.
    await execute(shop, "CREATE PUBLICATION pglog_stream_meter FOR TABLE cdc_orders")
    await execute(shop, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    await execute(shop, "SELECT pg_reload_conf()")
    confirm = asyncio.Event()

    async def reset():
        await confirm.wait()
        await execute(shop, "ALTER SYSTEM RESET synchronous_standby_names")
        await execute(shop, "SELECT pg_reload_conf()")

    task = asyncio.ensure_future(reset())
    yield confirm
    confirm.set()
    await task


async def test_a_transaction_that_is_committed_and_not_yet_seen_is_waited_for(shop, unconfirmed):
    """Its commit is in the log before the slot's beginning, so the slot will never give it; a commit that
    waits for a standby is not seen yet, so a snapshot would not show it either.
    """
    kept = Kept()
    node = follow(shop, stream_snapshot=True, temporary_slot=True)
    at_once = "BEGIN; SET LOCAL synchronous_commit = local;"
    async with session(shop) as first, session(shop) as second, session(shop) as third:
        await first.execute(f"{at_once} {insert(1, 1)}")
        reading = asyncio.ensure_future(read_until(node, 3, kept))
        # The making of a slot waits for older transactions in two steps; the third begins after both.
        await waited_for(shop, first)
        await second.execute(f"{at_once} {insert(2, 2)}")
        await first.execute("COMMIT")
        await waited_for(shop, second)
        ended = asyncio.ensure_future(third.execute(insert(3, 3)))
        await eventually(lambda: count(shop, "pg_stat_activity WHERE wait_event = 'SyncRep'"))
        await second.execute("COMMIT")
        await until_followed(shop)
        await execute(shop, "SELECT pg_sleep(0.3)")  # there has been time not to wait
        assert kept.rows == []
        unconfirmed.set()
        await ended
        async with asyncio.timeout(30):
            await reading
    assert [row["id"] for row in kept.rows] == [1, 2, 3]


@asynccontextmanager
async def session(server):
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        yield connection


async def count(server, what):
    return (await ask(server, f"SELECT count(*) AS n FROM {what}"))["n"]


async def waited_for(server, connection):
    """Until somebody waits for the end of a session's transaction."""
    cursor = await connection.execute("SELECT pg_current_xact_id()::text")
    ((number,),) = await cursor.fetchall()
    locks = f"pg_locks WHERE NOT granted AND transactionid::text = '{int(number) % 2**32}'"
    await eventually(lambda: count(server, locks))


async def test_with_every_connection_a_temporary_slot_begins_anew_and_says_so(shop):
    await execute(shop, insert(1, 2))
    node = follow(shop, stream_snapshot=True, temporary_slot=True)
    state = {}
    first = asyncio.ensure_future(crash(node, 3, state))
    await until_followed(shop)
    await execute(shop, "SELECT pg_sleep(0.2)", insert(3, 3))
    assert [row["id"] for row in (await first).rows] == [1, 2, 3]
    await execute(shop, "DELETE FROM cdc_orders WHERE id = 1")
    kept = Kept(state)
    env = RealTime(node, kept)
    async with node.config.open(env) as puller:
        rows = []
        async with asyncio.timeout(30):
            while len(rows) < 2:
                delivery = await puller.read()
                rows += [message.structured()["id"] for message in delivery.batch]
                await kept.put(delivery)
    assert rows == [2, 3]
    assert any("the slot is gone" in line for line in env.lines)


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("killed", [False, True])
async def test_a_slot_that_is_made_anew_is_followed_from_its_own_beginning(shop, snapshot, killed):
    """The position in the slot before may be far ahead: of another server, or one that was restored."""
    node = follow(shop, stream_snapshot=snapshot)
    key = RealTime(node, Kept()).state.checkpoint("lsn", b"").key
    kept = Kept({key: b'{"lsn":"FFFF/0","count":1}'})
    reading = asyncio.ensure_future(read_until(node, 2, kept))
    await until_followed(shop)
    if killed:
        reading.cancel()
        await asyncio.wait({reading})
        reading = asyncio.ensure_future(read_until(node, 2, kept))
    await execute(shop, insert(1, 2))
    await reading
    assert [row["id"] for row in kept.rows] == [1, 2]


async def test_a_lasting_slot_is_not_taken_for_a_temporary_one(shop):
    await execute(shop, "SELECT pg_create_logical_replication_slot('meter', 'pgoutput')")
    node = follow(shop, temporary_slot=True)
    async with node.config.open(RealTime(node, Kept())) as puller:
        with pytest.raises(ConfigError, match="temporary_slot asks for another"):
            await puller.read()


# ---- tables ---------------------------------------------------------------------------------------


async def test_a_table_that_is_emptied_is_a_message_of_its_own_in_its_place(shop):
    kept = Kept()
    reading = asyncio.ensure_future(read_until(follow(shop), 4, kept))
    await until_followed(shop)
    await execute(shop, insert(1, 2), "TRUNCATE cdc_orders", insert(3, 3))
    await reading
    assert [m.metadata["operation"] for m in kept.messages] == [
        "insert", "insert", "truncate", "insert",
    ]  # fmt: skip
    emptied = kept.messages[2]
    assert (emptied.content, emptied.metadata["table"]) == (b"", "cdc_orders")
    moment = await ask(shop, "SELECT extract(epoch FROM now())::float8 * 1000 AS ms")
    assert abs(int(emptied.metadata["commit_ts_ms"]) - moment["ms"]) < 60_000


async def test_partitions_are_followed_under_the_name_of_their_table(shop):
    await execute(
        shop,
        "DROP TABLE IF EXISTS cdc_parts",
        "CREATE TABLE cdc_parts (id INT, month INT, PRIMARY KEY (id, month)) PARTITION BY LIST (month)",
        "CREATE TABLE cdc_parts_1 PARTITION OF cdc_parts FOR VALUES IN (1)",
        "CREATE TABLE cdc_parts_2 PARTITION OF cdc_parts FOR VALUES IN (2)",
        "INSERT INTO cdc_parts VALUES (1, 1), (2, 2)",
    )
    try:
        kept = Kept()
        node = follow(shop, tables=["cdc_parts"], stream_snapshot=True)
        reading = asyncio.ensure_future(read_until(node, 7, kept))
        await kept.until(2)
        await execute(
            shop,
            "INSERT INTO cdc_parts VALUES (3, 1)",
            "UPDATE cdc_parts SET month = 2 WHERE id = 3",  # moves the row
            "CREATE TABLE cdc_parts_3 PARTITION OF cdc_parts FOR VALUES IN (3)",
            "INSERT INTO cdc_parts VALUES (4, 3)",
            "TRUNCATE cdc_parts",
        )
        await reading
        assert {message.metadata["table"] for message in kept.messages} == {"cdc_parts"}
        assert [message.metadata["operation"] for message in kept.messages] == [
            "read", "read", "insert", "delete", "insert", "insert", "truncate",
        ]  # fmt: skip
    finally:
        await execute(shop, "DROP TABLE cdc_parts")


TYPES = """
    DROP TABLE IF EXISTS cdc_types; DROP DOMAIN IF EXISTS cdc_amount, cdc_small; DROP TYPE IF EXISTS cdc_mood;
    CREATE DOMAIN cdc_small AS SMALLINT;
    CREATE DOMAIN cdc_amount AS NUMERIC CHECK (VALUE >= 0);
    CREATE TYPE cdc_mood AS ENUM ('sad', 'happy');
    CREATE TABLE cdc_types (
      id INT PRIMARY KEY, small cdc_small, amount cdc_amount, mood cdc_mood, moods cdc_mood[],
      reals FLOAT8[], nan NUMERIC, never TIMESTAMPTZ, bits BIT(4), raw BYTEA, doc JSON, span INT4RANGE,
      length INTERVAL, address INET, price MONEY, grid INT[][], empty TEXT)
"""
ONE_OF_TYPES = """
    INSERT INTO cdc_types VALUES ({id}, 5, 12345678901234567890.10, 'happy', '{{sad,NULL}}', '{{NaN,1.5}}',
      'NaN', 'infinity', B'1010', '\\x00ff', '{{"n": 123456789012345678901234567890.50}}', '[1,9)',
      '1 year 2 days', '10.0.0.1/8', 12.34, '{{{{1,2}},{{3,NULL}}}}', NULL)
"""


async def test_a_row_is_the_same_in_the_snapshot_and_as_a_change_whatever_its_types(shop):
    await execute(shop, TYPES, ONE_OF_TYPES.format(id=1))
    try:
        kept = Kept()
        node = follow(shop, tables=["cdc_types"], stream_snapshot=True)
        reading = asyncio.ensure_future(read_until(node, 3, kept))
        await kept.until(1)
        await execute(
            shop,
            ONE_OF_TYPES.format(id=2),
            # A type that was not there when following began.
            "CREATE DOMAIN cdc_later AS cdc_small; ALTER TABLE cdc_types ADD later cdc_later",
            "INSERT INTO cdc_types (id, later) VALUES (3, 7)",
        )
        await reading
        read, change, later = (message.content for message in kept.messages)
        assert read.replace(b'"id":1', b'"id":2') == change
        assert b'"amount":12345678901234567890.10' in read
        assert b'"n":123456789012345678901234567890.50' in read
        found = json.loads(read)
        assert (found["small"], found["nan"], found["never"]) == (5, "NaN", "infinity")
        assert (found["raw"], found["bits"], found["grid"]) == ("AP8=", "1010", [[1, 2], [3, None]])
        assert json.loads(later)["later"] == 7
    finally:
        await execute(shop, "DROP TABLE cdc_types; DROP DOMAIN IF EXISTS cdc_later")

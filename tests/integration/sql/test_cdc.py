"""Following a real server's changes."""

import asyncio

import pytest

from kit.sql import Kept, driver_for, execute, node_of, read_until
from kit.waiting import eventually
from openmeter_collector.components.sql.contract import Statement


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
    async with asyncio.timeout(30):
        while not (await ask(server, "SELECT count(*) AS n FROM pg_replication_slots"))["n"]:
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

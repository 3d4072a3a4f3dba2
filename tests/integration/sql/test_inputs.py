"""The inputs against real servers: rows, placeholders, windows, and positions that survive."""

import asyncio
import json

import pytest

from kit.databases import Server, free_port
from kit.sql import REGISTRY, Kept, driver_for, execute, node_of, read_all, read_until
from kit.waiting import eventually
from openmeter_collector.bloblang import compile
from openmeter_collector.components.sql.values import moment_of
from openmeter_collector.config import Config, read
from openmeter_collector.errors import ConfigError, Retryable
from openmeter_collector.testing.env import FakeEnv

TABLES = {
    "postgres": "CREATE TABLE {} (id BIGINT PRIMARY KEY, changed TIMESTAMPTZ, customer TEXT)",
    "mysql": "CREATE TABLE {} (id BIGINT PRIMARY KEY, changed DATETIME(6), customer VARCHAR(50))",
    "clickhouse": "CREATE TABLE {} (id UInt64, changed DateTime64(6, 'UTC'), customer String) "
    "ENGINE = MergeTree ORDER BY id",
    "sqlite": "CREATE TABLE {} (id INTEGER PRIMARY KEY, changed TIMESTAMP, customer TEXT)",
    "duckdb": "CREATE TABLE {} (id BIGINT PRIMARY KEY, changed TIMESTAMPTZ, customer TEXT)",
}


async def table(server, name, rows=()):
    await execute(server, f"DROP TABLE IF EXISTS {name}", TABLES[server.driver].format(name))
    await insert(server, name, rows)


async def insert(server, name, rows):
    if rows:
        zone = "+00" if server.driver in {"postgres", "duckdb"} else ""
        values = ", ".join(f"({i}, '{changed}{zone}', 'c{i % 3}')" for i, changed in rows)
        await execute(server, f"INSERT INTO {name} (id, changed, customer) VALUES {values}")


def at(second):
    return f"2026-01-01 00:{second // 60:02}:{second % 60:02}.5"


def select(server, name, **more):
    fields = {
        "driver": server.driver,
        "dsn": server.dsn,
        "table": name,
        "columns": ["id", "changed", "customer"],
    }
    return node_of("input", "sql_select", **(fields | more))


def ids(kept):
    return [row["id"] for row in kept.rows]


async def test_rows_become_messages_and_the_input_ends(server):
    await table(server, "once", [(i, at(i)) for i in range(25)])
    kept = await read_all(select(server, "once", suffix="ORDER BY id", batch_size=10))
    assert ids(kept) == list(range(25))
    assert kept.sizes == [10, 10, 5]
    assert kept.rows[3] == {"id": 3, "changed": "2026-01-01T00:00:03.5Z", "customer": "c0"}


async def test_numbers_are_numbers_to_mappings(server):
    number = {"postgres": "2.0::float8", "mysql": "2e0", "clickhouse": "toFloat64(2)"}
    real = number.get(server.driver, "CAST(2 AS DOUBLE)")
    node = node_of(
        "input",
        "sql_raw",
        driver=server.driver,
        dsn=server.dsn,
        query=f"SELECT 7 AS id, {real} AS whole",
    )
    mapping = compile('root = "%d %v".format(this.id, this.whole)')
    (message,) = (await read_all(node)).messages
    assert mapping.run([message], 0)[0] == b"7 2"
    assert message.content == b'{"id":7,"whole":2}'


async def test_an_empty_result_is_no_message(server):
    await table(server, "none_there")
    assert (await read_all(select(server, "none_there"))).rows == []


async def test_question_marks_are_the_placeholders_of_every_driver(server):
    await table(server, "asked", [(i, at(i)) for i in range(10)])
    node = select(
        server,
        "asked",
        where="customer = ? AND customer <> '?' AND id >= ? /* ? */",
        args_mapping='root = [ "c1", 4 ]',
        suffix="ORDER BY id",
    )
    assert ids(await read_all(node)) == [4, 7]


async def test_a_hostile_value_stays_a_value(server):
    await table(server, "hostile", [(1, at(1))])
    hostile = "c1' OR 1=1 -- \\' OR 1=1 -- %s"
    node = select(
        server, "hostile", where="customer = ?", args_mapping=f"root = [ {quoted(hostile)} ]"
    )
    assert (await read_all(node)).rows == []


def quoted(text):
    return '"' + text.replace("\\", "\\\\") + '"'


async def test_a_raw_query_takes_the_placeholders_of_its_driver(server):
    await table(server, "raw", [(i, at(i)) for i in range(10)])
    place = "$1" if server.driver in {"postgres", "clickhouse"} else "?"
    node = node_of(
        "input",
        "sql_raw",
        driver=server.driver,
        dsn=server.dsn,
        query=f"SELECT max(id) AS top FROM raw WHERE id < {place}",
        args_mapping="root = [ 7 ]",
    )
    assert (await read_all(node)).rows == [{"top": 6}]


@pytest.mark.parametrize("crash", [0, 10, 17])
async def test_a_cursor_reads_on_after_a_crash_without_loss_or_double(server, crash):
    # Eight rows share each value, and pages and batches end in the middle of them.
    await table(server, "crashed", [(i, at(i // 8)) for i in range(30)])
    node = select(
        server,
        "crashed",
        cursor={"column": "changed", "key": ["id"], "page_size": 7},
        batch_size=3,
    )
    first = Kept()
    first.stop_after = crash
    reading = asyncio.ensure_future(read_all(node, first))
    await asyncio.wait(
        {reading, asyncio.ensure_future(first.until(crash))}, return_when="FIRST_COMPLETED"
    )
    await asyncio.sleep(0.05 if crash == 0 else 0)
    reading.cancel()
    await asyncio.wait({reading})
    second = await read_all(node, Kept(first.state))
    assert ids(first) + ids(second) == list(range(30))
    await insert(server, "crashed", [(30, at(60))])
    third = await read_all(node, Kept(first.state))
    assert ids(third) == [30]


async def test_without_a_key_a_page_never_ends_between_equal_values(server):
    await table(server, "keyless", [(i, at(i // 4)) for i in range(30)])
    node = select(server, "keyless", cursor={"column": "changed", "page_size": 7}, batch_size=2)
    kept = await read_all(node)
    assert sorted(ids(kept)) == list(range(30))
    assert len(ids(kept)) == 30


async def test_more_equal_values_than_a_page_has_rows_is_said_and_nothing_is_skipped(server):
    await table(server, "too_equal", [(i, at(0)) for i in range(10)])
    node = select(server, "too_equal", cursor={"column": "changed", "page_size": 5})
    with pytest.raises(Retryable, match=r"set cursor\.key"):
        await read_all(node)


async def test_initial_is_where_to_begin_included(server):
    await table(server, "begun", [(i, at(i)) for i in range(10)])
    node = select(server, "begun", cursor={"column": "id", "initial": 6})
    assert ids(await read_all(node)) == [6, 7, 8, 9]


async def test_a_cursor_and_a_where_go_together(server):
    await table(server, "filtered", [(i, at(i)) for i in range(20)])
    node = select(
        server,
        "filtered",
        where="customer = ? OR customer = ?",
        args_mapping='root = [ "c0", "c1" ]',
        cursor={"column": "id", "page_size": 4},
    )
    kept = await read_all(node)
    assert ids(kept) == [i for i in range(20) if i % 3 != 2]


async def test_an_interval_reads_what_comes_later(server):
    await table(server, "later", [(1, at(1))])
    node = select(server, "later", cursor={"column": "id"}, interval="100ms")
    kept = Kept()
    reading = asyncio.ensure_future(read_until(node, 3, kept))
    await kept.until(1)
    await insert(server, "later", [(2, at(2)), (3, at(3))])
    await reading
    assert ids(kept) == [1, 2, 3]


async def test_a_row_that_becomes_visible_behind_a_later_one_is_not_missed(postgres):
    """Two transactions: the one with the smaller number commits last."""
    await table(postgres, "late", [(1, at(1))])
    slow = driver_for(postgres)
    connection = await slow._connect()
    await connection.execute("BEGIN")
    await connection.execute(f"INSERT INTO late VALUES (2, '{at(2)}', 'slow')")
    await insert(postgres, "late", [(3, at(3))])
    node = select(postgres, "late", cursor={"column": "id", "lag": "300ms"}, interval="100ms")
    kept = Kept()
    reading = asyncio.ensure_future(read_until(node, 3, kept))
    await asyncio.sleep(0.1)
    assert kept.rows == []
    await connection.execute("COMMIT")
    await reading
    await connection.close()
    assert ids(kept) == [1, 2, 3]


LATE_QUERY = {
    "query": "SELECT id FROM late WHERE id > $1 AND id <= $2 ORDER BY id LIMIT 2",
    "args_mapping": "root = [ this.cursor.value, this.cursor.until ]",
}


def raw(server, cursor, **more):
    fields = {"driver": server.driver, "dsn": server.dsn, "interval": "100ms"}
    about = {"column": "id", "initial": 0, "lag": "300ms"}
    return node_of("input", "sql_raw", **fields, **(LATE_QUERY | more), cursor=about | cursor)


async def test_a_raw_query_misses_no_row_either_that_becomes_visible_behind_a_later_one(postgres):
    await table(postgres, "late", [(1, at(1))])
    slow = driver_for(postgres)
    connection = await slow._connect()
    await connection.execute("BEGIN")
    await connection.execute(f"INSERT INTO late VALUES (2, '{at(2)}', 'slow')")
    await insert(postgres, "late", [(3, at(3)), (4, at(4))])
    kept = Kept()
    node = raw(postgres, {"greatest": "SELECT max(id) AS greatest FROM late"})
    reading = asyncio.ensure_future(read_until(node, 4, kept))
    await asyncio.sleep(0.1)
    assert kept.rows == []
    await connection.execute("COMMIT")
    await reading
    await connection.close()
    assert ids(kept) == [1, 2, 3, 4]


async def test_a_raw_query_that_ignores_its_limit_is_stopped(postgres):
    await table(postgres, "late", [(1, at(1))])
    node = raw(
        postgres,
        {"greatest": "SELECT 0 AS greatest", "lag": "1ms"},
        query="SELECT id FROM late WHERE id > $1 ORDER BY id",
        args_mapping="root = [ this.cursor.value ]",
    )
    with pytest.raises(Retryable, match=r"rows after this\.cursor\.until"):
        await read_all(node)


@pytest.mark.parametrize(
    ("cursor", "text"),
    [
        ({"lag": "5s"}, "set cursor.greatest, and ask for rows up to this.cursor.until"),
        ({"greatest": "SELECT 1"}, "cursor.greatest is for cursor.lag"),
    ],
)
def test_a_lag_of_a_raw_query_needs_to_know_how_far_there_is_something(cursor, text):
    fields = {
        "driver": "sqlite",
        "dsn": "x",
        "query": "SELECT 1",
        "cursor": {"column": "id"} | cursor,
    }
    config = json.dumps({"input": {"sql_raw": fields}})
    problems = read(config, REGISTRY, Config, env={}, file="test.yaml").problems
    assert text in "".join(problem.friendly() for problem in problems)


async def test_with_one_host_that_is_dead_the_next_one_is_asked(server):
    dead = free_port()
    lists = {
        "postgres": ("@127.0.0.1:", f"@127.0.0.1:{dead},127.0.0.1:"),
        "mysql": ("tcp(127.0.0.1:", f"tcp(127.0.0.1:{dead},127.0.0.1:"),
        "clickhouse": ("@127.0.0.1:", f"@127.0.0.1:{dead},127.0.0.1:"),
    }
    if server.driver not in lists:
        pytest.skip("a file has no host")
    await table(server, "elsewhere", [(1, at(1))])
    two = Server(server.driver, server.dsn.replace(*lists[server.driver]))
    assert two.dsn != server.dsn
    assert ids(await read_all(select(two, "elsewhere"))) == [1]
    if server.driver == "clickhouse":
        spread = Server(server.driver, f"{two.dsn}?connection_open_strategy=round_robin")
        for _ in range(3):
            assert ids(await read_all(select(spread, "elsewhere"))) == [1]
    none = Server(server.driver, two.dsn.replace(server.dsn.split("127.0.0.1:")[1][:5], str(dead)))
    with pytest.raises(Retryable):
        await read_all(select(none, "elsewhere"))


async def test_args_see_the_cursor_of_a_raw_query(server):
    await table(server, "followed", [(i, at(i)) for i in range(10)])
    place = "$1" if server.driver in {"postgres", "clickhouse"} else "?"
    node = node_of(
        "input",
        "sql_raw",
        driver=server.driver,
        dsn=server.dsn,
        query=f"SELECT id FROM followed WHERE id > {place} ORDER BY id LIMIT 4",
        args_mapping="root = [ this.cursor.value ]",
        cursor={"column": "id", "initial": 1},
    )
    kept = await read_all(node)
    assert ids(kept) == list(range(2, 10))
    again = await read_all(node, Kept(kept.state))
    assert again.rows == []


async def test_a_raw_query_that_ignores_its_cursor_is_stopped(server):
    await table(server, "ignored", [(1, at(1))])
    node = node_of(
        "input",
        "sql_raw",
        driver=server.driver,
        dsn=server.dsn,
        query="SELECT id FROM ignored",
        cursor={"column": "id"},
    )
    kept = Kept()
    with pytest.raises(Retryable, match="the cursor did not move"):
        await read_all(node, kept)
    assert ids(kept) == [1, 1]


async def test_rows_out_of_order_are_refused(server):
    await table(server, "unordered", [(i, at(i)) for i in range(5)])
    node = node_of(
        "input",
        "sql_raw",
        driver=server.driver,
        dsn=server.dsn,
        query="SELECT id FROM unordered ORDER BY id DESC",
        cursor={"column": "id"},
    )
    with pytest.raises(Retryable, match="put ORDER BY id"):
        await read_all(node)


async def test_a_column_that_is_not_selected_cannot_be_a_cursor(server):
    await table(server, "unselected", [(1, at(1))])
    node = select(server, "unselected", columns=["customer"], cursor={"column": "id"})
    with pytest.raises(ConfigError, match="the result has no column 'id', it has customer"):
        await read_all(node)


async def test_each_window_is_asked_for_once_also_after_a_restart(server):
    await table(server, "windowed", [(1, at(1))])
    column = {"sqlite": "datetime(?)"}.get(server.driver, "?")
    node = select(
        server,
        "windowed",
        where=f"changed > {column} AND changed <> {column}",
        args_mapping="root = [ this.window.from, this.window.to ]",
        interval="100ms",
    )
    first = await read_until(node, 3)
    second = await read_until(node, 6, Kept(first.state))
    windows = [
        (one.metadata["window_start"], one.metadata["window_end"])
        for one in first.messages + second.messages
    ]
    assert len(set(windows)) == len(windows) >= 6
    assert all(moment_of(end).ns - moment_of(start).ns == 10**8 for start, end in windows)


async def test_a_position_of_other_columns_is_not_used():
    node = node_of(
        "input",
        "sql_select",
        driver="sqlite",
        dsn="file:/nowhere.db",
        table="t",
        columns=["id"],
        cursor={"column": "changed"},
    )
    kept = Kept({"/root.input/cursor": b'{"columns":["id"],"mark":[5]}'})
    with pytest.raises(ConfigError, match="give the input another label"):
        await read_all(node, kept)


async def test_a_server_that_is_away_is_asked_again():
    node = node_of(
        "input",
        "sql_select",
        driver="postgres",
        dsn="postgres://u:secret@127.0.0.1:1/db",
        table="t",
        columns=["id"],
        init_verify_conn=True,
    )
    with pytest.raises(Retryable) as told:
        async with node.config.open(FakeEnv(node)):
            pass
    assert "secret" not in str(told.value)


async def test_no_second_position_is_under_way_before_the_first_is_safe(tmp_path):
    file = Server("sqlite", f"file:{tmp_path}/one.db")
    await table(file, "one_by_one", [(i, at(i)) for i in range(30)])
    held = []

    class Holding(Kept):
        async def put(self, delivery):
            held.append(delivery)

    node = select(file, "one_by_one", cursor={"column": "id"}, batch_size=10)
    reading = asyncio.ensure_future(read_all(node, Holding()))
    for count in (1, 2, 3, 4):
        await eventually(lambda count=count: len(held) == count)
        await asyncio.sleep(0.05)  # time for one too many
        assert len(held) == count
        held[-1].settle(None)
    await reading

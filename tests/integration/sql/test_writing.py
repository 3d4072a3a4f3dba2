"""Outputs and processors against real servers."""

import pytest

from kit.sql import REGISTRY, driver_for, execute, node_of
from openmeter_collector.components.sql.contract import Statement
from openmeter_collector.config import Config, read
from openmeter_collector.errors import BatchFailed, ConfigError, Dropped, Rejected, Retryable
from openmeter_collector.message import Message
from openmeter_collector.message.settlement import entering
from openmeter_collector.testing.env import FakeEnv
from openmeter_collector.values import json

TABLES = {
    "postgres": "CREATE TABLE {} (id TEXT PRIMARY KEY, n INTEGER, moment TIMESTAMPTZ)",
    "mysql": "CREATE TABLE {} (id VARCHAR(50) PRIMARY KEY, n INTEGER, moment DATETIME(6))",
    "clickhouse": "CREATE TABLE {} (id String, n Nullable(Int32), moment Nullable(DateTime64(6, 'UTC'))) "
    "ENGINE = MergeTree ORDER BY id",
    "sqlite": "CREATE TABLE {} (id TEXT PRIMARY KEY, n INTEGER, moment TIMESTAMP) STRICT",
    "duckdb": "CREATE TABLE {} (id TEXT PRIMARY KEY, n INTEGER, moment TIMESTAMPTZ)",
}
TABLES["sqlite"] = (
    TABLES["sqlite"]
    .replace(" STRICT", "")
    .replace("n INTEGER", "n INTEGER CHECK (typeof(n) IN ('integer', 'null'))")
)


async def table(server, name):
    await execute(server, f"DROP TABLE IF EXISTS {name}", TABLES[server.driver].format(name))


async def rows(server, query):
    database = driver_for(server)
    try:
        return (await database.run([Statement(query)], 1000))[0]
    finally:
        await database.close()


def batch(*documents):
    return entering([Message(json.dumps(document)) for document in documents])


def insert_of(kind, server, name, **more):
    fields = {
        "driver": server.driver,
        "dsn": server.dsn,
        "table": name,
        "columns": ["id", "n", "moment"],
        "args_mapping": 'root = [ this.id, this.n, this.at.or("2026-01-01 00:00:00") ]',
    }
    return node_of(kind, "sql_insert", **(fields | more))


def plain(kind, name, server, **more):
    return node_of(kind, name, driver=server.driver, dsn=server.dsn, **more)


async def write(node, *batches):
    async with node.config.open(FakeEnv(node)) as output:
        for one in batches:
            await output.write(one)


async def process(node, given):
    async with node.config.open(FakeEnv(node)) as processor:
        (made,) = await processor.process(given)
        return made


async def test_a_batch_is_inserted(server):
    await table(server, "taken")
    await write(
        insert_of("output", server, "taken"),
        batch({"id": "a'\\", "n": 1}, {"id": "b", "n": None}),
        batch({"id": "é%s?", "n": 2.0}),
    )
    assert await rows(server, "SELECT id, n FROM taken ORDER BY n") in (
        [{"id": "b", "n": None}, {"id": "a'\\", "n": 1}, {"id": "é%s?", "n": 2}],
        [{"id": "a'\\", "n": 1}, {"id": "é%s?", "n": 2}, {"id": "b", "n": None}],
    )


async def test_a_value_that_does_not_fit_rejects_the_batch_and_inserts_nothing(server):
    await table(server, "refused")
    node = insert_of("output", server, "refused")
    with pytest.raises(Rejected):
        await write(node, batch({"id": "a", "n": 1}, {"id": "b", "n": "no number"}))
    assert await rows(server, "SELECT id FROM refused") == []


async def test_a_message_without_values_is_named_and_its_neighbours_are_inserted(server):
    await table(server, "named")
    node = insert_of(
        "output",
        server,
        "named",
        args_mapping="root = if this.bad == true { [ 1 ] } else { [ this.id, this.n, null ] }",
    )
    with pytest.raises(BatchFailed) as told:
        await write(node, batch({"id": "a", "n": 1}, {"bad": True}, {"id": "b", "n": 2}))
    assert {at: str(error) for at, error in told.value.errors.items()} == {
        1: "root.output: args_mapping gave 1 values, there are 3 columns"
    }
    assert len(await rows(server, "SELECT id FROM named")) == 2


async def test_a_table_that_is_missing_is_waited_for(server):
    with pytest.raises(Retryable):
        await write(insert_of("output", server, "no_such_table"), batch({"id": "a", "n": 1}))


async def test_init_statements_make_the_table_and_may_be_run_again(server, tmp_path):
    await execute(server, "DROP TABLE IF EXISTS made_by_init")
    file = tmp_path / "init.sql"
    file.write_text(
        TABLES[server.driver].format("made_by_init") + ";\n-- a remark; with a semicolon\n"
    )
    node = insert_of("output", server, "made_by_init", init_files=[str(file)])
    await write(node, batch({"id": "a", "n": 1}))
    await write(node, batch({"id": "b", "n": 1}))
    assert len(await rows(server, "SELECT id FROM made_by_init")) == 2


async def test_a_raw_output_runs_a_batch_in_one_transaction(server):
    await table(server, "raw_out")
    places = "($1, $2)" if server.driver in {"postgres", "clickhouse"} else "(?, ?)"
    node = plain(
        "output",
        "sql_raw",
        server,
        query=f"INSERT INTO raw_out (id, n) VALUES {places}",
        args_mapping="root = [ this.id, this.n ]",
    )
    await write(node, batch({"id": "a", "n": 1}, {"id": "b", "n": 2}))
    assert len(await rows(server, "SELECT id FROM raw_out")) == 2
    if server.driver != "clickhouse":  # it has neither keys nor transactions
        with pytest.raises(Rejected):
            await write(node, batch({"id": "c", "n": 1}, {"id": "a", "n": 2}))
        assert len(await rows(server, "SELECT id FROM raw_out")) == 2


async def test_each_message_gets_the_first_statement_that_is_for_it(server):
    await table(server, "routed")
    place = "$1" if server.driver in {"postgres", "clickhouse"} else "?"
    insert = f"INSERT INTO routed (id, n) VALUES ({place}, %d)"
    args = "root = [ this.id ]"
    node = plain(
        "output",
        "sql_raw",
        server,
        queries=[
            {"when": "root = this.n == 1", "query": insert % 10, "args_mapping": args},
            {"when": "root = this.n < 3", "query": insert % 20, "args_mapping": args},
        ],
    )
    with pytest.raises(BatchFailed) as told:
        await write(
            node,
            batch({"id": "a", "n": 1}, {"id": "b", "n": 2}, {"id": "c", "n": 3}, {"id": "d"}),
        )
    assert {at: type(error) for at, error in told.value.errors.items()} == {2: Dropped, 3: Rejected}
    assert told.value.errors[2].rule == "root.output (sql_raw: no statement matched)"
    found = await rows(server, "SELECT id, n FROM routed ORDER BY id")
    assert [(row["id"], row["n"]) for row in found] == [("a", 10), ("b", 20)]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"queries": [{"query": "a"}, {"when": "true", "query": "b"}]}, "index 0 has no `when`"),
        ({"query": "a", "queries": [{"when": "true", "query": "b"}]}, "query is for all messages"),
    ],
)
async def test_a_statement_that_can_never_be_reached_is_a_fault(fields, text):
    config = {"output": {"sql_raw": {"driver": "sqlite", "dsn": ":memory:"} | fields}}
    reading = read(json.dumps(config).decode(), REGISTRY, Config, env={}, file="test.yaml")
    said = "".join(problem.friendly() for problem in reading.problems)
    if all(problem.severity != "error" for problem in reading.problems):
        with pytest.raises(ConfigError) as told:
            await write(reading.config.output, [])
        said = str(told.value)
    assert text in said


async def test_a_select_replaces_the_content_by_the_rows(server):
    await table(server, "looked_up")
    await write(
        insert_of("output", server, "looked_up"), batch({"id": "a", "n": 1}, {"id": "b", "n": 2})
    )
    node = plain(
        "processor",
        "sql_select",
        server,
        table="looked_up",
        columns=["n"],
        where="id = ?",
        args_mapping="root = [ this.id ]",
    )
    made = await process(node, batch({"id": "b"}, {"id": "none"}, {"no": "id"}))
    assert [m.structured() for m in made[:2]] == [[{"n": 2}], []]
    assert made[0].origin == 0


async def test_a_query_that_fails_flags_its_message_alone(server):
    await table(server, "flagged")
    node = plain(
        "processor",
        "sql_select",
        server,
        table="flagged",
        columns=["n"],
        where="id = ?",
        args_mapping="root = if this.bad { this.nothing.here.uppercase() } else { [ this.id ] }",
    )
    made = await process(node, batch({"id": "a"}, {"bad": True}))
    assert [m.error is None for m in made] == [True, False]
    assert made[1].structured() == {"bad": True}


async def test_a_raw_processor_runs_several_statements_and_keeps_the_last_result(server):
    await table(server, "several")
    place = "$1" if server.driver in {"postgres", "clickhouse"} else "?"
    node = plain(
        "processor",
        "sql_raw",
        server,
        queries=[
            {
                "query": f"INSERT INTO several (id, n) VALUES ({place}, 5)",
                "args_mapping": "root = [ this.id ]",
                "exec_only": True,
            },
            {"query": "SELECT sum(n) AS total FROM several"},
        ],
    )
    (made,) = await process(node, batch({"id": "a"}))
    assert int(made.structured()[0]["total"]) == 5


async def test_exec_only_leaves_the_message(server):
    await table(server, "only_run")
    node = plain(
        "processor",
        "sql_raw",
        server,
        query="INSERT INTO only_run (id, n) VALUES ('${! json(\"id\") }', 1)",
        unsafe_dynamic_query=True,
        exec_only=True,
    )
    (made,) = await process(node, batch({"id": "dynamic"}))
    assert made.content == b'{"id":"dynamic"}'
    assert await rows(server, "SELECT id FROM only_run") == [{"id": "dynamic"}]


async def test_an_insert_processor_passes_messages_on(server):
    await table(server, "passed")
    node = insert_of("processor", server, "passed")
    (made,) = await process(node, batch({"id": "a", "n": 1}))
    assert made.error is None
    (made,) = await process(node, batch({"id": "b", "n": "no number"}))
    assert made.error is not None
    assert [row["id"] for row in await rows(server, "SELECT id FROM passed")] == ["a"]

"""What each database's types become."""

import re
from contextlib import aclosing

import pytest

from kit.needs import ROOT
from kit.sql import driver_for, execute
from openmeter_collector.components.sql.contract import Statement
from openmeter_collector.errors import Retryable
from openmeter_collector.values import json

COLUMNS = {
    "postgres": """
        SELECT 9223372036854775807::bigint AS big, true AS yes, 1.5::float8 AS real, 'NaN'::float8 AS nan,
        1234567890123456789.120::numeric AS decimal, NULL::int AS empty, 'é''x'::text AS text,
        '{"a":[1,2.50]}'::jsonb AS json, ARRAY[1,2] AS ints, '\\x00ff'::bytea AS bytes,
        '2026-01-01 10:00:00.500+02'::timestamptz AS moment, '2026-01-01 10:00:00'::timestamp AS wall,
        '2026-01-02'::date AS day, 'f47ac10b-58cc-4372-a567-0e02b2c3d479'::uuid AS uuid,
        ARRAY['2026-01-01 00:00:00Z'::timestamptz] AS moments, 'infinity'::timestamptz AS never""",
    "mysql": """
        SELECT 18446744073709551615 AS big, 1.5e0 AS `real`, NULL AS empty, 'é''x' AS text,
        CAST(1234567890123456789.120 AS DECIMAL(30,3)) AS `decimal`, x'00ff' AS bytes,
        CAST('2026-01-01 10:00:00.500' AS DATETIME(6)) AS moment, CAST('2026-01-02' AS DATE) AS day,
        CAST('10:00:01' AS TIME) AS clock""",
    "clickhouse": """
        SELECT toUInt64(18446744073709551615) AS big, toInt256('170141183460469231731687303715884105728') AS huge,
        true AS yes, 1.5 AS real, nan AS nan, NULL AS empty, 'é\\'x' AS text,
        toDecimal128('1234567890123456789.120', 3) AS decimal, [1,2] AS ints, map('a', 1) AS map,
        toDateTime64('2026-01-01 10:00:00.500', 3, 'Europe/Budapest') AS moment,
        toDate('2026-01-02') AS day, toUUID('f47ac10b-58cc-4372-a567-0e02b2c3d479') AS uuid,
        unhex('00ff') AS bytes, toLowCardinality(toNullable(toDate('2026-01-02'))) AS low""",
    "sqlite": """
        SELECT 9223372036854775807 AS big, 1.5 AS real, NULL AS empty, 'é''x' AS text, x'00ff' AS bytes,
        moment, day, yes FROM types""",
    "duckdb": """
        SELECT 9223372036854775807 AS big, 170141183460469231731687303715884105727::HUGEINT AS huge, true AS yes,
        1.5::DOUBLE AS real, 'nan'::DOUBLE AS nan, NULL AS empty, 'é''x' AS text,
        1234567890123456789.120::DECIMAL(30,3) AS decimal, [1,2] AS ints, {'a': 1} AS struct,
        '\\x00\\xff'::BLOB AS bytes, '2026-01-01 10:00:00.5+02'::TIMESTAMPTZ AS moment,
        '2026-01-02'::DATE AS day, 'f47ac10b-58cc-4372-a567-0e02b2c3d479'::UUID AS uuid""",
}
TEXT = {
    "postgres": {
        "big": 9223372036854775807, "yes": True, "real": 1.5, "nan": "NaN",
        "decimal": "1234567890123456789.120", "empty": None, "text": "é'x", "json": '{"a": [1, 2.50]}',
        "ints": "{1,2}", "bytes": "\x00�", "moment": "2026-01-01T08:00:00.5Z",
        "wall": "2026-01-01T10:00:00Z", "day": "2026-01-02T00:00:00Z",
        "uuid": "f47ac10b-58cc-4372-a567-0e02b2c3d479", "moments": '{"2026-01-01 00:00:00+00"}',
        "never": "infinity",
    },
    "mysql": {
        "big": 18446744073709551615, "real": 1.5, "empty": None, "text": "é'x",
        "decimal": "1234567890123456789.120", "bytes": "\x00�", "moment": "2026-01-01T10:00:00.5Z",
        "day": "2026-01-02T00:00:00Z", "clock": "10:00:01",
    },
    "clickhouse": {
        "big": 18446744073709551615, "huge": 170141183460469231731687303715884105728, "yes": True,
        "real": 1.5, "nan": "nan", "empty": None, "text": "é'x", "decimal": "1234567890123456789.12",
        "ints": [1, 2], "map": {"a": 1}, "moment": "2026-01-01T09:00:00.5Z",
        "day": "2026-01-02T00:00:00Z", "uuid": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "bytes": "\x00�", "low": "2026-01-02T00:00:00Z",
    },
    "sqlite": {
        "big": 9223372036854775807, "real": 1.5, "empty": None, "text": "é'x", "bytes": "\x00�",
        "moment": "2026-01-01T10:00:00.5Z", "day": "2026-01-02T00:00:00Z", "yes": True,
    },
    "duckdb": {
        "big": 9223372036854775807, "huge": 170141183460469231731687303715884105727, "yes": True,
        "real": 1.5, "nan": "NaN", "empty": None, "text": "é'x",
        "decimal": "1234567890123456789.120", "ints": "[1,2]", "struct": '{"a":1}', "bytes": "\x00�",
        "moment": "2026-01-01T08:00:00.5Z", "day": "2026-01-02T00:00:00Z",
        "uuid": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    },
}  # fmt: skip
STRUCTURED = {
    "postgres": {
        "json": {"a": [1, 2.5]}, "ints": [1, 2], "bytes": "AP8=", "moments": ["2026-01-01T00:00:00Z"],
    },
    "mysql": {"bytes": "AP8="},
    "clickhouse": {},
    "sqlite": {"bytes": "AP8="},
    "duckdb": {"ints": [1, 2], "struct": {"a": 1}, "bytes": "AP8="},
}  # fmt: skip
SQLITE_TABLE = """
    DROP TABLE IF EXISTS types;
    CREATE TABLE types (moment TIMESTAMP, day DATE, yes BOOLEAN);
    INSERT INTO types VALUES ('2026-01-01 10:00:00.500', '2026-01-02', 1)"""


async def the_row(server, **options):
    if server.driver == "sqlite":
        await execute(server, SQLITE_TABLE)
    database = driver_for(server, **options)
    try:
        async with aclosing(database.stream(Statement(COLUMNS[server.driver]), 10)) as blocks:
            (row,) = [row async for block in blocks for row in block.rows]
            return row
    finally:
        await database.close()


async def test_every_type_has_one_documented_form(server):
    row = await the_row(server)
    # By way of JSON, because that is where it goes.
    assert json.loads(json.dumps(row)) == TEXT[server.driver]


async def test_structured_values_are_json(server):
    row = await the_row(server, structured=True)
    assert json.loads(json.dumps(row)) == TEXT[server.driver] | STRUCTURED[server.driver]


async def test_decimals_as_numbers_keep_every_digit(server):
    if server.driver == "sqlite":
        pytest.skip("SQLite has no decimals")
    row = await the_row(server, exact_numbers=True)
    assert b'"decimal":1234567890123456789.12' in json.dumps(row)


# ---- the tables of the guide ---------------------------------------------------------------------

GUIDE = ROOT / "docs" / "guide" / "sql-values.md"
HEADINGS = {
    "PostgreSQL": "postgres",
    "MySQL, MariaDB": "mysql",
    "ClickHouse": "clickhouse",
    "SQLite": "sqlite",
    "DuckDB": "duckdb",
}
TYPES = """
    CREATE EXTENSION IF NOT EXISTS hstore;
    DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ('sad', 'happy');
    DROP TYPE IF EXISTS pair; CREATE TYPE pair AS (n INT, s TEXT);
    DROP DOMAIN IF EXISTS whole; CREATE DOMAIN whole AS INT CHECK (VALUE > 0)
"""


def the_guide(driver):
    """The lines of a driver's table: what is selected, and what it becomes in both forms."""
    sections = re.split(r"^## (.+)$", GUIDE.read_text(), flags=re.MULTILINE)[1:]
    text = dict(zip(sections[::2], sections[1::2], strict=True))
    (section,) = [text[title] for title, name in HEADINGS.items() if name == driver]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:3] == "| `"]
    return [
        (value.strip("`"), made, made if other == "the same" else other)
        for value, made, other in lines
    ]


async def became(database, value):
    """The value as the guide writes it."""
    try:
        async with aclosing(database.stream(Statement(f"SELECT {value} AS v"), 10)) as blocks:
            (row,) = [row async for block in blocks for row in block.rows]
    except Retryable as error:
        assert "column v has the type" in str(error)
        return "an error"
    return f"`{json.dumps(row['v']).decode()}`"


async def test_values_become_what_the_guide_says(server):
    if server.driver == "postgres":
        await execute(server, TYPES)
    lines = the_guide(server.driver)
    assert len(lines) > 5
    plain = driver_for(server)
    structured = driver_for(server, structured=True, exact_numbers=True)
    try:
        found = [
            (value, await became(plain, value), await became(structured, value))
            for value, *_ in lines
        ]
    finally:
        await plain.close()
        await structured.close()
    assert found == lines

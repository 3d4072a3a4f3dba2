"""Fields that every SQL component has, and how a component gets its database."""

from __future__ import annotations

import asyncio
import glob
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Final, Literal

from openmeter_collector.api import (
    CollectorError,
    ConfigError,
    Disconnected,
    Duration,
    Env,
    Retryable,
    field,
    section,
)
from openmeter_collector.components.sql.contract import Database, Options, Statement
from openmeter_collector.components.sql.pool import Bounds

# By name, so that a run imports only the driver it uses.
_DRIVERS: Final = {
    "clickhouse": ("clickhouse", "ClickHouse"),
    "duckdb": ("duckdb", "DuckDb"),
    "mysql": ("mysql", "MySql"),
    "pgx": ("postgres", "Postgres"),
    "postgres": ("postgres", "Postgres"),
    "sqlite": ("sqlite", "Sqlite"),
}
DriverName = Literal["clickhouse", "duckdb", "mysql", "pgx", "postgres", "sqlite"]
DRIVER_NOTES: Final = {
    "clickhouse": "ClickHouse's HTTP interface; needs the extra `clickhouse`.",
    "duckdb": "DuckDB, in the collector's process; needs the extra `duckdb`.",
    "mysql": "MySQL and MariaDB; needs the extra `mysql`.",
    "pgx": "The same as `postgres`.",
    "postgres": "PostgreSQL and what speaks its protocol; needs the extra `postgres`.",
    "sqlite": "SQLite, in the collector's process.",
}


def _is_a_file(driver: str) -> bool:
    """Whether its databases are files, and its SQL can name more of them."""
    return driver in ("duckdb", "sqlite")


@section
class SqlConnection:
    """A database and how it is connected to."""

    driver: DriverName = field(doc="The kind of database.", choices=DRIVER_NOTES, file=_is_a_file)
    dsn: str = field(
        secret=True,
        doc="Where the database is, in the form of its driver: "
        "`postgres://user:password@host:5432/db?sslmode=require`, "
        "`user:password@tcp(host:3306)/db?parseTime=true`, "
        "`http://user:password@host:8123/db` (or `clickhouse://user:password@host:9000/db`, whose HTTP "
        "port 8123 is then used), `file:usage.db`, `usage.duckdb`. Several hosts, with commas between "
        "`host:port`, are tried in turn until one answers (`postgres`, `mysql`, `clickhouse`).",
    )
    init_files: list[str] = field(
        default_factory=list,
        file=bool,
        advanced=True,
        doc="Files of SQL to run when connecting for the first time; globs are allowed. They should be "
        "fit to be run again, such as `CREATE TABLE IF NOT EXISTS`. What fails is logged.",
    )
    init_statement: str = field(
        default="",
        advanced=True,
        doc="SQL to run when connecting for the first time, after `init_files`. What fails is logged.",
    )
    init_verify_conn: bool = field(
        default=False, advanced=True, doc="Ask the database something before anything else."
    )
    conn_max_idle_time: Duration | None = field(
        default=None, advanced=True, doc="Close a connection that nobody used for so long."
    )
    conn_max_life_time: Duration | None = field(
        default=None, advanced=True, doc="Do not use a connection for longer."
    )
    conn_max_idle: int = field(
        default=2, minimum=0, advanced=True, doc="Connections kept open for the next use."
    )
    conn_max_open: int = field(
        default=0, minimum=0, advanced=True, doc="Connections open at the same time; 0 is no limit."
    )
    decimals: Literal["text", "number"] = field(
        default="text",
        ours=True,
        advanced=True,
        doc="What NUMERIC and DECIMAL become. Both keep every digit.",
        choices={
            "text": "A string, as it always was.",
            "number": "A JSON number with the digits the database gave.",
        },
    )
    values: Literal["text", "structured"] = field(
        default="text",
        ours=True,
        advanced=True,
        doc="What JSON columns, arrays and bytes become.",
        choices={
            "text": "Strings, as they always were: JSON to be parsed, arrays as the database writes "
            "them, bytes that are no UTF-8 replaced. (ClickHouse's arrays and maps are values.)",
            "structured": "JSON becomes values, arrays become arrays, bytes become base64.",
        },
    )


@asynccontextmanager
async def open_database(
    config: SqlConnection, env: Env, *, verify: bool = False
) -> AsyncIterator[Database]:
    """The database of a component, for the life of it.

    Args:
        verify: ask it something first, also without `init_verify_conn`. Inputs do: who cannot be
            opened is opened again after growing pauses.

    Raises:
        ConfigError: the DSN is none, or the driver's library is not installed.
        Retryable: there was no answer.
    """
    where = f"{env.node.display()}: {config.driver}"
    module, name = _DRIVERS[config.driver]
    driver = getattr(import_module(f"openmeter_collector.components.sql.{module}"), name)
    options = Options(
        driver=config.driver,
        dsn=config.dsn,
        where=where,
        structured=config.values == "structured",
        exact_numbers=config.decimals == "number",
    )
    bounds = Bounds(
        config.conn_max_open,
        config.conn_max_idle,
        config.conn_max_idle_time or 0.0,
        config.conn_max_life_time or 0.0,
    )
    database: Database = driver(options, bounds, env.monotonic)
    try:
        if verify or config.init_verify_conn:
            await _verified(database)
        await _initialize(config, database, env)
        yield database
    finally:
        await database.close()


async def _verified(database: Database) -> None:
    try:
        await database.run([Statement("SELECT 1")], 1)
    except Disconnected as error:
        raise Retryable(str(error)) from error


async def _initialize(config: SqlConnection, database: Database, env: Env) -> None:
    scripts = await asyncio.to_thread(_scripts, config.init_files)
    if config.init_statement:
        scripts.append(("init_statement", config.init_statement))
    for source, text in scripts:
        try:
            await database.script(text)
        except Disconnected as error:
            raise Retryable(str(error)) from error
        except CollectorError as error:
            # Upstream's rule: a table that exists already must not stop the component.
            env.log.warning("an init statement failed", source=source, error=str(error))


def _scripts(patterns: list[str]) -> list[tuple[str, str]]:
    found = []
    for pattern in patterns:
        paths = [Path(one) for one in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - absolute patterns
        if not paths:
            raise ConfigError(f"init_files: {pattern}: no such file")
        for path in paths:
            try:
                found.append((str(path), path.read_text(encoding="utf-8")))
            except OSError as error:
                raise ConfigError(f"init_files: {path}: {error.strerror}") from error
    return found

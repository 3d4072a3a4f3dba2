"""What the SQL inputs share beside the connection: fields for reading on and again, and the life."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from openmeter_collector.api import (
    CatchUp,
    Duration,
    Env,
    Input,
    MappingText,
    Puller,
    WindowedInput,
    check_schedule,
    field,
    section,
    windows_of,
)
from openmeter_collector.components.sql.contract import Database
from openmeter_collector.components.sql.fields import SqlConnection
from openmeter_collector.components.sql.position import Cursor
from openmeter_collector.components.sql.reading import Once, Plan, SqlReader, WindowReader
from openmeter_collector.values.schedule import Schedule, parse_schedule


def _check_interval(text: str) -> str | None:
    return check_schedule(text) if text else None


@section
class SqlPolling(SqlConnection):
    """An input that asks a database."""

    leader_only: ClassVar[bool] = True
    args_mapping: MappingText | None = field(
        default=None,
        doc="Makes an array of the values for the query's placeholders, each time it is run. `this` has "
        "`cursor.value` and `cursor.key` (an array) of the last row, `cursor.until` with a lag, `window.from` "
        "and `window.to`.",
        examples=["root = [ now().ts_unix() - 30 ]", "root = [ this.window.from, this.window.to ]"],
    )
    auto_replay_nacks: bool = field(
        default=True,
        doc="Repeat rows that could not be delivered, until they are. Without it they are gone.",
    )
    cursor: Cursor = field(
        default_factory=Cursor, ours=True, doc="Read on where the last run stopped."
    )
    interval: str = field(
        default="",
        ours=True,
        doc="Run the query again and again: a duration, or a cron expression. Without a cursor each run "
        "is about the window of time that ended then. Empty is once.",
        examples=["10s", "0 * * * *", "@every 5m"],
        lint=_check_interval,
    )
    delay: Duration = field(
        default=Duration("0s"),
        ours=True,
        doc="How long after its end a window is asked for, so that rows which come late are in it.",
    )
    catch_up: CatchUp = field(
        default_factory=CatchUp, ours=True, doc="Windows that were missed or failed."
    )
    batch_size: int = field(
        default=1000,
        minimum=1,
        maximum=100_000,
        ours=True,
        doc="Rows handed over together at most.",
    )

    def schedule(self) -> Schedule | None:
        """When the query is run again."""
        return parse_schedule(self.interval)


@asynccontextmanager
async def opened(
    config: SqlPolling, plan: Plan, database: Database, env: Env
) -> AsyncIterator[Puller | Input]:
    """The running input."""
    if plan.cursor is None and plan.schedule is not None:
        windows = config.catch_up.plan(
            windows_of(config.interval, f"{env.node.path}.interval"),
            "windows",
            delay=config.delay,
        )
        yield WindowedInput(env, WindowReader(plan, database, env), windows)
        return
    reader = SqlReader(plan, database, env)
    try:
        yield reader if config.auto_replay_nacks else Once(reader)
    finally:
        await reader.close()

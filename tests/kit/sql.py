"""Running SQL components against a real server."""

import asyncio
import json
import time

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.component.input import Puller
from openmeter_collector.component.node import Node
from openmeter_collector.components.sql.clickhouse import ClickHouse
from openmeter_collector.components.sql.contract import Options
from openmeter_collector.components.sql.duckdb import DuckDb
from openmeter_collector.components.sql.mysql import MySql
from openmeter_collector.components.sql.pool import Bounds
from openmeter_collector.components.sql.postgres import Postgres
from openmeter_collector.components.sql.sqlite import Sqlite
from openmeter_collector.config import Config, Resources, read
from openmeter_collector.engine.input_loop import PullInput
from openmeter_collector.testing.env import FakeEnv

CLASSES = {
    "postgres": Postgres,
    "mysql": MySql,
    "clickhouse": ClickHouse,
    "sqlite": Sqlite,
    "duckdb": DuckDb,
}
REGISTRY = standard_registry()


def driver_for(server, dsn=None, **options):
    """The driver itself."""
    made = Options(server.driver, dsn or server.dsn, "test", **options)
    return CLASSES[server.driver](made, Bounds(), time.monotonic)


async def execute(server, *scripts):
    """Run SQL beside the component under test."""
    database = driver_for(server)
    try:
        for script in scripts:
            await database.script(script)
    finally:
        await database.close()


def node_of(kind, name, label="", **fields):
    """A component from its fields."""
    config = {name: fields, **({"label": label} if label else {})}
    if kind == "processor":
        document, key = Resources, "processor_resources"
        config["label"] = label or "under_test"
        text = json.dumps({key: [config]})
    else:
        document, text = Config, json.dumps({kind: config})
    reading = read(text, REGISTRY, document, env={}, file="test.yaml")
    assert [p.friendly() for p in reading.problems if p.severity == "error"] == []
    found = (
        reading.config.processor_resources[0]
        if kind == "processor"
        else getattr(reading.config, kind)
    )
    assert isinstance(found, Node)
    return found


class Kept:
    """An intake that keeps what it is given, as a buffer with one transaction would: rows and positions
    become true together.
    """

    def __init__(self, state=None):
        self.rows = []
        self.messages = []
        self.sizes = []
        self.state = {} if state is None else state
        self.stop_after = None
        self.fails = 0
        self.changed = asyncio.Event()

    async def put(self, delivery):
        if self.stop_after is not None and len(self.rows) >= self.stop_after:
            # What a crash looks like from here: handed over, and nobody ever said what became of it.
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        self.sizes.append(len(delivery.batch))
        self.messages += delivery.batch
        self.rows += [m.structured() if m.content else None for m in delivery.batch]
        for checkpoint in delivery.checkpoints:
            self.state[checkpoint.key] = checkpoint.value
        delivery.settle(None)
        self.changed.set()

    def checkpoint(self, key):
        return self.state.get(key)

    async def until(self, count):
        async with asyncio.timeout(30):
            while len(self.rows) < count:
                self.changed.clear()
                await self.changed.wait()


class RealTime(FakeEnv):
    """An `Env` whose positions are kept by the intake."""

    def __init__(self, node, kept):
        super().__init__(node)
        self._surroundings.state.bind(kept)


async def read_all(node, kept=None):
    """Run an input to its end."""
    kept = kept or Kept()
    env = RealTime(node, kept)
    try:
        async with node.config.open(env) as opened, asyncio.timeout(60):
            running = PullInput(env, opened) if isinstance(opened, Puller) else opened
            await running.run(kept)
    except ExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
    return kept


async def read_until(node, count, kept=None):
    """Run an input until so many rows have come, and then end it as a stop does."""
    kept = kept or Kept()
    env = RealTime(node, kept)
    async with node.config.open(env) as opened:
        component = PullInput(env, opened) if isinstance(opened, Puller) else opened
        running = asyncio.ensure_future(component.run(kept))
        waiting = asyncio.ensure_future(kept.until(count))
        try:
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            waiting.cancel()
            running.cancel()
            await asyncio.wait({running, waiting})
    return kept

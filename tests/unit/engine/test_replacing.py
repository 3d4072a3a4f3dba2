"""A changed config takes the place of the running one; one that cannot be opened does not."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.cli.watch import changes, files_of
from openmeter_collector.config import load
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.replacing import run_replaceable
from openmeter_collector.errors import ConfigError
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions


def config(name):
    text = f"""
input: {{generate: {{interval: 5ms, mapping: 'root = "{name}"'}}}}
output: {{file: {{path: out.txt}}}}
shutdown_timeout: 5s
"""
    return load(text, standard_registry(), env={})


def unopenable():
    text = "input: {file: {paths: [./not-there]}}\noutput: {file: {path: out.txt}}\n"
    return load(text, standard_registry(), env={})


@asynccontextmanager
async def replaceable(first):
    lines, shown = [], []
    around = Surroundings(
        Log(LogOptions(format="json"), lines.append), MetricStore(), listen=None, mount=None
    )
    stop, queue = asyncio.Event(), asyncio.Queue()
    task = asyncio.create_task(run_replaceable(first, around, stop, queue, shown.append))
    try:
        yield queue, lines, shown, task
    finally:
        stop.set()
        if not task.done():
            await task


async def until_written(path, text):
    while not path.exists() or text not in path.read_text():
        await asyncio.sleep(0.005)


async def test_the_new_config_runs_after_the_old_one_has_stopped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with replaceable(config("old")) as (queue, _, shown, _):
        await until_written(tmp_path / "out.txt", "old")
        queue.put_nowait(config("new"))
        await until_written(tmp_path / "out.txt", "new")
        assert len(shown) == 2
    written = (tmp_path / "out.txt").read_text().split()
    assert written == sorted(written, reverse=True)  # every "old" before every "new"


async def test_a_config_that_cannot_be_opened_gives_its_place_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = unopenable()
    async with replaceable(config("old")) as (queue, lines, shown, _):
        await until_written(tmp_path / "out.txt", "old")
        queue.put_nowait(bad)
        while len(shown) < 3:
            await asyncio.sleep(0.005)
        (tmp_path / "out.txt").unlink()
        queue.put_nowait(config("newer"))
        await until_written(tmp_path / "out.txt", "newer")
    told = [json.loads(line) for line in lines]
    (error,) = [line for line in told if line["level"] == "error"]
    assert error["msg"] == "the changed config cannot be started, the one before goes on"


async def test_the_first_config_has_nothing_to_go_back_to():
    bad = unopenable()
    async with replaceable(bad) as (_, _, _, task):
        with pytest.raises(ConfigError):
            await task


async def test_a_change_is_told_when_files_are_at_rest(tmp_path):
    (tmp_path / "a.yaml").write_text("one")
    seen = asyncio.Queue()

    async def look():
        async for names in changes(lambda: sorted(tmp_path.glob("*.yaml")), poll=0.01):
            seen.put_nowait(names)

    task = asyncio.create_task(look())
    await asyncio.sleep(0.02)
    (tmp_path / "b.yaml").write_text("two")
    assert await seen.get() == {str(tmp_path / "b.yaml")}
    (tmp_path / "a.yaml").unlink()
    assert await seen.get() == {str(tmp_path / "a.yaml")}
    task.cancel()


def test_files_that_configs_name_are_watched_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(
        "pipeline: {processors: [{mapping: 'file://./m.blobl'}, "
        '{json_schema: {schema_path: "file://./s.json"}}]}'
    )
    (tmp_path / "m.blobl").write_text('import "./more.blobl"\nroot = this.apply("x")\n')
    (tmp_path / "more.blobl").write_text('from "./m.blobl"\n')
    names = {path.name for path in files_of([tmp_path / "a.yaml"])}
    assert names == {"a.yaml", "m.blobl", "s.json", "more.blobl"}

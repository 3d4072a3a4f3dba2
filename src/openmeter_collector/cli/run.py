"""`run`: one pipeline from one config file."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import uvloop

from openmeter_collector.cli.files import expand
from openmeter_collector.cli.journal import sqlite_path
from openmeter_collector.cli.leader import LeaderArguments, leader_options
from openmeter_collector.cli.options import Given, given, run_options
from openmeter_collector.cli.process import (
    collect_garbage_seldom,
    log_of,
    said_differently,
    say_goodbye,
    serve,
    stop_on_signals,
    tell_problems,
    tell_warnings,
)
from openmeter_collector.cli.roll import MOST, Roll
from openmeter_collector.cli.watch import changes
from openmeter_collector.cli.worker import CANNOT_START, SOMETHING_LEFT, Worker
from openmeter_collector.cli.workers import Workers
from openmeter_collector.config import Config, Reading
from openmeter_collector.config.model import LogFile
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.exporting import exporting
from openmeter_collector.engine.replacing import run_replaceable
from openmeter_collector.engine.replicas import LeaderFlags, replicated, shown_leadership
from openmeter_collector.engine.run import plain_errors
from openmeter_collector.engine.status import PipelineStatus
from openmeter_collector.errors import CollectorError, ConfigError
from openmeter_collector.presets import preset as find_preset
from openmeter_collector.server.service import Service
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log

_LOOKED_FOR = ("/benthos.yaml", "/etc/benthos/config.yaml", "/etc/benthos.yaml")


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@run_options
@leader_options
@click.option("--preset", help="Run a config that comes with the collector, such as http-server.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Send nothing: print the events that would be sent, and stop (ours).",
)
@click.option(
    "--dry-run-count",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="With --dry-run: stop after so many events.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="With --dry-run: how events are printed.",
)
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: as --format json.")
@click.option(
    "--workers",
    type=click.IntRange(1, MOST),
    default=1,
    show_default=True,
    help="Processes that share the ports of HTTP inputs, each with a journal of its own (ours).",
)
@click.option("--worker", "part", hidden=True, help="Given to each of them by the first process.")
def run(
    file: Path | None,
    config_file: Path | None,
    preset: str | None,
    dry_run: bool,
    dry_run_count: int,
    form: str,
    as_json: bool,
    workers: int,
    part: str | None,
    log_level: str | None,
    overrides: tuple[str, ...],
    resources: tuple[str, ...],
    templates: tuple[str, ...],
    env_files: tuple[Path, ...],
    allow: tuple[str, ...],
    allow_api: tuple[str, ...],
    chilled: bool,
    watch: bool,
    leader: LeaderArguments,
) -> int:
    r"""Run a pipeline until its input ends or it is told to stop.

    SIGTERM or Ctrl-C stops in order: nothing more is taken, what is buffered is delivered for as
    long as shutdown_timeout, the rest stays on disk. A second signal ends it at once; what was
    acknowledged is safe then, too.

    \b
    Examples:
      openmeter-collector run config.yaml
      openmeter-collector -c config.yaml -r 'resources/*.yaml' -e .env -w
      openmeter-collector run --preset http-server
      openmeter-collector run -c config.yaml --dry-run --format json
      openmeter-collector run -c config.yaml --workers 2

    \b
    Exit codes:
      1  it could not be started, or a worker did not stop in order

    \b
    Environment:
      LOG_LEVEL, LOG_FORMAT  what a config leaves open about logs

    \b
    Files:
      /benthos.yaml, /etc/benthos/config.yaml, /etc/benthos.yaml  configs that are looked for when none is named
    """
    how = given(
        log_level,
        overrides,
        resources,
        templates,
        env_files,
        chilled=chilled,
        watch=watch,
        allow=allow,
        allow_api=allow_api,
    )
    source = which(file, config_file, preset)
    reading = how.read(source)
    if dry_run:
        from openmeter_collector.cli.dry_run import dry_run as run_dry  # noqa: PLC0415 - rarely used

        form = "json" if as_json else form
        return uvloop.run(run_dry(reading.or_raise(), how, count=dry_run_count, form=form))
    if part is None:
        parent = _parent(reading, how, workers)
        if parent is not None:
            return uvloop.run(parent.run())
    collect_garbage_seldom()
    worker = Worker(0, 1) if part is None else Worker.of(part, workers)
    running = _run(reading, source, how, leader.flags(how.env), worker)
    return uvloop.run(running) if worker.alone else _in_worker(running)


def _parent(reading: Reading[Config], how: Given, count: int) -> Workers | None:
    """What starts workers, when several processes are wanted or were."""
    config = reading.or_raise()
    path = sqlite_path(config.buffer)
    roll = None if path is None else Roll.beside(path)
    before = 1 if roll is None else roll.read()
    if max(count, before) == 1:
        return None
    # A file to log to belongs to a worker, which may rotate it.
    config = replace(config, logger=replace(config.logger, file=LogFile()))
    log = log_of(config, how.log_level, to_stdout=_may_use_stdout(config))
    return Workers(count, before, log.bind(part="workers"), roll)


def _in_worker(running: Coroutine[Any, Any, int]) -> int:
    """Run it, and tell the parent by the exit code when starting it again would not help."""
    try:
        return uvloop.run(running)
    except CollectorError as error:
        print(error, file=sys.stderr)
        return CANNOT_START


def which(file: Path | None, config_file: Path | None, preset: str | None = None) -> Path:
    """The config that is meant.

    Raises:
        ConfigError: none was given and none is where one is looked for.
    """
    if preset is not None:
        return find_preset(preset).path
    given = config_file or file
    if given is not None:
        return given
    for name in _LOOKED_FOR:
        if Path(name).is_file():
            return Path(name)
    raise ConfigError(
        "no config was given and none is at "
        f"{', '.join(_LOOKED_FOR)}; give one with -c FILE, or --preset NAME"
    )


def _may_use_stdout(config: Config) -> bool:
    """Logs go to standard output, unless events do."""
    return config.output is None or config.output.name != "stdout"


async def _run(
    reading: Reading[Config], source: Path, how: Given, leader: LeaderFlags, worker: Worker
) -> int:
    given = reading.or_raise()
    config = worker.own(given)
    log = log_of(config, how.log_level, to_stdout=_may_use_stdout(config))
    if not worker.alone:
        log = log.bind(worker=worker.index)
    if worker.index == 0:
        tell_warnings(log, reading.problems)
    metrics = MetricStore()
    service = Service(metrics, root_path=config.http.root_path)
    surroundings = Surroundings(
        log,
        metrics,
        listen=worker.listen(),
        mount=service.mount,
        leaves_out=worker.leaves_out(given),
    )
    stop = asyncio.Event()
    stop_on_signals(stop, log, float(config.shutdown_delay))
    if not worker.alone:
        worker.end_with_parent(stop, log)

    def show(status: PipelineStatus) -> None:
        service.pipelines = {"": status}

    changed: asyncio.Queue[Config] = asyncio.Queue()
    async with plain_errors(), AsyncExitStack() as stack:
        service.exporter = await stack.enter_async_context(exporting(config, surroundings))
        secrets = set(reading.secrets)
        await serve(stack, service, config, log, secrets)

        watching = asyncio.create_task(
            _watch(source, how, worker, config, changed, log, secrets), name="watch"
        )
        stack.callback(watching.cancel)
        surroundings = await stack.enter_async_context(
            replicated(config, worker.flags(leader), surroundings)
        )
        service.leadership = shown_leadership(surroundings)
        ended = await run_replaceable(config, surroundings, stop, changed, show)
    say_goodbye(log, ended)
    return SOMETHING_LEFT if worker.drains_only and (ended.left_events or ended.dead_letters) else 0


async def _watch(
    source: Path,
    how: Given,
    worker: Worker,
    first: Config,
    changed: asyncio.Queue[Config],
    log: Log,
    secrets: set[str],
) -> None:
    """Put each changed and valid config into `changed`, if that is wanted, and what is secret in it
    into `secrets`.
    """
    if not how.watch:
        return

    def files() -> list[Path]:
        try:
            return [source, *expand(how.resources), *expand(how.templates)]
        except ConfigError:  # a file is away for a moment, as when it is being replaced
            return [source]

    async for names in changes(files):
        log.info("files changed", files=", ".join(sorted(names)))
        try:
            reading = how.read(source)
            config = worker.own(reading.or_raise())
            secrets |= reading.secrets
        except ConfigError as error:
            tell_problems(log, "the changed config is not valid, the old one goes on", error)
            continue
        tell_warnings(log, reading.problems)
        if other := said_differently(first, config):
            log.warning("changes take effect at the next start only", fields=", ".join(other))
        changed.put_nowait(config)

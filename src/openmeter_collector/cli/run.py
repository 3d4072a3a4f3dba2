"""`run`: one pipeline from one config file."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import click
import uvloop

from openmeter_collector.cli.leader import LeaderArguments, leader_options
from openmeter_collector.cli.options import Given, given, run_options
from openmeter_collector.cli.process import (
    collect_garbage_seldom,
    log_of,
    say_goodbye,
    serve,
    stop_on_signals,
    tell_warnings,
)
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import Config, Reading
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.exporting import exporting
from openmeter_collector.engine.replicas import LeaderFlags, replicated, shown_leadership
from openmeter_collector.engine.run import Control, Pipeline, plain_errors
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.telemetry.counters import MetricStore

_LOOKED_FOR = ("/benthos.yaml", "/etc/benthos/config.yaml", "/etc/benthos.yaml")


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@run_options
@leader_options
@click.option("--preset", help="Run a config that comes with the collector, such as http-server.")
def run(
    file: Path | None,
    config_file: Path | None,
    preset: str | None,
    log_level: str | None,
    overrides: tuple[str, ...],
    resources: tuple[str, ...],
    env_files: tuple[Path, ...],
    allow: tuple[str, ...],
    chilled: bool,
    leader: LeaderArguments,
) -> int:
    """Run a pipeline until its input ends or it is told to stop.

    SIGTERM or Ctrl-C stops in order: nothing more is taken, what is buffered is delivered for as
    long as shutdown_timeout, the rest stays on disk. A second signal ends it at once; what was
    acknowledged is safe then, too.
    """
    how = given(log_level, overrides, resources, env_files, chilled=chilled, allow=allow)
    reading = how.read(which(file, config_file, preset), standard_registry())
    collect_garbage_seldom()
    return uvloop.run(_run(reading, reading.or_raise(), how, leader.flags(how.env)))


def which(file: Path | None, config_file: Path | None, preset: str | None = None) -> Path:
    """The config that is meant.

    Raises:
        ConfigError: none was given and none is where one is looked for.
    """
    if preset is not None:
        found = Path(__file__).parent.parent / "presets" / preset / "config.yaml"
        if not found.is_file() or "/" in preset:
            known = sorted(one.parent.name for one in found.parents[1].glob("*/config.yaml"))
            raise ConfigError(f"--preset: there is no preset {preset!r}; known: {', '.join(known)}")
        return found
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


async def _run(reading: Reading[Config], config: Config, how: Given, leader: LeaderFlags) -> int:
    # Logs go to standard output, unless events do.
    to_stdout = config.output is None or config.output.name != "stdout"
    log = log_of(config, how.log_level, to_stdout=to_stdout)
    tell_warnings(log, reading.problems)
    metrics = MetricStore()
    service = Service(metrics, root_path=config.http.root_path)
    surroundings = Surroundings(log, metrics, listen=listen, mount=service.mount)
    control = Control()
    stop_on_signals(control.stop, log)
    async with plain_errors(), AsyncExitStack() as stack:
        service.exporter = await stack.enter_async_context(exporting(config, surroundings))
        surroundings = await stack.enter_async_context(replicated(config, leader, surroundings))
        service.leadership = shown_leadership(surroundings)
        pipeline = Pipeline(config, surroundings)
        service.pipelines = {"": pipeline.status}
        await serve(stack, service, config, log)
        ended = await pipeline.run(control)
    say_goodbye(log, ended)
    return 0

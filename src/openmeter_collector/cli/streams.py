"""`streams`: several pipelines in one process, a config file each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import click
import uvloop

from openmeter_collector.cli.files import expand
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
from openmeter_collector.config import (
    Config,
    InvalidConfig,
    Problem,
    Reading,
    Stream,
    read,
    resources_of,
)
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.exporting import exporting
from openmeter_collector.engine.replicas import LeaderFlags, replicated, shown_leadership
from openmeter_collector.engine.run import plain_errors
from openmeter_collector.engine.streams import Streams
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.telemetry.counters import MetricStore


@click.command()
@click.argument("paths", nargs=-1)
@run_options
@leader_options
@click.option(
    "-o", "--observability", type=click.Path(path_type=Path),
    help="A config with http, logger, metrics and tracer only.",
)  # fmt: skip
@click.option("--no-api", is_flag=True, help="No API for managing streams; there is none yet.")
@click.option(
    "--prefix-stream-endpoints/--no-prefix-stream-endpoints",
    default=True,
    show_default=True,
    help="Serve paths that a stream mounts below /STREAM.",
)
def streams(
    paths: tuple[str, ...],
    config_file: Path | None,
    observability: Path | None,
    no_api: bool,
    prefix_stream_endpoints: bool,
    log_level: str | None,
    overrides: tuple[str, ...],
    resources: tuple[str, ...],
    env_files: tuple[Path, ...],
    allow: tuple[str, ...],
    chilled: bool,
    leader: LeaderArguments,
) -> int:
    """Run the streams of all PATHS (files, folders, globs) side by side.

    A stream is called as its file is, without the ending; folders below a given folder are joined to
    its name with `_`. The config of -c (or -o) says what all share: http, logger, metrics, resources. A
    stream that ends leaves the others running.
    """
    del no_api
    how = given(log_level, overrides, resources, env_files, chilled=chilled, allow=allow)
    shared = read_shared(how, config_file or observability)
    found = read_streams(how, shared.or_raise(), stream_files(paths))
    collect_garbage_seldom()
    return uvloop.run(
        _run(shared, found, how, leader.flags(how.env), prefix=prefix_stream_endpoints)
    )


@dataclass(frozen=True, slots=True)
class Found:
    """The streams that are to run, and what reading them found."""

    streams: Mapping[str, Stream]
    problems: tuple[Problem, ...]


def read_shared(how: Given, source: Path | None) -> Reading[Config]:
    """What all streams share."""
    return how.read("{}" if source is None else source, standard_registry())


def read_streams(how: Given, shared: Config, files: Mapping[str, Path]) -> Found:
    """Read all streams.

    Raises:
        InvalidConfig: with the faults of all of them.
    """
    registry = standard_registry()
    known = list(resources_of(shared))
    problems: list[Problem] = []
    made: dict[str, Stream] = {}
    for name, path in files.items():
        reading = read(
            path, registry, Stream, env=how.env, known_resources=known, chilled=how.chilled,
            trust=how.trust,
        )  # fmt: skip
        problems += reading.problems
        if reading.config is not None:
            made[name] = reading.config
    if len(made) < len(files):
        raise InvalidConfig(problem for problem in problems if problem.severity == "error")
    return Found(made, tuple(problems))


def stream_files(paths: Sequence[str]) -> dict[str, Path]:
    """Names of streams and their files.

    Raises:
        ConfigError: two streams have the same name.
    """
    named: dict[str, Path] = {}
    for given_path in paths:
        folder = Path(given_path)
        for file in expand([given_path]):
            below = file.relative_to(folder) if folder.is_dir() else Path(file.name)
            name = "_".join(below.with_suffix("").parts)
            other = named.setdefault(name, file)
            if other != file:
                raise ConfigError(
                    f"{file}: a stream {name!r} is defined in {other} already; rename one file"
                )
    return named


async def _run(
    shared: Reading[Config], found: Found, how: Given, leader: LeaderFlags, *, prefix: bool
) -> int:
    config = shared.or_raise()
    log = log_of(config, how.log_level, to_stdout=not _prints(found.streams.values()))
    tell_warnings(log, [*shared.problems, *found.problems])
    metrics = MetricStore()
    service = Service(metrics, root_path=config.http.root_path)
    surroundings = Surroundings(log, metrics, listen=listen, mount=service.mount)
    stop = asyncio.Event()
    stop_on_signals(stop, log)
    async with plain_errors(), AsyncExitStack() as stack:
        service.exporter = await stack.enter_async_context(exporting(config, surroundings))
        surroundings = await stack.enter_async_context(replicated(config, leader, surroundings))
        service.leadership = shown_leadership(surroundings)
        running = Streams(config, surroundings, prefix_mounts=prefix)
        service.pipelines = running.status
        await serve(stack, service, config, log)
        ended = await running.run(found.streams, stop)
    for name, one in ended.items():
        say_goodbye(log.bind(stream=name), one)
    return 0


def _prints(streams: Iterable[Stream]) -> bool:
    return any(one.output is not None and one.output.name == "stdout" for one in streams)

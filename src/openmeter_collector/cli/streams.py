"""`streams`: several pipelines in one process, a config file each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import click
import uvloop

from openmeter_collector.cli.files import expand
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
from openmeter_collector.cli.stream_files import Found, Library, stream_files
from openmeter_collector.cli.watch import Print, changes, fingerprint
from openmeter_collector.config import Config, InvalidConfig, Reading, Stream, resources_of
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.exporting import exporting
from openmeter_collector.engine.replicas import LeaderFlags, replicated, shown_leadership
from openmeter_collector.engine.run import plain_errors
from openmeter_collector.engine.streams import Streams
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.server.streams_api import StreamsApi
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log


@click.command()
@click.argument("paths", nargs=-1)
@run_options
@leader_options
@click.option(
    "-o", "--observability", type=click.Path(path_type=Path),
    help="A config with http, logger, metrics and tracer only.",
)  # fmt: skip
@click.option("--no-api", is_flag=True, help="No API for managing streams.")
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
    allow_api: tuple[str, ...],
    prefix_stream_endpoints: bool,
    log_level: str | None,
    overrides: tuple[str, ...],
    resources: tuple[str, ...],
    templates: tuple[str, ...],
    env_files: tuple[Path, ...],
    allow: tuple[str, ...],
    chilled: bool,
    watch: bool,
    leader: LeaderArguments,
) -> int:
    r"""Run the streams of all PATHS (files, folders, globs) side by side.

    A stream is called as its file is, without the ending; folders below a given folder are joined to
    its name with `_`. The config of -c (or -o) says what all share: http, logger, metrics, resources. A
    stream that ends leaves the others running; without the API, the command ends with the last one.

    The API at /streams lists, creates, reads, replaces, patches and deletes streams. Whoever reaches it
    can make this process connect anywhere: switch it off with --no-api, or put a password in front
    (http.basic_auth). Configs that come over it may not touch files unless --allow-api files is given.

    \b
    Examples:
      openmeter-collector -c shared.yaml -r 'resources/*.yaml' streams --no-api 'streams/*.yaml'
      openmeter-collector streams -w streams
      curl localhost:4195/streams
      curl -X POST localhost:4195/streams/new --data-binary @new.yaml
      curl -X DELETE 'localhost:4195/streams/new?timeout=10s'

    \b
    Environment:
      LOG_LEVEL, LOG_FORMAT  what a config leaves open about logs
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
    source = config_file or observability
    shared = read_shared(how, source)
    library = Library(how, shared.or_raise(), set(shared.secrets))
    found = library.streams(stream_files(paths))
    if no_api and not found.streams and not watch:
        raise ConfigError("streams: none was found and none can be added with --no-api; name files")
    run = _Run(how, source, paths, library, api=not no_api, prefix=prefix_stream_endpoints)
    collect_garbage_seldom()
    return uvloop.run(run.run(shared, found, leader.flags(how.env)))


def read_shared(how: Given, source: Path | None) -> Reading[Config]:
    """What all streams share."""
    return how.read("{}" if source is None else source)


class _Run:
    """One call of the command."""

    def __init__(
        self,
        how: Given,
        source: Path | None,
        paths: tuple[str, ...],
        library: Library,
        *,
        api: bool,
        prefix: bool,
    ) -> None:
        self._how = how
        self._source = source
        self._paths = paths
        self._library = library
        self._api = api
        self._prefix = prefix

    async def run(self, shared: Reading[Config], found: Found, leader: LeaderFlags) -> int:
        config = shared.or_raise()
        log = log_of(config, self._how.log_level, to_stdout=not _prints(found.streams.values()))
        tell_warnings(log, [*shared.problems, *found.problems])
        metrics = MetricStore()
        service = Service(metrics, root_path=config.http.root_path, streams=True)
        around = Surroundings(log, metrics, listen=listen, mount=service.mount)
        stop = asyncio.Event()
        stop_on_signals(stop, log, float(config.shutdown_delay))
        async with plain_errors(), AsyncExitStack() as stack:
            service.exporter = await stack.enter_async_context(exporting(config, around))
            around = await stack.enter_async_context(replicated(config, leader, around))
            service.leadership = shown_leadership(around)
            running = Streams(
                config, around, prefix_mounts=self._prefix, stay=self._api or self._how.watch
            )
            service.pipelines = running.status
            if self._api:
                service.api = StreamsApi(
                    running, self._library.definitions(), found.sources, metrics, around.monotonic
                )
            await serve(stack, service, config, log, self._library.secrets)
            watching = asyncio.create_task(self._watch(running, found, config, log))
            stack.callback(watching.cancel)
            ended = await running.run(found.streams, stop)
        for name, one in ended.items():
            say_goodbye(log.bind(stream=name), one)
        return 0

    async def _watch(self, running: Streams, found: Found, shared: Config, log: Log) -> None:
        """Take up changes of files, if that is wanted."""
        if not self._how.watch:
            return
        files = stream_files(self._paths)
        known = {name: fingerprint([path]) for name, path in files.items()}
        common = fingerprint(self._common())
        async for names in changes(self._files):
            log.info("files changed", files=", ".join(sorted(names)))
            if (now := fingerprint(self._common())) != common:
                if not await self._take_up_shared(running, shared, log):
                    continue
                common = now
                known = dict.fromkeys(known, ())  # every stream starts anew, with what changed
            known = await self._take_up_streams(running, found, known, log)

    def _common(self) -> list[Path]:
        own = [] if self._source is None else [self._source]
        try:
            return [*own, *expand(self._how.resources), *expand(self._how.templates)]
        except ConfigError:  # a file is away for a moment, as when it is being replaced
            return own

    def _files(self) -> list[Path]:
        try:
            return [*self._common(), *stream_files(self._paths).values()]
        except ConfigError:
            return self._common()

    async def _take_up_shared(self, running: Streams, before: Config, log: Log) -> bool:
        try:
            reading = read_shared(self._how, self._source)
            shared = reading.or_raise()
            secrets = self._library.secrets
            secrets |= reading.secrets
            self._library = Library(self._how, shared, secrets)
            for node in resources_of(shared).values():
                await running.put_resource(node)
        except ConfigError as error:
            tell_problems(log, "the changed config is not valid, the old one goes on", error)
            return False
        if other := said_differently(before, shared):
            log.warning("changes take effect at the next start only", fields=", ".join(other))
        return True

    async def _take_up_streams(
        self, running: Streams, found: Found, known: dict[str, Print], log: Log
    ) -> dict[str, Print]:
        try:
            files = stream_files(self._paths)
        except ConfigError as error:
            tell_problems(log, "the files cannot be read, all goes on as before", error)
            return known
        for name in known.keys() - files.keys():
            if name in running.running:
                await running.stop(name)
                log.info("stream removed", stream=name)
            found.sources.pop(name, None)
        seen: dict[str, Print] = {}
        for name, path in files.items():
            seen[name] = fingerprint([path])
            if known.get(name) != seen[name]:
                await self._take_up(running, found, name, path, log)
        return seen

    async def _take_up(
        self, running: Streams, found: Found, name: str, path: Path, log: Log
    ) -> None:
        try:
            made = self._library.streams({name: path})
            if name in running.running:
                await running.replace(name, made.streams[name])
            else:
                await running.start(name, made.streams[name])
        except (ConfigError, InvalidConfig) as error:
            tell_problems(log.bind(stream=name), "the changed stream cannot be started", error)
            return
        found.sources[name] = made.sources[name]
        log.info("stream changed, started with the new config", stream=name)


def _prints(streams: Iterable[Stream]) -> bool:
    return any(one.output is not None and one.output.name == "stdout" for one in streams)

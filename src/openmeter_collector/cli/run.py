"""`run`: one pipeline from one config file."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import click
import uvloop

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.component.env import ListenOptions
from openmeter_collector.config import Config, load
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.run import Control, Ended, Pipeline
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions

_LOOKED_FOR = ("/benthos.yaml", "/etc/benthos/config.yaml", "/etc/benthos.yaml")


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("-c", "--config", "config_file", type=click.Path(path_type=Path), help="Config file.")
@click.option("--preset", help="Run a config that comes with the collector, such as http-server.")
@click.option("--log.level", "log_level", help="off, error, warn, info, debug or trace.")
def run(
    file: Path | None, config_file: Path | None, preset: str | None, log_level: str | None
) -> int:
    """Run a pipeline until its input ends or it is told to stop.

    SIGTERM or Ctrl-C stops in order: nothing more is taken, what is buffered is delivered for as
    long as shutdown_timeout, the rest stays on disk. A second signal ends it at once; what was
    acknowledged is safe then, too.
    """
    config = load(_which(file, config_file, preset), standard_registry())
    return uvloop.run(_run(config, log_level))


def _which(file: Path | None, config_file: Path | None, preset: str | None) -> Path:
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


async def _run(config: Config, log_level: str | None) -> int:
    log = _log(config, log_level)
    metrics = MetricStore()
    service = Service(metrics, root_path=config.http.root_path, process_metrics=_process_metrics)
    pipeline = Pipeline(config, Surroundings(log, metrics, listen=listen, mount=service.mount))
    service.pipelines = {"": pipeline.status}
    control = Control()
    _stop_on_signals(control, log)
    async with AsyncExitStack() as stack:
        if config.http.enabled:
            options = ListenOptions(config.http.address)
            bound = await stack.enter_async_context(listen(service, options))
            log.info("serving probes and metrics", address=bound.address)
        ended = await pipeline.run(control)
    _say_goodbye(log, ended)
    return 0


def _process_metrics() -> bytes:
    """Memory, processor time and open files of this process, under their usual names."""
    # Imported at the first scrape: it is not needed to take events.
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest  # noqa: PLC0415

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def _stop_on_signals(control: Control, log: Log) -> None:
    def stop(name: str) -> None:
        if control.stop.is_set():
            # Everything acknowledged is on disk already: ending at once loses nothing.
            log.warning("stopped at once by a second signal", signal=name)
            sys.stderr.flush()
            os._exit(1)
        control.stop.set()
        log.info("stopping", signal=name)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number.name)


def _say_goodbye(log: Log, ended: Ended) -> None:
    left: dict[str, Any] = {"delivered": ended.delivered}
    if ended.dead_letters:
        left["dead_letters"] = ended.dead_letters
    if ended.left_events:
        log.warning(
            "stopped with undelivered events; they are kept and sent at the next start",
            events=ended.left_events,
            bytes=ended.left_bytes,
            **left,
        )
    else:
        log.info("stopped, nothing is left to deliver", **left)


def _log(config: Config, level: str | None) -> Log:
    logger = config.logger
    options = LogOptions(
        level=level or logger.level,
        format=logger.format,
        add_timestamp=logger.add_timestamp,
        level_name=logger.level_name,
        timestamp_name=logger.timestamp_name,
        message_name=logger.message_name,
        static_fields=logger.static_fields,
    )
    # Logs go to standard output, unless events do.
    to_stdout = config.output is None or config.output.name != "stdout"
    stream = sys.stdout if to_stdout else sys.stderr
    write: Callable[[str], object] = stream.write

    def write_line(line: str) -> None:
        # Whoever read the log may be gone, or its disk may be full. That must not cost events: a
        # line raising here would end a loop that delivers, or a stop that has begun.
        with suppress(OSError):
            write(line)
            stream.flush()

    return Log(options, write_line)

"""What a process that runs pipelines does around them: logging, signals, its own HTTP service."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson

from openmeter_collector.admin.live_page import LivePage
from openmeter_collector.admin.snapshot import Gatherer
from openmeter_collector.component.env import ListenOptions
from openmeter_collector.config import Config, Problem
from openmeter_collector.config.load import plain_values
from openmeter_collector.config.render import render
from openmeter_collector.engine.run import Ended
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.guards import guarded, tls_of
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.telemetry.log_file import LogFile
from openmeter_collector.telemetry.logs import Log, LogOptions

_PAGE: Final = (
    "The live page: the pipeline at work, the books, dead letters, a playground for mappings."
)


def log_of(config: Config, level: str | None, *, to_stdout: bool = True) -> Log:
    """The log that a config asks for."""
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
    write = _writer(config, to_stdout=to_stdout)

    def write_line(line: str) -> None:
        # Whoever read the log may be gone, or its disk may be full. That must not cost events: a
        # line raising here would end a loop that delivers, or a stop that has begun.
        with suppress(OSError):
            write(line)

    return Log(options, write_line)


def collect_garbage_seldom() -> None:
    """For a process that moves events, which are freed by counting and make no cycles.

    By default the collector of cycles looks at every seven hundred new objects and finds nothing;
    that is a fifth of the processor time of batches. What was made up to now stays for good.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _writer(config: Config, *, to_stdout: bool) -> Callable[[str], object]:
    file = config.logger.file
    if file.path:
        try:
            opened = LogFile(
                Path(file.path), rotate=file.rotate, max_age_days=file.rotate_max_age_days
            )
        except OSError as error:
            raise ConfigError(
                f"logger.file.path: {file.path}: {(error.strerror or str(error)).lower()}; "
                "name a file that can be written"
            ) from None
        return opened.write
    stream = sys.stdout if to_stdout else sys.stderr

    def write(line: str) -> None:
        stream.write(line)
        stream.flush()

    return write


def tell_warnings(log: Log, problems: Iterable[Problem]) -> None:
    """What reading a config found that does not stop it from running."""
    for problem in problems:
        if problem.severity == "warning":
            log.warning(problem.friendly())


def tell_problems(log: Log, text: str, error: ConfigError) -> None:
    """Each fault of a config that was not taken up."""
    for problem in error.problems:
        log.error(text, error=problem)


def stop_on_signals(stop: asyncio.Event, log: Log, delay: float = 0.0) -> None:
    """The first signal sets `stop`; the one after that ends the process at once.

    Args:
        delay: seconds between the first signal and stopping; a second signal cuts them short.
    """
    waiting: list[asyncio.TimerHandle] = []

    def stopping(name: str) -> None:
        if delay and not waiting:
            waiting.append(loop.call_later(delay, stop.set))
            log.info("stopping after shutdown_delay", signal=name, seconds=delay)
            return
        if stop.is_set():
            # Everything acknowledged is on disk already: ending at once loses nothing.
            log.warning("stopped at once by a second signal", signal=name)
            sys.stderr.flush()
            os._exit(1)
        stop.set()
        log.info("stopping", signal=name)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping, number.name)


async def serve(
    stack: AsyncExitStack,
    service: Service,
    config: Config,
    log: Log,
    secrets: Collection[str] = (),
) -> None:
    """Probes and metrics, for as long as `stack` is open; nothing if the config switches it off.

    Args:
        secrets: values that pages and the debug endpoints must not show; more may be added.

    Raises:
        ConfigError: the service cannot be opened as it is configured.
    """
    http = config.http
    if not http.enabled:
        return
    if http.debug_endpoints:
        written = render(config, secrets)
        service.config = written, orjson.dumps(plain_values(written))
    page = LivePage(
        Gatherer(lambda: service.pipelines, service.metrics, service.leads),
        lambda: service.pipelines,
        service.mounted,
        locked=http.basic_auth.enabled or any(http.tokens),
        secrets=secrets,
    )
    await stack.enter_async_context(page.running())
    await stack.enter_async_context(service.mount(["/ui"], page, _PAGE))
    await stack.enter_async_context(service.mount(["/ui/"], page, "What the page at /ui asks for."))
    options = ListenOptions(http.address, tls=tls_of(http))
    bound = await stack.enter_async_context(listen(guarded(service, http), options))
    log.info("serving probes and metrics", address=bound.address)


def said_differently(before: Config, now: Config) -> list[str]:
    """Fields that are read at the start only and differ."""

    def said(config: Config, name: str) -> str:
        mapping = config.metrics_mapping if name == "metrics" else None
        kept: dict[str, Any] = {name: getattr(config, name), "metrics_mapping": mapping}
        return render(replace(Config(), **kept), scrub=False)

    names = ("http", "logger", "metrics", "tracer", "leader_election", "state")
    return [name for name in names if said(before, name) != said(now, name)]


def say_goodbye(log: Log, ended: Ended) -> None:
    """What became of the events of a pipeline."""
    left: dict[str, Any] = {"delivered": ended.delivered}
    if ended.dead_letters:
        left["dead_letters"] = ended.dead_letters
    if ended.left_events and ended.kept:
        log.warning(
            "stopped with undelivered events; they are kept and sent at the next start",
            events=ended.left_events,
            bytes=ended.left_bytes,
            **left,
        )
    elif ended.left_events:
        log.warning(
            "stopped with undelivered events that were in memory only",
            events=ended.left_events,
            bytes=ended.left_bytes,
            **left,
        )
    else:
        log.info("stopped, nothing is left to deliver", **left)

"""What a process that runs pipelines does around them: logging, signals, its own HTTP service."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any

from openmeter_collector.component.env import ListenOptions
from openmeter_collector.config import Config, Problem
from openmeter_collector.engine.run import Ended
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.telemetry.logs import Log, LogOptions


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
    stream = sys.stdout if to_stdout else sys.stderr
    write: Callable[[str], object] = stream.write

    def write_line(line: str) -> None:
        # Whoever read the log may be gone, or its disk may be full. That must not cost events: a
        # line raising here would end a loop that delivers, or a stop that has begun.
        with suppress(OSError):
            write(line)
            stream.flush()

    return Log(options, write_line)


def collect_garbage_seldom() -> None:
    """For a process that moves events, which are freed by counting and make no cycles.

    By default the collector of cycles looks at every seven hundred new objects and finds nothing;
    that is a fifth of the processor time of batches. What was made up to now stays for good.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def tell_warnings(log: Log, problems: Iterable[Problem]) -> None:
    """What reading a config found that does not stop it from running."""
    for problem in problems:
        if problem.severity == "warning":
            log.warning(problem.friendly())


def stop_on_signals(stop: asyncio.Event, log: Log) -> None:
    """The first signal sets `stop`; the second ends the process at once."""

    def stopping(name: str) -> None:
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


async def serve(stack: AsyncExitStack, service: Service, config: Config, log: Log) -> None:
    """Probes and metrics, for as long as `stack` is open; nothing if the config switches it off."""
    if config.http.enabled:
        options = ListenOptions(config.http.address)
        bound = await stack.enter_async_context(listen(service, options))
        log.info("serving probes and metrics", address=bound.address)


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

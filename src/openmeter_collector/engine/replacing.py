"""One pipeline after another in the same place, as its config changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from openmeter_collector.config.model import Config
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.run import Control, Ended, Pipeline
from openmeter_collector.engine.status import PipelineStatus
from openmeter_collector.errors import ConfigError, StorageError


async def run_replaceable(
    config: Config,
    surroundings: Surroundings,
    stop: asyncio.Event,
    changes: asyncio.Queue[Config],
    show: Callable[[PipelineStatus], None],
) -> Ended:
    """Run a pipeline until its input ends or `stop` is set; another takes its place for each change.

    The old one stops in order before the new one starts, since both may need the same port and the
    same buffer. One that cannot be opened gives its place back to the one before.

    Args:
        show: told the status of each pipeline before it starts.

    Raises:
        ConfigError: the first config cannot be opened.
        StorageError: its buffer cannot be opened.
    """
    log = surroundings.log
    before: Config | None = None
    while True:
        pipeline = Pipeline(config, surroundings)
        show(pipeline.status)
        control = Control()
        running = asyncio.create_task(pipeline.run(control), name="pipeline")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        changing = asyncio.create_task(changes.get(), name="change")
        try:
            await asyncio.wait({running, stopping, changing}, return_when=asyncio.FIRST_COMPLETED)
            if changing.done() and not stopping.done() and not running.done():
                control.stop.set()
                ended = await running
                if stop.is_set():
                    return ended
                before, config = config, changing.result()
                log.info("config changed, starting with the new one")
                continue
            if stopping.done():
                control.stop.set()
            failure = await _outcome(running)
            if failure is None:
                return running.result()
            if before is None or pipeline.status.input.connected:
                raise failure
            log.error(
                "the changed config cannot be started, the one before goes on", error=str(failure)
            )
            config, before = before, None
        finally:
            await _end(control, running, stopping, changing)


async def _outcome(running: asyncio.Task[Ended]) -> ConfigError | StorageError | None:
    """Why a pipeline could not be opened; other failures are raised."""
    try:
        await running
    except (ConfigError, StorageError) as error:
        return error
    return None


async def _end(
    control: Control, running: asyncio.Task[Ended], *waiting: asyncio.Task[object]
) -> None:
    for task in waiting:
        task.cancel()
    if not running.done():  # we are cancelled: the pipeline stops in order all the same
        control.stop.set()
        await asyncio.wait({running})

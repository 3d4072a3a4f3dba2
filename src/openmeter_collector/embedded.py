"""The collector inside a Python program.

    async with Collector("collector.yaml") as collector:
        await collector.push({"specversion": "1.0", "id": "1", ...})

The pipeline of the config runs in the program's own event loop: same components, same journal, same
promises. What is pushed goes the way of what an input receives; an input in the config runs as well.
Nothing of it is global, so several collectors may run side by side, each with a journal of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from openmeter_collector.component.buffer import BufferStatus
from openmeter_collector.component.env import Env, ListenOptions
from openmeter_collector.component.input import Input, Intake
from openmeter_collector.component.node import Node
from openmeter_collector.components.index import INDEX
from openmeter_collector.config import Config, load
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.exporting import exporting
from openmeter_collector.engine.run import Control, Ended, Pipeline, plain_errors
from openmeter_collector.engine.status import PipelineStatus
from openmeter_collector.errors import BatchFailed, Overloaded
from openmeter_collector.message import Delivery, Message
from openmeter_collector.server.guards import guarded, tls_of
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.spec.registry import Registry, entry_points
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.values import json

Event = Message | bytes | str | Mapping[str, Any]
"""What can be pushed: a message, the bytes or the text of an event, or its fields."""


class Collector:
    """A pipeline that runs for as long as the block around it.

    Leaving the block stops in order: what was pushed is settled, what is buffered is delivered for as
    long as `shutdown_timeout`, the rest stays in the journal for the next time.
    """

    def __init__(
        self,
        config: str | Path,
        *,
        env: Mapping[str, str] | None = None,
        registry: Registry | None = None,
        log: Callable[[str], object] | None = None,
    ) -> None:
        """Take a config; it is read when the block is entered.

        Args:
            config: a file, or with line breaks in it the text of one. `input` may be left out; `http`
                is served only if it says `enabled: true`.
            env: what `${VARIABLES}` stand for; the process's own environment by default.
            registry: the components there are, such as
                `Collector.components().with_(MyInput)`.
            log: told each line of the log; standard error by default.
        """
        self._source = config if isinstance(config, Path) or "\n" in config else Path(config)
        self._env = os.environ if env is None else env
        self._registry = registry or self.components()
        self._write = log or _to_stderr
        self._stack = AsyncExitStack()
        self._control = Control()
        self._pushed = _Pushed(None)
        self._task: asyncio.Task[Ended] | None = None
        self._status: PipelineStatus | None = None
        self.metrics = MetricStore()
        self.ended: Ended | None = None
        """What was left behind, once the block is left."""

    @staticmethod
    def components() -> Registry:
        """All that come with the collector, and those of installed plug-ins."""
        return Registry.from_index(INDEX, more=entry_points)

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            ConfigError: the config cannot be run; the text says where and why.
            StorageError: the journal cannot be opened.
        """
        config = load(self._source, self._registry, env=self._env)
        assert config.input is not None
        own = config.input if config.input.where else None
        self._pushed = _Pushed(own)
        node = Node("input", "push", self._pushed, "root.input")
        log = Log(_log_options(config), self._write)
        service = Service(self.metrics, root_path=config.http.root_path)
        around = Surroundings(log, self.metrics, listen=listen, mount=service.mount)
        try:
            service.exporter = await self._stack.enter_async_context(exporting(config, around))
            await self._serve(service, config)
            pipeline = Pipeline(replace(config, input=node), around)
            self._status = pipeline.status
            service.pipelines = {"": pipeline.status}
            self._task = asyncio.create_task(pipeline.run(self._control), name="collector")
            taking = asyncio.ensure_future(self._pushed.taking.wait())
            await asyncio.wait({self._task, taking}, return_when=asyncio.FIRST_COMPLETED)
            taking.cancel()
            if self._task.done():
                self._task.result()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._control.stop.set()
        try:
            if self._task is not None:
                async with plain_errors():
                    self.ended = await self._task
        finally:
            await self._stack.aclose()

    async def push(self, *events: Event) -> None:
        """Hand over events, and return when all of them are safe: in the journal with an fsync behind
        them, or, with a buffer that keeps nothing, delivered.

        Waits while there is no room. What is pushed in one call is stored together.

        Raises:
            Rejected: an event can never be taken; `BatchFailed` when only some are.
            CollectorError: it failed this time; pushing the same again is right.
            RuntimeError: the collector does not run.
        """
        if not events:
            return
        intake = self._intake()
        told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def settle(failure: Exception | None) -> None:
            if not told.done():
                told.set_result(failure)

        messages = [_message(event) for event in events]
        putting = asyncio.ensure_future(intake.put(Delivery(messages, settle)))
        await self._or_ended(putting)
        await self._or_ended(told)
        failure = told.result()
        if isinstance(failure, BatchFailed) and len(messages) == 1:
            failure = failure.errors.get(0, failure)
        if failure is not None:
            raise failure

    def offer(self, events: Sequence[Event]) -> asyncio.Future[Exception | None]:
        """Hand over events without waiting; the future is told None when they are safe, or what failed.

        Raises:
            Overloaded: there is no room; they were not taken.
            RuntimeError: the collector does not run.
        """
        told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def settle(failure: Exception | None) -> None:
            if not told.done():
                told.set_result(failure)

        self._intake().offer(Delivery([_message(event) for event in events], settle))
        return told

    async def flush(self) -> None:
        """Return when nothing waits for delivery any more.

        Raises:
            CollectorError: the collector has ended.
        """
        while self.backlog.events:
            await self._or_ended(asyncio.ensure_future(asyncio.sleep(0.01)))

    @property
    def backlog(self) -> BufferStatus:
        """What waits for delivery."""
        assert self._status is not None, "the collector does not run"
        assert self._status.buffer is not None
        return self._status.buffer()

    @property
    def status(self) -> PipelineStatus:
        """What the pipeline says of itself."""
        assert self._status is not None, "the collector does not run"
        return self._status

    def _intake(self) -> Intake:
        if self._pushed.intake is None or self._control.stop.is_set():
            raise RuntimeError("the collector does not run; push inside of its `async with` block")
        return self._pushed.intake

    async def _or_ended(self, waiting: asyncio.Future[Any]) -> None:
        """Wait, but not for a pipeline that has ended."""
        assert self._task is not None
        await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
            return
        waiting.cancel()
        self._task.result()
        raise Overloaded("the collector has ended before this was safe")

    async def _serve(self, service: Service, config: Config) -> None:
        if not config.http.enabled or config.http == type(config.http)():
            return  # a library opens no port that nobody asked for
        http = config.http
        options = ListenOptions(http.address, tls=tls_of(http))
        await self._stack.enter_async_context(listen(guarded(service, http), options))


@dataclass(slots=True)
class _Pushed:
    """The input of an embedded pipeline: what is pushed, and what the config's own input receives."""

    own: Node | None
    intake: Intake | None = None
    taking: asyncio.Event = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.taking = asyncio.Event()

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        yield _PushedInput(self, env)


class _PushedInput:
    def __init__(self, pushed: _Pushed, env: Env) -> None:
        self._pushed = pushed
        self._env = env

    async def run(self, intake: Intake) -> None:
        self._pushed.intake = intake
        self._pushed.taking.set()
        try:
            if self._pushed.own is not None:
                async with self._env.input(self._pushed.own) as child:
                    await child.run(intake)
            await asyncio.Event().wait()  # what is pushed ends with the block
        finally:
            self._pushed.intake = None


def _message(event: Event) -> Message:
    if isinstance(event, Message):
        return event
    if isinstance(event, bytes):
        return Message(event)
    if isinstance(event, str):
        return Message(event.encode())
    return Message(json.dumps(dict(event)))


def _log_options(config: Config) -> LogOptions:
    logger = config.logger
    return LogOptions(
        level=logger.level,
        format=logger.format,
        add_timestamp=logger.add_timestamp,
        level_name=logger.level_name,
        timestamp_name=logger.timestamp_name,
        message_name=logger.message_name,
        static_fields=logger.static_fields,
    )


def _to_stderr(line: str) -> None:
    sys.stderr.write(line)


__all__ = ["Collector", "Event"]

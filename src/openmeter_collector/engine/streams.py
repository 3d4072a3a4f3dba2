"""Several pipelines in one process: what they share, how they come and go, in which order they stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace

from openmeter_collector.component.env import AsgiApp
from openmeter_collector.component.node import Node
from openmeter_collector.config.model import Config, Stream
from openmeter_collector.config.walk import values_below
from openmeter_collector.engine.environment import (
    Resources,
    Surroundings,
    open_resource,
    open_resources,
)
from openmeter_collector.engine.run import Control, Ended, Pipeline, plain_errors
from openmeter_collector.engine.status import PipelineStatus
from openmeter_collector.errors import ConfigError

_CONNECTS_WITHIN = 2.0
"""Seconds for which starting a stream waits to see whether it can be opened."""


@dataclass(slots=True)
class Running:
    """A stream that was started, and may have ended."""

    stream: Stream
    pipeline: Pipeline
    control: Control
    task: asyncio.Task[Ended]
    began: float
    first: bool
    """It was there from the start: what is wrong with it ends all."""
    error: str = ""

    @property
    def active(self) -> bool:
        """It has not ended."""
        return not self.task.done()


@dataclass(slots=True)
class _Told:
    """What the loop that watches over streams waits for."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False


class Streams:
    """Pipelines that share resources, metrics and the names at which `inproc` meets."""

    def __init__(
        self,
        shared: Config,
        surroundings: Surroundings,
        *,
        prefix_mounts: bool = True,
        stay: bool = False,
    ) -> None:
        """Take what all share.

        Args:
            prefix_mounts: what a stream mounts on the common service stands below its name.
            stay: go on when all streams have ended, because others may come.
        """
        if shared.error_handling.strict:
            surroundings = replace(surroundings, strict=True)
        self._shared = shared
        self._surroundings = surroundings
        self._prefix = prefix_mounts
        self._stay = stay
        self._resources = Resources()
        self._own: dict[tuple[str, str], AsyncExitStack] = {}
        self._told = _Told()
        self._changing = asyncio.Lock()
        self.running: dict[str, Running] = {}
        self.status: dict[str, PipelineStatus] = {}
        """Of those that have not ended."""

    async def run(self, streams: Mapping[str, Stream], stop: asyncio.Event) -> dict[str, Ended]:
        """Run all until they have ended, or until told to stop.

        A stream that takes from others (`inproc`) stops after them, so that what they still have can
        be handed over.

        Raises:
            ConfigError: a stream cannot be opened as it is configured; the others are stopped.
        """
        async with plain_errors(), AsyncExitStack() as stack:
            self._resources = await open_resources(self._shared, self._surroundings, stack)
            stack.push_async_callback(self._close_own)
            for name, stream in streams.items():
                self._start(name, stream, first=True)
            stopping = asyncio.create_task(stop.wait(), name="stop-streams")
            try:
                await self._watch(stopping)
            finally:
                self._told.stopping = True
                stopping.cancel()
                await self._stop([name for name, one in self.running.items() if one.active])
            return {
                name: one.task.result()
                for name, one in self.running.items()
                if one.task.done() and not one.task.cancelled() and one.task.exception() is None
            }

    async def _watch(self, stopping: asyncio.Task[object]) -> None:
        while not stopping.done():
            under_way = [one.task for one in self.running.values() if one.active]
            if not under_way and not self._stay:
                return
            self._told.changed.clear()
            changed = asyncio.create_task(self._told.changed.wait())
            await asyncio.wait([stopping, changed, *under_way], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            for name, one in self.running.items():
                if not one.active:
                    self._ended(name, one)

    def _ended(self, name: str, one: Running) -> None:
        """Take note that a stream has come to its end, or raise why it could not go on."""
        if self.status.get(name) is one.pipeline.status:
            del self.status[name]
        failure = None if one.task.cancelled() else one.task.exception()
        if failure is None or one.error:
            return
        if one.first or not isinstance(failure, Exception):
            raise failure
        one.error = str(failure)
        self._surroundings.log.error("stream ended", stream=name, error=one.error)

    # ---- coming and going ----------------------------------------------------------------------

    def _start(self, name: str, stream: Stream, *, first: bool = False) -> Running:
        pipeline = Pipeline(self._config(stream), self._around(name), self._resources)
        control = Control()
        task = asyncio.create_task(pipeline.run(control), name=f"stream-{name}")
        made = Running(stream, pipeline, control, task, self._surroundings.monotonic(), first)
        self.running[name] = made
        self.status[name] = pipeline.status
        self._told.changed.set()
        return made

    async def start(self, name: str, stream: Stream) -> None:
        """Add a stream to those that run; returns when it runs, or still tries to connect.

        Raises:
            ConfigError: there is one of that name, or it cannot be opened as it is configured.
        """
        async with self._changing:
            await self._add(name, stream)

    async def _add(self, name: str, stream: Stream) -> None:
        if name in self.running or self._told.stopping:
            raise ConfigError(f"stream {name!r} cannot be added: there is one of that name")
        made = self._start(name, stream)
        await self._until_known(made)
        if made.task.done() and not made.task.cancelled() and made.task.exception() is not None:
            failure = made.task.exception()
            made.error = str(failure)
            self._forget(name)
            raise ConfigError(f"stream {name!r} cannot be started: {failure}")

    async def _until_known(self, one: Running) -> None:
        status = one.pipeline.status
        try:
            async with asyncio.timeout(_CONNECTS_WITHIN):
                while one.active and not status.input.connected:
                    await asyncio.wait([one.task], timeout=0.01)
        except TimeoutError:
            return  # its source is away: that is no fault of the config

    async def stop(self, name: str, timeout: float | None = None) -> None:
        """Stop a stream in order, and forget it.

        Args:
            timeout: seconds after which it is ended at once; what it buffered on disk stays there.

        Raises:
            ConfigError: there is none of that name.
        """
        async with self._changing:
            await self._remove(name, timeout)

    async def _remove(self, name: str, timeout: float | None) -> None:
        one = self.running.get(name)
        if one is None:
            raise ConfigError(f"stream {name!r} is not there any more")
        one.first = False
        one.control.stop.set()
        await asyncio.wait([one.task], timeout=timeout)
        if one.active:
            one.task.cancel()
            await asyncio.wait([one.task])
        self._ended(name, one)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self.running.pop(name, None)
        self.status.pop(name, None)
        self._surroundings.metrics.forget(stream=name)
        self._told.changed.set()

    async def replace(self, name: str, stream: Stream, timeout: float | None = None) -> None:
        """Put another stream in the place of a running one; if it cannot be opened, the old one
        goes on.

        Raises:
            ConfigError: it cannot be opened as it is configured, or there is none of that name.
        """
        async with self._changing:
            old = self.running.get(name)
            await self._remove(name, timeout)
            try:
                await self._add(name, stream)
            except ConfigError:
                if old is not None:
                    await self._add(name, old.stream)
                raise

    async def put_resource(self, node: Node) -> None:
        """Add a resource or put another in its place; whatever opens from now on gets it.

        Raises:
            ConfigError: it cannot be opened as it is configured.
        """
        stack = AsyncExitStack()
        try:
            async with plain_errors():
                await open_resource(node, self._resources, self._surroundings, stack)
        except BaseException:
            await stack.aclose()
            raise
        old = self._own.get((node.kind, node.label))
        self._own[node.kind, node.label] = stack
        if old is not None:
            await old.aclose()

    async def _close_own(self) -> None:
        for stack in self._own.values():
            await stack.aclose()

    async def _stop(self, names: Sequence[str]) -> None:
        for wave in waves({name: self.running[name].stream for name in names}):
            tasks = []
            for name in wave:
                self.running[name].control.stop.set()
                tasks.append(self.running[name].task)
            await asyncio.wait(tasks)
        for name, one in list(self.running.items()):
            if not one.active:
                self._ended(name, one)

    # ---- what a stream gets --------------------------------------------------------------------

    def _config(self, stream: Stream) -> Config:
        return replace(
            self._shared,
            input=stream.input,
            buffer=stream.buffer,
            pipeline=stream.pipeline,
            output=stream.output,
        )

    def _around(self, name: str) -> Surroundings:
        around = self._surroundings

        def mount(paths: Sequence[str], app: AsgiApp) -> AbstractAsyncContextManager[None]:
            return around.mount(
                [f"/{name}{path}" for path in paths] if self._prefix else paths, app
            )

        return replace(
            around, log=around.log.bind(stream=name), labels={"stream": name}, mount=mount
        )


def waves(streams: Mapping[str, Stream]) -> list[list[str]]:
    """In which order streams stop: whoever gives to others before those."""
    takes = {name: _names(stream.input, "input") for name, stream in streams.items()}
    gives = {name: _names(stream.output, "output") for name, stream in streams.items()}
    left = list(streams)
    made = []
    while left:
        first = [
            name
            for name in left
            if not any(takes[name] & gives[other] for other in left if other != name)
        ]
        # Streams that give to each other in a circle have no order.
        wave = first or left
        made.append(wave)
        left = [name for name in left if name not in wave]
    return made


def _names(node: Node | None, kind: str) -> set[str]:
    return {
        one.config.name  # type: ignore[attr-defined]
        for one in nodes_below(node)
        if one.name == "inproc" and one.kind == kind
    }


def nodes_below(value: object) -> Iterator[Node]:
    """All components in a config, or in a part of one."""
    return values_below(value, Node)

"""Several pipelines in one process: what they share, and in which order they stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import fields, is_dataclass, replace

from openmeter_collector.component.env import AsgiApp
from openmeter_collector.component.node import Node
from openmeter_collector.config.model import Config, Stream
from openmeter_collector.engine.environment import Surroundings, open_resources
from openmeter_collector.engine.run import Control, Ended, Pipeline, plain_errors
from openmeter_collector.engine.status import PipelineStatus


class Streams:
    """Pipelines that share resources, metrics and the names at which `inproc` meets."""

    def __init__(
        self, shared: Config, surroundings: Surroundings, *, prefix_mounts: bool = True
    ) -> None:
        """`prefix_mounts`: what a stream mounts on the common service stands below its name."""
        self._shared = shared
        self._surroundings = surroundings
        self._prefix = prefix_mounts
        self.status: dict[str, PipelineStatus] = {}

    async def run(self, streams: Mapping[str, Stream], stop: asyncio.Event) -> dict[str, Ended]:
        """Run all until they have ended, or until told to stop.

        A stream that takes from others (`inproc`) stops after them, so that what they still have can
        be handed over.

        Raises:
            ConfigError: a stream cannot be opened as it is configured; the others are stopped.
        """
        async with plain_errors(), AsyncExitStack() as stack:
            resources = await open_resources(self._shared, self._surroundings, stack)
            made = {
                name: Pipeline(self._config(stream), self._around(name), resources)
                for name, stream in streams.items()
            }
            self.status |= {name: pipeline.status for name, pipeline in made.items()}
            controls = {name: Control() for name in made}
            async with asyncio.TaskGroup() as tasks:
                running = {
                    name: tasks.create_task(pipeline.run(controls[name]), name=f"stream-{name}")
                    for name, pipeline in made.items()
                }
                stopping = tasks.create_task(self._stop(streams, stop, controls, running))
                if running:
                    await asyncio.wait(running.values())
                else:
                    await stop.wait()
                stopping.cancel()
            return {name: task.result() for name, task in running.items()}

    async def _stop(
        self,
        streams: Mapping[str, Stream],
        stop: asyncio.Event,
        controls: Mapping[str, Control],
        running: Mapping[str, asyncio.Task[Ended]],
    ) -> None:
        await stop.wait()
        for wave in waves(streams):
            for name in wave:
                controls[name].stop.set()
            await asyncio.wait([running[name] for name in wave])

    def _config(self, stream: Stream) -> Config:
        shared = self._shared
        return replace(
            shared,
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
    if isinstance(value, Node):
        yield value
        yield from nodes_below(value.config)
        yield from nodes_below(value.processors)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from nodes_below(one)
    elif isinstance(value, dict):
        yield from nodes_below(list(value.values()))
    elif is_dataclass(value):
        for one in fields(value):
            yield from nodes_below(getattr(value, one.name, None))

"""One running pipeline: what is opened in which order, and how it ends.

Started from the end to the beginning (output, buffer, input), so that nothing is taken before it can
be kept; stopped from the beginning to the end, so that each part can hand on what it has:

    stop ──> input stops taking, its requests under way are answered
         ──> the buffer gives out what it holds, the output delivers, for `shutdown_timeout` at most
         ──> what is left stays in the buffer and is said
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from openmeter_collector.component.buffer import Buffer
from openmeter_collector.component.input import Intake
from openmeter_collector.component.node import Node
from openmeter_collector.config.model import Config, resources_of
from openmeter_collector.engine.child_input import LeftOut
from openmeter_collector.engine.child_output import policy_of
from openmeter_collector.engine.environment import (
    ComponentEnv,
    Resources,
    Surroundings,
    open_resources,
)
from openmeter_collector.engine.input_loop import BufferIntake
from openmeter_collector.engine.latency import Latency, TimedOutput
from openmeter_collector.engine.lives import ReopeningOutput, keep_input_running
from openmeter_collector.engine.output_loop import OutputLoop, OutputOptions
from openmeter_collector.engine.state import PipelineState
from openmeter_collector.engine.status import Connection, PipelineStatus
from openmeter_collector.engine.strict import Sieve
from openmeter_collector.engine.tracing import traced_chain, traced_intake, traced_output
from openmeter_collector.errors import CollectorError, ConfigError, StorageError


@dataclass(slots=True)
class Control:
    """How a pipeline is told to stop, and how it tells that it has begun."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Ended:
    """What a pipeline left behind."""

    delivered: int
    left_events: int
    left_bytes: int
    dead_letters: int
    timed_out: bool
    kept: bool = True
    """What is left is still there at the next start."""


class Pipeline:
    """A configuration, ready to run once. A value: several can run in one process."""

    def __init__(
        self, config: Config, surroundings: Surroundings, resources: Resources | None = None
    ) -> None:
        """Take a decoded config with `input`, `buffer` and `output` filled in.

        Args:
            resources: opened ones that pipelines share; without them the config's own are opened.
        """
        assert config.input is not None
        assert config.buffer is not None
        assert config.output is not None
        self._config = config
        self._input: Node = config.input
        self._buffer: Node = config.buffer
        self._output: Node = config.output
        self._state = PipelineState(surroundings.store, surroundings.sleep, surroundings.random)
        self._surroundings = replace(
            surroundings,
            state=self._state,
            strict=surroundings.strict or config.error_handling.strict,
        )
        self._resources = Resources() if resources is None else resources
        self._shared = resources is not None
        self.status = PipelineStatus(
            stages=(
                self._input,
                *self._input.processors,
                self._buffer,
                *config.pipeline.processors,
                self._output,
                *self._output.processors,
            ),
            resources=tuple(resources_of(config).values()),
            input=Connection(self._input.label, self._input.path),
            output=Connection(self._output.label, self._output.path),
        )

    async def run(self, control: Control) -> Ended:
        """Run until the input ends or `control.stop` is set.

        Raises:
            ConfigError: a component cannot be opened as it is configured.
            StorageError: the buffer cannot be opened.
        """
        async with plain_errors(), AsyncExitStack() as stack:
            if not self._shared:
                self._resources = await open_resources(self._config, self._surroundings, stack)
            buffer, loop = await self._open_delivery(stack)
            timed_out = await self._run(control, stack, buffer, loop)
        # Only now: closing the buffer is what writes the last dead letters and marks.
        left = buffer.status()
        return Ended(
            delivered=loop.state.delivered,
            left_events=left.events,
            left_bytes=left.size_bytes,
            dead_letters=left.dead_letters,
            timed_out=timed_out,
            kept=left.durable,
        )

    def _env(self, node: Node) -> ComponentEnv:
        return ComponentEnv(self._surroundings, self._resources, node)

    async def _open_delivery(self, stack: AsyncExitStack) -> tuple[Buffer, OutputLoop]:
        output_env = self._env(self._output)
        output = ReopeningOutput(output_env, self.status.output)
        stack.push_async_callback(output.close)
        await output.start()
        # After the buffer: what it settles at its very end has to be saved, too.
        stack.push_async_callback(self._state.close)
        buffer = await stack.enter_async_context(output_env.buffer(self._buffer))
        self._state.bind(buffer)
        chain = await stack.enter_async_context(
            output_env.processors([*self._config.pipeline.processors, *self._output.processors])
        )
        config = self._output.config
        batching = getattr(config, "batching", None)
        batch_chain = await stack.enter_async_context(
            output_env.processors(batching.processors if batching is not None else ())
        )
        options = OutputOptions(
            policy=policy_of(config, output_env.log),
            max_in_flight=max(1, int(getattr(config, "max_in_flight", 64))),
            repeat=self._buffer.name != "none",
            name=self._output.display(),
        )
        tracing = output_env.tracing
        chain = traced_chain(tracing, chain)
        sieved = Sieve(output) if output_env.strict else output
        writer = traced_output(tracing, self._output, TimedOutput(sieved, output_env.metrics))
        waits = None
        if self._buffer.name != "none":
            timer = self._env(self._buffer).metrics.timer(
                "buffer_latency_ns", "Time from giving out to settlement."
            )
            waits = Latency(timer)
        loop = OutputLoop(output_env, buffer, chain, writer, batch_chain, options, waits)
        self.status.buffer = buffer.status
        self.status.delivery = loop.state
        return buffer, loop

    async def _run(
        self, control: Control, stack: AsyncExitStack, buffer: Buffer, loop: OutputLoop
    ) -> bool:
        """Take and deliver until the end; says whether the time for delivering ran out."""
        input_env = self._env(self._input)
        chain = await stack.enter_async_context(input_env.processors(self._input.processors))
        async with asyncio.TaskGroup() as tasks:
            intake: Intake = BufferIntake(
                input_env, chain, buffer, tasks, self._state, self.status.taken
            )
            intake = traced_intake(input_env.tracing, self._input, intake)
            delivering = tasks.create_task(loop.run(), name="deliver")
            taking = tasks.create_task(self._take(input_env, intake), name="take")
            stopping = tasks.create_task(control.stop.wait(), name="stop")
            control.started.set()
            await asyncio.wait({delivering, taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self.status.stopping = True
            if not taking.done():
                taking.cancel()
                await asyncio.wait({taking})
            buffer.drain()
            loop.hurry()
            timed_out = await self._drain(delivering, stopping)
            stopping.cancel()
        return timed_out

    async def _take(self, env: ComponentEnv, intake: Intake) -> None:
        if reason := self._surroundings.leaves_out(self._input):
            self.status.input.connected = True  # nothing is wanted of it
            await LeftOut(env, reason).run(intake)
            return
        await keep_input_running(env, intake, self.status.input)

    async def _drain(self, delivering: asyncio.Task[None], stopping: asyncio.Task[object]) -> bool:
        """Deliver what is left: at leisure after the input's own end, in haste once told to stop."""
        await asyncio.wait({delivering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not delivering.done():
            await asyncio.wait({delivering}, timeout=float(self._config.shutdown_timeout))
        if delivering.done():
            return False
        delivering.cancel()
        await asyncio.wait({delivering})
        return True


@asynccontextmanager
async def plain_errors() -> AsyncIterator[None]:
    """Of errors that came in groups, raise the one that people understand, if there is one.

    Components and loops keep their tasks in groups, and what is raised through those is wrapped.
    """
    try:
        yield
    except BaseExceptionGroup as errors:
        for kind in (ConfigError, StorageError, CollectorError):
            matching = errors.subgroup(kind)
            if matching is not None:
                raise _leaf(matching) from errors
        raise


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

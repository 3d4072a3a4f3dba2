"""Components that lose their connection and get it back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import cast

from openmeter_collector.component.env import Env
from openmeter_collector.component.input import Hold, Input, Intake, Puller
from openmeter_collector.component.output import Output
from openmeter_collector.engine.election.leading import while_leading
from openmeter_collector.engine.input_loop import PullInput
from openmeter_collector.engine.retry import BackOff
from openmeter_collector.engine.status import Connection
from openmeter_collector.errors import ConfigError, Disconnected, Retryable
from openmeter_collector.message import Batch, Delivery

_RECONNECT = BackOff(initial=0.5, longest=30.0)


async def keep_input_running(env: Env, intake: Intake, connection: Connection) -> None:
    """Open the input and run it, again and again, until it ends by itself or is cancelled; only while
    this replica leads, if it is an input of that kind.

    Raises:
        ConfigError: it cannot be opened as it is configured.
    """
    if env.leadership is None:
        await _keep_running(env, intake, connection)
        return
    connection.connected, connection.error = True, ""  # standing by is all that is wanted of it
    await while_leading(env.leadership, lambda: _keep_running(env, intake, connection))


async def _keep_running(env: Env, intake: Intake, connection: Connection) -> None:
    attempt = 0
    metrics = env.metrics
    refused = metrics.counter("input_connection_failed", "Attempts to connect that failed.")
    lost = metrics.counter("input_connection_lost", "Connections lost.")
    while True:
        try:
            async with env.node.config.open(env) as opened:
                attempt = 0
                await _run(env, opened, intake, connection)
                return
        except* (Disconnected, Retryable) as group:
            error = _first(group)
            attempt += 1
            (lost if connection.connected else refused).add()
            connection.connected, connection.error = False, str(error)
            if attempt == 1:
                env.log.warning("input disconnected, connecting again", error=str(error))
        await env.sleep(_RECONNECT.delay(attempt, env.random()))


async def run_input_once(env: Env, intake: Intake, connection: Connection) -> None:
    """Open the input and run it; whatever it raises is for the caller."""
    async with env.node.config.open(env) as opened:
        await _run(env, opened, intake, connection)


async def run_input_held(hold: Hold, env: Env, intake: Intake, connection: Connection) -> None:
    """Open the input, run it with all that it reads held, and close it when it is let go.

    Raises:
        ConfigError: it is not one that can be held.
    """
    async with env.node.config.open(env) as opened:
        pulled = isinstance(opened, Puller)
        if not pulled and not getattr(type(env.node.config), "only_holds_others", False):
            raise ConfigError(
                f"{env.node.path}: what {env.node.name!r} reads cannot be held until it has ended; use "
                "one that reads a source to its end, such as file, csv, aws_s3, sql_select or stdin"
            )
        await _run(env, _Held(opened, hold) if pulled else opened, intake, connection)
        await hold.until_released()


async def run_input_within(hold: Hold, env: Env, intake: Intake, connection: Connection) -> None:
    """The same for a child of what is held, which stays open when this returns: others come after it."""
    life = hold.tasks.create_task(run_input_held(hold, env, intake, connection))
    ended = asyncio.ensure_future(hold.ended.wait())
    try:
        await asyncio.wait({life, ended}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        life.cancel()
        raise
    finally:
        ended.cancel()


class _Held:
    """See `component.input.Puller`."""

    def __init__(self, puller: Puller, hold: Hold) -> None:
        self._puller = puller
        self._hold = hold

    async def read(self) -> Delivery:
        return self._hold.keep(await self._puller.read())


async def _run(env: Env, opened: object, intake: Intake, connection: Connection) -> None:
    running = PullInput(env, opened) if isinstance(opened, Puller) else cast("Input", opened)
    connection.connected, connection.error = True, ""
    env.metrics.counter("input_connection_up", "Connections made.").add()
    await running.run(intake)


class ReopeningOutput:
    """An output that is opened again after it said `Disconnected`."""

    def __init__(self, env: Env, connection: Connection) -> None:
        self._env = env
        self._connection = connection
        self._stack = AsyncExitStack()
        self._output: Output | None = None
        self._opening = asyncio.Lock()
        metrics = env.metrics
        self._up = metrics.counter("output_connection_up", "Connections made.")
        self._refused = metrics.counter(
            "output_connection_failed", "Attempts to connect that failed."
        )
        self._lost = metrics.counter("output_connection_lost", "Connections lost.")

    async def start(self) -> None:
        """Open for the first time; a peer that is away is tried again at the first write.

        Raises:
            ConfigError: it cannot be opened as it is configured.
        """
        try:
            await self._open()
        except Retryable as error:
            self._env.log.warning("output not connected yet", error=str(error))

    async def write(self, batch: Batch) -> None:
        output = self._output or await self._open()
        try:
            await output.write(batch)
        except Disconnected as error:
            if self._output is output:
                self._output = None
                self._lost.add()
                self._connection.connected, self._connection.error = False, str(error)
                await self._stack.aclose()
            raise

    async def _open(self) -> Output:
        async with self._opening:
            if self._output is None:
                self._stack = AsyncExitStack()
                try:
                    self._output = await self._stack.enter_async_context(
                        self._env.node.config.open(self._env)
                    )
                except (Disconnected, Retryable) as error:
                    self._connection.error = str(error)
                    self._refused.add()
                    raise Retryable(str(error)) from error
                self._connection.connected, self._connection.error = True, ""
                self._up.add()
            assert self._output is not None
            return self._output

    async def close(self) -> None:
        """End the last life."""
        await self._stack.aclose()


class ChildLife(ReopeningOutput):
    """An output inside another one, which must not take its parent along when it goes away."""

    def __init__(self, env: Env) -> None:
        super().__init__(env, Connection(env.node.label, env.node.path))

    async def write(self, batch: Batch) -> None:
        try:
            await super().write(batch)
        except Disconnected as error:
            raise Retryable(str(error)) from error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

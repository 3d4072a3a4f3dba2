"""Inputs that come and go while the collector runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    CollectorError,
    ConfigError,
    Env,
    Example,
    Input,
    InputNode,
    Intake,
    Node,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.dynamic_api import DynamicApi, paths

ONE = Example(
    "One input from the start, more by request",
    """
    input:
      dynamic:
        inputs:
          heartbeat:
            generate:
              interval: 1m
              mapping: root.alive = now()
    """,
)


@input("dynamic", categories=("Utility",), examples=[ONE])
class DynamicInput:
    """Joins inputs that can be added, changed and removed over HTTP while the collector runs.

    On the collector's own HTTP service, below `prefix`:

    - `GET /inputs`: all inputs, with `uptime` (`stopped` for one that has ended) and `config`.
    - `GET /inputs/{label}`: the config of one, secrets hidden.
    - `POST /inputs/{label}`: adds or replaces one; the body is its config in YAML or JSON. A config
      with faults is answered 400 with all of them, and changes nothing.
    - `DELETE /inputs/{label}`: stops and removes one.
    - `GET /inputs/{label}/uptime`: how long it has been running.

    Everybody who reaches that service can do this: protect it (`http.basic_auth`, or an address of the
    machine's own). Configs that come this way cannot touch files or start programs, and are gone with
    the end of the process.
    """

    inputs: dict[str, InputNode] = field(
        default_factory=dict, doc="Inputs that are there from the start, by label."
    )
    prefix: str = field(default="", doc="What the paths begin with.", examples=["/collector"])

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Mounts the endpoints."""
        joined = _Joined(self, env)
        async with env.mount(paths(self.prefix, "input"), joined.api):
            yield joined


class _Joined:
    def __init__(self, config: DynamicInput, env: Env) -> None:
        self._static = config.inputs
        self._env = env
        self.api = DynamicApi(env, "input", self._start, self._stop)
        self._intake: Intake | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self, intake: Intake) -> None:
        self._intake = intake
        async with asyncio.TaskGroup() as group:
            self._group = group
            for label, node in self._static.items():
                self._tasks[label] = group.create_task(self._run(label, node))
                self.api.add(label, node)
            await asyncio.Event().wait()

    async def _start(self, label: str, node: Node) -> None:
        if self._group is None:
            raise ConfigError("the input is not running yet; try again")
        self._tasks[label] = self._group.create_task(self._run_added(label, node))

    async def _stop(self, label: str) -> None:
        task = self._tasks.pop(label, None)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self, label: str, node: Node) -> None:
        assert self._intake is not None
        async with self._env.input(node) as child:
            await child.run(self._intake)
        self._ended(label, "")

    async def _run_added(self, label: str, node: Node) -> None:
        text = ""
        try:
            await self._run(label, node)
        except* CollectorError as errors:
            # Only what the config at the start says may stop the collector.
            text = str(errors.exceptions[0])
        if text:
            self._env.log.error("an input that was added cannot run", name=label, error=text)
            self._ended(label, text)

    def _ended(self, label: str, error: str) -> None:
        child = self.api.children.get(label)
        if child is not None:
            child.since, child.error = None, error

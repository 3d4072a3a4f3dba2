"""The engine's `Env`: what each component of a running pipeline is lent."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from openmeter_collector.component.buffer import Buffer
from openmeter_collector.component.cache import Cache
from openmeter_collector.component.env import AsgiApp, Chain, HttpClient, Listener, ListenOptions
from openmeter_collector.component.input import Input, Puller
from openmeter_collector.component.node import Node
from openmeter_collector.component.output import Output
from openmeter_collector.component.rate_limit import RateLimit
from openmeter_collector.engine.chain import ProcessorChain, Step
from openmeter_collector.engine.child_output import ChildOutput
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.engine.input_loop import PullInput
from openmeter_collector.telemetry.counters import Metrics, MetricStore
from openmeter_collector.telemetry.logs import Log

Listen = Callable[[AsgiApp, ListenOptions], AbstractAsyncContextManager[Listener]]
Mount = Callable[[Sequence[str], AsgiApp], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a whole pipeline is lent by whoever runs it."""

    log: Log
    metrics: MetricStore
    listen: Listen
    mount: Mount
    data_dir: Path = field(default_factory=Path.cwd)
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels on every metric of this pipeline; `stream` in streams mode."""
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], AbstractAsyncContextManager[None] | object] = asyncio.sleep
    random: Callable[[], float] = random.random


class Resources:
    """Opened resources, by kind and label."""

    def __init__(self) -> None:
        self.caches: dict[str, Cache] = {}
        self.rate_limits: dict[str, RateLimit] = {}


class ComponentEnv:
    """See `component.env.Env`."""

    def __init__(self, surroundings: Surroundings, resources: Resources, node: Node) -> None:
        self._surroundings = surroundings
        self._resources = resources
        self._node = node
        labels = {"label": node.label, "path": node.path} | dict(surroundings.labels)
        self._metrics = surroundings.metrics.scope(**labels)
        self._log = surroundings.log.bind(label=node.label, path=node.path)

    @property
    def node(self) -> Node:
        return self._node

    @property
    def log(self) -> Log:
        return self._log

    @property
    def metrics(self) -> Metrics:
        return self._metrics

    @property
    def data_dir(self) -> Path:
        return self._surroundings.data_dir

    def now(self) -> float:
        return self._surroundings.now()

    def monotonic(self) -> float:
        return self._surroundings.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._surroundings.sleep(seconds)  # type: ignore[misc]

    def random(self) -> float:
        return self._surroundings.random()

    def http(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        max_connections: int = 64,
        max_response_bytes: int = 1 << 20,
        proxy: str | None = None,
    ) -> AbstractAsyncContextManager[HttpClient]:
        return open_http_client(
            tls=tls,
            max_connections=max_connections,
            max_response_bytes=max_response_bytes,
            proxy=proxy,
        )

    def listen(self, app: AsgiApp, options: ListenOptions) -> AbstractAsyncContextManager[Listener]:
        return self._surroundings.listen(app, options)

    def mount(self, paths: Sequence[str], app: AsgiApp) -> AbstractAsyncContextManager[None]:
        return self._surroundings.mount(paths, app)

    def cache(self, label: str) -> Cache:
        return self._resources.caches[label]

    def rate_limit(self, label: str) -> RateLimit:
        return self._resources.rate_limits[label]

    # ---- children --------------------------------------------------------------------------

    def at(self, node: Node) -> ComponentEnv:
        """The surroundings of another component of the same pipeline."""
        return ComponentEnv(self._surroundings, self._resources, node)

    @asynccontextmanager
    async def input(self, node: Node) -> AsyncIterator[Input]:
        env = self.at(node)
        async with node.config.open(env) as opened:
            yield PullInput(env, opened) if isinstance(opened, Puller) else opened

    @asynccontextmanager
    async def output(self, node: Node) -> AsyncIterator[Output]:
        env = self.at(node)
        async with (
            env.processors(node.processors) as chain,
            node.config.open(env) as opened,
            ChildOutput.running(env, chain, opened) as child,
        ):
            yield child

    @asynccontextmanager
    async def buffer(self, node: Node) -> AsyncIterator[Buffer]:
        async with node.config.open(self.at(node)) as opened:
            yield opened

    @asynccontextmanager
    async def processors(self, nodes: Sequence[Node]) -> AsyncIterator[Chain]:
        async with AsyncExitStack() as stack:
            steps = []
            for node in nodes:
                env = self.at(node)
                steps.append(
                    Step(await stack.enter_async_context(node.config.open(env)), env.metrics)
                )
            yield ProcessorChain(steps)

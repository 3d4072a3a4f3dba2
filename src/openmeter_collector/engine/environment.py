"""The engine's `Env`: what each component of a running pipeline is lent."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from openmeter_collector.component.buffer import Buffer
from openmeter_collector.component.cache import Cache
from openmeter_collector.component.env import AsgiApp, Chain, HttpClient, Listener, ListenOptions
from openmeter_collector.component.inproc import Handover, Handovers
from openmeter_collector.component.input import Hold, Input, Intake
from openmeter_collector.component.leader import Leadership
from openmeter_collector.component.node import Node, Shown
from openmeter_collector.component.output import Output
from openmeter_collector.component.rate_limit import RateLimit
from openmeter_collector.component.scanner import Scanner
from openmeter_collector.component.state import State, StateStore
from openmeter_collector.config.model import Config
from openmeter_collector.config.model import Resources as ResourceFile
from openmeter_collector.engine.caches import CountedCache
from openmeter_collector.engine.chain import ProcessorChain, Step
from openmeter_collector.engine.child_input import ChildInput, LeftOut, batched
from openmeter_collector.engine.child_output import ChildOutput, policy_from
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.engine.latency import TimedOutput
from openmeter_collector.engine.limits import CountedLimit
from openmeter_collector.engine.lives import ChildLife
from openmeter_collector.engine.state import ComponentState, PipelineState
from openmeter_collector.engine.strict import Sieve
from openmeter_collector.engine.tracing import Tracing, traced_output, traced_processor
from openmeter_collector.errors import ConfigError
from openmeter_collector.spec.fields import BatchPolicy
from openmeter_collector.telemetry.counters import Metrics, MetricStore, Rewrite
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
    handovers: Handovers = field(default_factory=Handovers)
    """Where `inproc` meets; give pipelines that are to reach each other the same one."""
    strict: bool = False
    """Failed messages go no further; see `engine.strict`."""
    tracing: Tracing = field(default_factory=Tracing)
    """Filled in when the config's tracer is opened."""
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    leadership: Leadership | None = None
    """Whether this replica leads; None when there is no election."""
    only_on_leader: frozenset[str] = frozenset()
    """Labels and names of inputs that run on the leader only, beside those that always do."""
    leaves_out: Callable[[Node], str] = lambda node: ""  # noqa: ARG005
    """Why an input does not run in this process; empty when it does."""
    store: StateStore | None = None
    """Where positions in sources are kept; None for the pipeline's own buffer."""
    state: PipelineState = field(default_factory=PipelineState)
    """A pipeline puts its own here."""


class Resources:
    """Opened resources, by kind and label."""

    def __init__(self) -> None:
        self.caches: dict[str, Cache] = {}
        self.rate_limits: dict[str, RateLimit] = {}
        self.inputs: dict[str, Node] = {}
        self.processors: dict[str, Chain] = {}
        self.processor_nodes: dict[str, Node] = {}
        self.outputs: dict[str, Output] = {}


class ComponentEnv:
    """See `component.env.Env`."""

    def __init__(
        self,
        surroundings: Surroundings,
        resources: Resources,
        node: Node,
        hold: Hold | None = None,
    ) -> None:
        """`hold`: what the component's children read is held by."""
        self._hold = hold
        self._surroundings = surroundings
        self._resources = resources
        self._node = node
        labels = {"label": node.label, "path": node.path} | dict(surroundings.labels)
        self._log = surroundings.log.bind(label=node.label, path=node.path)
        self._metrics = surroundings.metrics.scope(**labels)
        if node.metric_names:
            self._metrics = self._metrics.renamed(_renaming(node, self._log))

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
    def strict(self) -> bool:
        """Failed messages go no further."""
        return self._surroundings.strict

    @property
    def data_dir(self) -> Path:
        return self._surroundings.data_dir

    @property
    def leadership(self) -> Leadership | None:
        around, node = self._surroundings, self._node
        named = node.name in around.only_on_leader or node.label in around.only_on_leader
        return around.leadership if named or runs_on_leader(node) else None

    @property
    def state(self) -> State:
        around = self._surroundings
        stream = around.labels.get("stream", "")
        return ComponentState(
            around.state,
            f"{stream}/{self._node.display()}",
            self._log,
            lambda: around.leadership.fence if around.leadership else 0,
        )

    def now(self) -> float:
        return self._surroundings.now()

    def monotonic(self) -> float:
        return self._surroundings.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._surroundings.sleep(seconds)

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

    def input_resource(self, label: str) -> AbstractAsyncContextManager[Input]:
        return self.input(self._resources.inputs[label])

    def output_resource(self, label: str) -> Output:
        return self._resources.outputs[label]

    def processor_resource(self, label: str) -> Chain:
        return self._resources.processors[label]

    def decode(self, kind: str, text: str, path: str) -> Node:
        if self._node.decodes is None:
            raise ConfigError(f"{path}: no configs are read here at run time")
        return self._node.decodes(kind, text, path)

    def shown(self, node: Node) -> Shown:
        if self._node.decodes is None:
            return Shown(f"{node.name}: {{}}\n", {node.name: {}})
        return self._node.decodes.shown(node)

    def processor_node(self, label: str) -> Node | None:
        return self._resources.processor_nodes.get(label)

    def handover(self, name: str) -> Handover:
        return self._surroundings.handovers.named(name)

    @property
    def tracing(self) -> Tracing:
        """Whether there are traces."""
        return self._surroundings.tracing

    # ---- children --------------------------------------------------------------------------

    def at(self, node: Node) -> ComponentEnv:
        """The surroundings of another component of the same pipeline."""
        return ComponentEnv(self._surroundings, self._resources, node)

    @asynccontextmanager
    async def input(
        self, node: Node, *, reopen: bool = True, hold: Hold | None = None
    ) -> AsyncIterator[Input]:
        nested = hold is None and self._hold is not None
        if hold is None and self._hold is not None:
            hold = self._hold.within()
        env = ComponentEnv(self._surroundings, self._resources, node, hold)
        if reason := self._surroundings.leaves_out(node):
            yield LeftOut(env, reason)
            return
        async with env.processors(node.processors) as chain:
            yield ChildInput(env, chain, reopen=reopen, hold=hold, nested=nested)

    @asynccontextmanager
    async def batched(self, policy: object, intake: Intake) -> AsyncIterator[Intake]:
        assert isinstance(policy, BatchPolicy)
        if policy.is_noop and not policy.count and not policy.processors:
            yield intake
            return
        async with (
            self.processors(policy.processors) as chain,
            batched(self, policy_from(policy, self._log), chain, intake) as collecting,
        ):
            yield collecting

    @asynccontextmanager
    async def output(self, node: Node) -> AsyncIterator[Output]:
        env = self.at(node)
        async with env.processors(node.processors) as chain, _life(env) as life:
            timed = TimedOutput(Sieve(life) if self.strict else life, env.metrics)
            writer = traced_output(self.tracing, node, timed)
            async with ChildOutput.running(env, chain, writer) as child:
                yield child

    @asynccontextmanager
    async def buffer(self, node: Node) -> AsyncIterator[Buffer]:
        async with node.config.open(self.at(node)) as opened:
            yield opened

    @asynccontextmanager
    async def scanner(self, node: Node) -> AsyncIterator[Scanner]:
        async with node.config.open(self.at(node)) as opened:
            yield opened

    @asynccontextmanager
    async def processors(self, nodes: Sequence[Node]) -> AsyncIterator[Chain]:
        async with AsyncExitStack() as stack:
            steps = []
            for node in nodes:
                env = self.at(node)
                opened = await stack.enter_async_context(node.config.open(env))
                traced = traced_processor(self.tracing, node, opened)
                steps.append(Step(traced, env.metrics, _rule_name(node)))
            yield ProcessorChain(steps, strict=self.strict)


def _renaming(node: Node, log: Log) -> list[Rewrite]:
    # The language is large, and most configs have no template that renames metrics.
    from openmeter_collector.engine.metric_names import rewrite_by  # noqa: PLC0415

    return [rewrite_by(one, log) for one in node.metric_names]


def _rule_name(node: Node) -> str:
    return f"{node.display()} ({node.name})"


def runs_on_leader(node: Node) -> bool:
    """Whether a component says of itself that one replica is enough."""
    return bool(getattr(type(node.config), "leader_only", False))


def in_every_worker(node: Node) -> bool:
    """Whether each of several processes runs an input of its own; see `component.input`."""
    return bool(getattr(node.config, "every_worker", False))


@asynccontextmanager
async def _life(env: ComponentEnv) -> AsyncIterator[ChildLife]:
    """A child output, opened again on its own when its connection is lost."""
    life = ChildLife(env)
    await life.start()
    try:
        yield life
    finally:
        await life.close()


async def open_resources(
    config: Config | ResourceFile, surroundings: Surroundings, stack: AsyncExitStack
) -> Resources:
    """Open all resources of a config, to be closed with `stack`.

    Raises:
        ConfigError: one cannot be opened as it is configured.
    """
    made = Resources()
    made.inputs = {node.label: node for node in config.input_resources}
    # All of them before any is opened: a workflow looks at the branches it names when it opens.
    made.processor_nodes = {node.label: node for node in config.processor_resources}
    for node in (
        *config.rate_limit_resources,
        *config.cache_resources,
        *config.processor_resources,
        *config.output_resources,
    ):
        await open_resource(node, made, surroundings, stack)
    return made


async def open_resource(
    node: Node, into: Resources, surroundings: Surroundings, stack: AsyncExitStack
) -> None:
    """Open one resource, to be closed with `stack`, in the place of one of the same label.

    Raises:
        ConfigError: it cannot be opened as it is configured.
    """
    env = ComponentEnv(surroundings, into, node)
    enter = stack.enter_async_context
    match node.kind:
        case "rate_limit":
            limit = await enter(node.config.open(env))
            into.rate_limits[node.label] = CountedLimit(limit, env.metrics)
        case "cache":
            opened = await enter(node.config.open(env))
            into.caches[node.label] = CountedCache(opened, env.metrics)
        case "processor":
            into.processor_nodes[node.label] = node
            into.processors[node.label] = await enter(env.processors([node]))
        case "output":
            into.outputs[node.label] = await enter(env.output(node))
        case "input":
            into.inputs[node.label] = node

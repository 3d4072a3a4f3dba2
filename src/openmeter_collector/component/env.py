"""What the engine lends to a component. Time, randomness, network and children come from here,
so that tests bend time and cut wires in milliseconds, and nothing is global.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from openmeter_collector.component.buffer import Buffer
from openmeter_collector.component.cache import Cache
from openmeter_collector.component.inproc import Handover
from openmeter_collector.component.input import Hold, Input, Intake
from openmeter_collector.component.leader import Leadership
from openmeter_collector.component.node import Node, Shown
from openmeter_collector.component.output import Output
from openmeter_collector.component.rate_limit import RateLimit
from openmeter_collector.component.scanner import Scanner
from openmeter_collector.component.state import State
from openmeter_collector.message import Batch
from openmeter_collector.telemetry.counters import Metrics
from openmeter_collector.telemetry.logs import Log

Scope = MutableMapping[str, Any]
AsgiReceive = Callable[[], Awaitable[MutableMapping[str, Any]]]
AsgiSend = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, AsgiReceive, AsgiSend], Awaitable[None]]
"""A raw ASGI 3 application, without a framework: the hot path is one function."""


Respond = Callable[..., None]
"""`respond(head, body=b"")`: the whole answer, once. `head` is the status line and the headers, each
line ended by CRLF; the listener adds `date`, and closes the line if it has to.
"""


@dataclass(frozen=True, slots=True)
class ShortWay:
    """How small requests are taken without a task of their own.

    Scope, task, event and messages of ASGI cost more than all the rest of a small POST. A request goes
    this way when it is a POST to one of `paths`, has a length of at most `max_bytes` and nothing
    unusual about it (no chunks, no `Expect`, no upgrade, no earlier request under way); all others go
    to the application.

    Attributes:
        paths: exact paths, without a query.
        max_bytes: largest body.
        take: called with the path, the headers (names in lower case), the whole body, the client's
            address and port (None when it has none) and `respond`. Returns False, and leaves
            `respond` alone, to have the application handle the request.
    """

    paths: frozenset[bytes]
    max_bytes: int
    take: Callable[
        [bytes, Sequence[tuple[bytes, bytes]], bytes, tuple[str, int] | None, Respond], bool
    ]


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """Where and how to listen. Every limit has a bound; 0 means the field's stated default.

    Attributes:
        address: `host:port`; port 0 takes a free one.
        tls: a server context, or None for plain HTTP.
        max_connections: more than this many are answered 503 and closed.
        max_header_bytes: request line and headers together; more is answered 431.
        header_timeout: seconds from the first byte to the end of the headers.
        body_timeout: seconds from the end of the headers to the end of the body.
        idle_timeout: seconds a kept-alive connection may say nothing.
        reuse_port: several processes share the port.
        websocket: accept upgrades; the app then gets `websocket` scopes as well.
        max_websocket_frame: bytes of one WebSocket message; a larger one ends the connection.
        short_way: for requests that need no application.
    """

    address: str
    tls: ssl.SSLContext | None = None
    max_connections: int = 10_000
    max_header_bytes: int = 32_768
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    idle_timeout: float = 75.0
    reuse_port: bool = False
    websocket: bool = False
    max_websocket_frame: int = 8 << 20
    short_way: ShortWay | None = None


class Listener(Protocol):
    """A bound listening socket, answering until its block is left."""

    address: str
    """The `host:port` actually bound."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer, read whole up to a bound.

    Attributes:
        headers: names in lower case; the first value of each.
        body: at most `HttpClient`'s bound; the rest was read and thrown away.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpStream:
    """An answer that is read as it comes.

    Attributes:
        headers: names in lower case; the first value of each.
        chunks: the body in pieces; raises `Retryable` when the connection is lost before its end.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class HttpClient(Protocol):
    """Connections to other servers, kept alive and bounded."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
        follow_redirects: bool = False,
    ) -> HttpResponse:
        """Send one request and read the answer.

        Args:
            timeout: seconds for the whole exchange.

        Raises:
            Retryable: no answer: refused, reset, timed out, TLS failure; the text says which.
        """

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        idle_timeout: float | None = None,
        follow_redirects: bool = False,
    ) -> AbstractAsyncContextManager[HttpStream]:
        """Send one request; inside the block the answer's body is read as it comes.

        Args:
            idle_timeout: seconds in which nothing came at all, before the headers or between two
                pieces; None waits for ever.

        Raises:
            Retryable: as `request`, on entering.
        """


class Env(Protocol):
    """One component's surroundings. Each component gets its own, knowing its place."""

    @property
    def node(self) -> Node:
        """Where this component stands in the config."""

    @property
    def log(self) -> Log:
        """A logger that already carries label and path."""

    @property
    def metrics(self) -> Metrics:
        """Counters that already carry the labels `label` and `path`."""

    @property
    def data_dir(self) -> Path:
        """Folder for files a component keeps; relative paths in configs start at the working
        directory instead, as they always did.
        """

    @property
    def leadership(self) -> Leadership | None:
        """What decides whether this replica does the work of this component; None when each does."""

    @property
    def state(self) -> State:
        """What this component remembers across restarts, if the pipeline has a place for it."""

    def now(self) -> float:
        """Wall clock, Unix seconds."""

    def monotonic(self) -> float:
        """A clock for measuring, in seconds; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def random(self) -> float:
        """In [0, 1); for jitter and ids, not for secrets."""

    def http(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        max_connections: int = 64,
        max_response_bytes: int = 1 << 20,
        proxy: str | None = None,
    ) -> AbstractAsyncContextManager[HttpClient]:
        """A client of one's own, closed with the block."""

    def listen(self, app: AsgiApp, options: ListenOptions) -> AbstractAsyncContextManager[Listener]:
        """Serve `app` on an address of one's own. Leaving the block stops accepting, lets answers
        that are under way be finished for a moment, then closes.

        Raises:
            ConfigError: the address cannot be bound.
        """

    def mount(self, paths: Sequence[str], app: AsgiApp) -> AbstractAsyncContextManager[None]:
        """Serve `app` below these paths on the collector's own HTTP service (port 4195)."""

    # Children. Composite components (`switch`, `broker`, `schedule`) open them through the engine,
    # which adds their processors, counters and names.

    def input(
        self, node: Node, *, reopen: bool = True, hold: Hold | None = None
    ) -> AbstractAsyncContextManager[Input]:
        """Open a child input.

        Args:
            reopen: when its connection is lost, open it again; else raise what it raised.
            hold: keeps what it reads unsettled. Such a child is never opened again, and has to be a
                `Puller` or to hold nothing but such (`only_holds_others`): others end only when they
                are settled, and running one is a `ConfigError`.
        """

    def output(self, node: Node) -> AbstractAsyncContextManager[Output]:
        """Open a child output: with its batching, processors and counters."""

    def buffer(self, node: Node) -> AbstractAsyncContextManager[Buffer]:
        """Open a child buffer."""

    def processors(self, nodes: Sequence[Node]) -> AbstractAsyncContextManager[Chain]:
        """Open a list of processors as one."""

    def scanner(self, node: Node) -> AbstractAsyncContextManager[Scanner]:
        """Open a scanner."""

    def decode(self, kind: str, text: str, path: str) -> Node:
        """Read the config of a child that comes while the collector is running (see `Decodes`).

        Raises:
            ConfigError: with every fault that was found.
        """

    def shown(self, node: Node) -> Shown:
        """The config of a child, for people who may look at it over the network."""

    # Resources, by label. A label that does not exist was refused when the config was decoded.

    def cache(self, label: str) -> Cache:
        """A cache resource."""

    def rate_limit(self, label: str) -> RateLimit:
        """A rate limit resource."""

    def input_resource(self, label: str) -> AbstractAsyncContextManager[Input]:
        """An input resource, opened for whoever asks: each use reads on its own."""

    def output_resource(self, label: str) -> Output:
        """An output resource, one for all uses. Ask when writing, not when opening: resources may
        refer to each other.
        """

    def processor_resource(self, label: str) -> Chain:
        """A processor resource, one for all uses. Ask when processing, as above."""

    def processor_node(self, label: str) -> Node | None:
        """The config of a processor resource, for those that have to look into it."""

    # Between components

    def handover(self, name: str) -> Handover:
        """What `inproc` outputs and inputs of this name meet at, across pipelines of the process."""

    def batched(self, policy: object, intake: Intake) -> AbstractAsyncContextManager[Intake]:
        """An intake that collects deliveries into batches by a `BatchPolicy` before it hands them
        over. Leaving the block hands over what was collected.
        """


class Chain(Protocol):
    """A list of processors as one."""

    @property
    def empty(self) -> bool:
        """Nothing to do: callers skip the chain altogether."""

    @property
    def sync(self) -> bool:
        """All are plain functions: `run_sync` may be used."""

    @property
    def strict(self) -> bool:
        """Failed messages skip what follows and come out in batches of their own."""

    def run_sync(self, batch: Batch) -> list[Batch]:
        """Run a batch through, without waiting."""

    async def run(self, batch: Batch) -> list[Batch]:
        """Run a batch through."""

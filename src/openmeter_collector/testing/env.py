"""An `Env` for tests: time of the running loop, seeded randomness, HTTP from a script.

Under `testing.clock.virtual_time` an hour of back-off passes at once. Listeners and mounts are kept
in memory and called with `ask`. Children are opened from their nodes, as the engine does it.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openmeter_collector.component.env import (
    AsgiApp,
    AsgiReceive,
    AsgiSend,
    HttpClient,
    HttpResponse,
    HttpStream,
    Listener,
    ListenOptions,
    Scope,
    ShortWay,
)
from openmeter_collector.component.node import Node
from openmeter_collector.engine.environment import ComponentEnv, Resources, Surroundings
from openmeter_collector.errors import Retryable
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions

_EPOCH = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request that a component made."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout: float


Answer = HttpResponse | Exception
Script = Callable[[Request], Answer]


@dataclass
class ScriptedHttp:
    """Answers from a function; keeps what was asked."""

    script: Script = lambda _: HttpResponse(204, {}, b"")
    requests: list[Request] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

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
        """See `component.env.HttpClient`. A `TimeoutError` in the script takes its whole time."""
        del follow_redirects
        asked = Request(method, url, dict(headers or {}), body or b"", timeout)
        self.requests.append(asked)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            answer = self.script(asked)
            await asyncio.sleep(timeout if isinstance(answer, TimeoutError) else 0.001)
        finally:
            self.under_way -= 1
        if isinstance(answer, TimeoutError):
            raise Retryable(f"{method} {url}: no complete answer within {timeout:g} s")
        if isinstance(answer, Exception):
            raise answer
        return answer

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        idle_timeout: float | None = None,
        follow_redirects: bool = False,
    ) -> AsyncIterator[HttpStream]:
        """See `component.env.HttpClient`. The body comes byte by byte."""
        whole = await self.request(
            method,
            url,
            headers=headers,
            body=body,
            timeout=idle_timeout or 3600.0,
            follow_redirects=follow_redirects,
        )
        chunks = _bytewise(whole.body)
        yield HttpStream(whole.status, whole.headers, chunks)
        await chunks.aclose()


async def _bytewise(body: bytes) -> AsyncGenerator[bytes, None]:
    for one in body:
        yield bytes((one,))


@dataclass
class _Bound:
    address: str


class FakeEnv(ComponentEnv):
    """See the module. `http` is the script, `lines` what was logged, `apps` what is served.

    `short_ways`: requests that a listener would hand over by its short way go that way here, too.
    """

    short_ways = True

    def __init__(self, node: Node | None = None, *, data_dir: Path | None = None) -> None:
        self.http_script = ScriptedHttp()
        self.lines: list[str] = []
        self.apps: dict[str, AsgiApp] = {}
        self.store = MetricStore()
        chance = random.Random(1)
        self._surroundings = Surroundings(
            log=Log(LogOptions(level="all", add_timestamp=False), self.lines.append),
            metrics=self.store,
            listen=self._listen,
            mount=self._mount,
            data_dir=data_dir or Path.cwd(),
            now=lambda: _EPOCH + asyncio.get_running_loop().time(),
            monotonic=lambda: asyncio.get_running_loop().time(),
            random=chance.random,
        )
        super().__init__(
            self._surroundings, Resources(), node or Node("output", "test", _NOTHING, "root.output")
        )

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[HttpClient]:
        yield self.http_script

    def http(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        max_connections: int = 64,
        max_response_bytes: int = 1 << 20,
        proxy: str | None = None,
    ) -> AbstractAsyncContextManager[HttpClient]:
        """The script, whatever is asked for."""
        del tls, max_connections, max_response_bytes, proxy
        return self._client()

    @asynccontextmanager
    async def _listen(self, app: AsgiApp, options: ListenOptions) -> AsyncIterator[Listener]:
        way = options.short_way if self.short_ways else None
        self.apps[options.address] = app if way is None else _shortened(app, way)
        try:
            yield _Bound(options.address)
        finally:
            del self.apps[options.address]

    @asynccontextmanager
    async def _mount(self, paths: Sequence[str], app: AsgiApp) -> AsyncIterator[None]:
        self.apps |= dict.fromkeys(paths, app)
        try:
            yield
        finally:
            for path in paths:
                del self.apps[path]


class _Nothing:
    @asynccontextmanager
    async def open(self, env: Any) -> AsyncIterator[None]:
        del env
        yield None


_NOTHING = _Nothing()


def _shortened(app: AsgiApp, way: ShortWay) -> AsgiApp:
    """The application behind the short way past it, as the listener does it."""

    async def either(scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        if int(dict(scope["headers"]).get(b"content-length", b"0")) > way.max_bytes:
            await app(scope, receive, send)
            return
        first = await receive()
        answered: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

        def respond(head: bytes, body: bytes = b"") -> None:
            if not answered.done():
                answered.set_result((head, body))

        body = first.get("body", b"")
        plain = not scope["query_string"] and not first.get("more_body")
        path = scope["path"].encode()
        fits = scope["method"] == "POST" and path in way.paths and 0 < len(body) <= way.max_bytes
        if plain and fits and way.take(path, scope["headers"], body, scope["client"], respond):
            head, body = await answered
            status, *lines = head.decode().removesuffix("\r\n").split("\r\n")
            headers = [tuple(one.encode() for one in line.split(": ", 1)) for line in lines]
            start = {"type": "http.response.start", "status": int(status.split()[1])}
            await send(start | {"headers": headers})
            await send({"type": "http.response.body", "body": body})
            return

        async def again() -> MutableMapping[str, Any]:
            nonlocal first
            taken, first = first, {}
            return taken or await receive()

        await app(scope, again, send)

    return either


@dataclass(frozen=True, slots=True)
class Said:
    """An answer of an ASGI application."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def ask(
    app: AsgiApp,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    query: str = "",
) -> Said:
    """One request to an ASGI application, without a socket."""
    sent: list[dict[str, Any]] = []
    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return given.pop(0) if given else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(k.lower().encode(), v.encode("latin-1")) for k, v in (headers or {}).items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": pairs,
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "root_path": "",
    }
    await app(scope, receive, send)
    answered = {k.decode(): v.decode() for k, v in sent[0].get("headers", [])}
    return Said(sent[0]["status"], answered, b"".join(m.get("body", b"") for m in sent[1:]))

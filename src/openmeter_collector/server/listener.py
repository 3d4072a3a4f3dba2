"""A listening socket with every limit that a public one needs, on uvicorn's HTTP protocol.

uvicorn parses (httptools, strict) and speaks ASGI; what it leaves open is bounded here: size of the
request head, time for head and body, idle time, number of connections. Deadlines are kept as one
number per connection and looked at by one sweeper, because arming and cancelling a timer per request
costs more than everything else in this file together.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from openmeter_collector.component.env import AsgiApp, ListenOptions
from openmeter_collector.errors import ConfigError

_SWEEP_EVERY: Final = 0.25
_GRACE: Final = 5.0
_NEVER: Final = float("inf")


class _Limited(HttpToolsProtocol):
    """One connection."""

    limits: ListenOptions

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._host_seen = False
        self._in_head = True
        self._deadline = self.loop.time() + self.limits.idle_timeout
        if self.scheme == "https":
            self.app_state = {"tls": _tls_facts(transport)}
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, "too many connections", retry_after=1)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self._deadline = _NEVER
                self.handle_websocket_upgrade()
            else:
                self._refuse(400, "upgrades are not served here")
            return
        except httptools.HttpParserError as error:
            if not self.transport.is_closing():
                self._refuse(400, f"the request cannot be read: {type(error).__name__}")
            return
        if self._in_head:
            # Counted raw: the parser keeps an unfinished header in memory however long it is.
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.max_header_bytes:
                self._refuse(431, f"more than {self.limits.max_header_bytes} bytes of headers")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._host_seen = False
        self._in_head = True
        self._head_bytes = 0
        self._deadline = self.loop.time() + self.limits.header_timeout

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value) + 4
        if len(name) == 4 and name.lower() == b"host":
            self._host_seen = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head_bytes + len(self.url) > self.limits.max_header_bytes:
            self._refuse(431, f"more than {self.limits.max_header_bytes} bytes of headers")
            return
        if not self._host_seen and self.parser.get_http_version() == "1.1":
            self._refuse(400, "the Host header is missing")
            return
        self._deadline = self.loop.time() + self.limits.body_timeout
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.transport.is_closing():
            return
        self._deadline = _NEVER
        self._head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self.cycle.more_body:
            # Answered before the body was read to its end: nothing good can follow on this line.
            self.transport.close()
        else:
            self._in_head = True
            self._deadline = self.loop.time() + self.limits.idle_timeout

    def sweep(self, now: float) -> None:
        """Close the connection when its time is over."""
        if now < self._deadline or self.transport.is_closing():
            return
        self._deadline = _NEVER
        idle = self._in_head and not self._head_bytes
        waiting = self.cycle is not None and not self.cycle.response_complete
        if idle or waiting:
            # Nothing was asked, or an answer is being made of a body that does not end: to
            # write a second answer over it would be worse than none.
            self.transport.close()
        else:
            self._refuse(408, "the request did not arrive in time")

    def _refuse(self, status: int, detail: str, retry_after: int | None = None) -> None:
        body = b'{"type":"about:blank","title":"%s","status":%d,"detail":"%s"}' % (
            _TITLES[status].encode(),
            status,
            detail.encode(),
        )
        extra = b"retry-after: %d\r\n" % retry_after if retry_after is not None else b""
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\n%s"
            b"content-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, _TITLES[status].encode(), extra, len(body), body)
        )
        self.transport.close()


_TITLES: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def _tls_facts(transport: asyncio.Transport) -> dict[str, str]:
    """What is known about a TLS connection, under the names that pipelines know."""
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return {}
    cipher = tls.cipher()
    facts = {"http_server_tls_version": tls.version() or "", "http_server_tls_subject": ""}
    facts["http_server_tls_cipher_suite"] = cipher[0] if cipher else ""
    subject = (tls.getpeercert() or {}).get("subject", ())
    pairs = [f"{name}={value}" for part in subject for name, value in part]
    facts["http_server_tls_subject"] = ",".join(pairs)
    return facts


class BoundListener:
    """See `component.env.Listener`."""

    def __init__(self, address: str) -> None:
        self.address = address


@asynccontextmanager
async def listen(app: AsgiApp, options: ListenOptions) -> AsyncIterator[BoundListener]:
    """Serve `app`; see `component.env.Env.listen`."""
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(
        app,
        http=_Limited,
        ws="wsproto" if options.websocket else "none",
        ws_max_size=options.max_websocket_frame,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    config.load()
    state = ServerState()
    protocol: Any = type("_LimitedHere", (_Limited,), {"limits": options})
    bound = _bind(options)
    server = await loop.create_server(
        lambda: protocol(config=config, server_state=state, app_state={}),
        sock=bound,
        ssl=options.tls,
        backlog=2048,
    )
    host, port, *_ = bound.getsockname()
    sweeper = loop.create_task(_sweep(state, loop))
    try:
        yield BoundListener(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    finally:
        server.close()
        await _finish(state)
        sweeper.cancel()


async def _sweep(state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
    while True:
        state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        now = loop.time()
        for connection in list(state.connections):
            if isinstance(connection, _Limited):
                connection.sweep(now)
        await asyncio.sleep(_SWEEP_EVERY)


async def _finish(state: ServerState) -> None:
    """Let answers under way be finished, then close whatever is left."""
    for connection in list(state.connections):
        connection.shutdown()
    try:
        async with asyncio.timeout(_GRACE):
            while state.connections:  # noqa: ASYNC110 - uvicorn's set has no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        for connection in list(state.connections):
            connection.transport.abort()


def _bind(options: ListenOptions) -> socket.socket:
    host, _, port = options.address.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"  # noqa: S104 - ":8080" means all addresses, as in Go
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        number = int(port)
        bound = socket.socket(family, socket.SOCK_STREAM)
    except ValueError as error:
        raise ConfigError(
            f"address {options.address!r} has no port; write host:port, such as 0.0.0.0:8080"
        ) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, number))
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"address {options.address!r} cannot be bound ({error.strerror}); "
            "is another process using it?"
        ) from error
    return bound

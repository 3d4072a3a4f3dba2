"""A listening socket. What a connection may and may not do is in `server.connection`.

The deadlines of all connections are looked at by one sweeper, because arming and cancelling a timer
per request costs more than everything else about them together.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from openmeter_collector.component.env import AsgiApp, ListenOptions
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.connection import Connection, Shared

_SWEEP_EVERY: Final = 0.25
_GRACE: Final = 5.0


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
        http=Connection,
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
    shared = Shared()
    protocol: Any = type("ConnectionHere", (Connection,), {"limits": options, "shared": shared})
    bound = _bind(options)
    server = await loop.create_server(
        lambda: protocol(config=config, server_state=state, app_state={}),
        sock=bound,
        ssl=options.tls,
        ssl_handshake_timeout=options.header_timeout if options.tls is not None else None,
        backlog=2048,
    )
    host, port, *_ = bound.getsockname()
    sweeper = loop.create_task(_sweep(state, shared, loop))
    try:
        yield BoundListener(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    finally:
        server.close()
        await _finish(state)
        sweeper.cancel()


async def _sweep(state: ServerState, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
    while True:
        date = formatdate(usegmt=True).encode()
        state.default_headers = [(b"date", date)]
        shared.date = b"date: %s\r\n" % date
        now = loop.time()
        for connection in list(state.connections):
            if isinstance(connection, Connection):
                connection.sweep(now)
        await asyncio.sleep(_SWEEP_EVERY)


async def _finish(state: ServerState) -> None:
    """Let answers under way be finished, then close whatever is left."""
    for connection in list(state.connections):
        connection.finish() if isinstance(connection, Connection) else connection.shutdown()
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

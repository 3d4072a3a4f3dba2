"""Puts a sandbox on a port, takes it off again and brings it back.

The listening socket is ours and not uvicorn's, because being *down* must mean that connecting is
refused. While the port is closed a second socket, bound and never listening, keeps the address, so
that nobody else is given it in the meantime.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from openmeter_collector.testing.sandbox.app import Application
from openmeter_collector.testing.sandbox.exchange import TRANSPORT
from openmeter_collector.testing.sandbox.faults import AnyFault
from openmeter_collector.testing.sandbox.store import Received, StoredEvent


class Sandbox(Application):
    """A local OpenMeter; the arguments are those of `Application`."""

    @asynccontextmanager
    async def serve(self, address: str = "127.0.0.1:0") -> AsyncIterator[Running]:
        """Serve on an address for the length of a block; port 0 takes a free one.

        Raises:
            OSError: the address cannot be bound.
        """
        host, _, port = address.rpartition(":")
        running = Running(self, _bound(host.strip("[]") or "127.0.0.1", int(port)))
        self.go_down = running.down_for
        try:
            await running.up()
            if self.initial_downtime is not None:
                running.down_for(self.initial_downtime)
            yield running
        finally:
            await running.close()


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol; the application also gets the transport, for faults below HTTP."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT] = self.transport  # type: ignore[typeddict-unknown-key]


class Running:
    """A sandbox on a port."""

    def __init__(self, sandbox: Application, placeholder: socket.socket) -> None:
        self.sandbox = sandbox
        self._placeholder = placeholder
        self.host, self.port = placeholder.getsockname()[:2]
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.address = f"{shown}:{self.port}"
        self.url = f"http://{self.address}"
        self._listening: asyncio.Server | None = None
        self._return: asyncio.Task[None] | None = None
        self._is_up = asyncio.Event()
        self._state = ServerState()
        self._config = uvicorn.Config(
            sandbox,
            http=_Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            proxy_headers=False,
            log_level="critical",
            log_config=None,
            timeout_keep_alive=75,
        )
        self._config.load()

    @property
    def events(self) -> Sequence[StoredEvent]:
        """Accepted events, in order of arrival."""
        return self.sandbox.store.events

    @property
    def requests(self) -> Sequence[Received]:
        """All requests to the API, in order of arrival."""
        return self.sandbox.store.requests

    def stats(self) -> dict[str, Any]:
        """All counts."""
        return self.sandbox.store.stats()

    def set_faults(self, *faults: AnyFault, seed: int | None = None) -> None:
        """Replace all faults; with none, nothing goes wrong any more."""
        self.sandbox.plan.arm(faults, seed)

    async def wait_until(self, predicate: Callable[[], bool], timeout: float = 30.0) -> None:
        """Wait until `predicate` holds; it is asked after every request.

        Raises:
            TimeoutError: it did not come to hold in time.
        """
        await self.sandbox.wait_until(predicate, timeout)

    async def wait_for_events(self, count: int, timeout: float = 30.0) -> None:
        """Wait until so many events were accepted.

        Raises:
            TimeoutError: they did not come in time.
        """
        store = self.sandbox.store
        await self.wait_until(lambda: store.accepted >= count, timeout)

    @property
    def is_up(self) -> bool:
        """Whether the port is open."""
        return self._listening is not None

    async def until_up(self) -> None:
        """Wait until the port is open."""
        await self._is_up.wait()

    async def up(self) -> None:
        """Open the port; nothing happens when it is open."""
        if self._listening is not None:
            return
        loop = asyncio.get_running_loop()
        listening = _bound(self.host, self.port)
        self._listening = await loop.create_server(self._protocol, sock=listening, backlog=2048)
        self._is_up.set()

    def down(self) -> None:
        """Close the port and every connection; nothing happens when it is closed."""
        if self._listening is None:
            return
        self._listening.close()
        self._listening = None
        self._is_up.clear()
        for connection in list(self._state.connections):
            connection.transport.abort()

    def down_for(self, seconds: float) -> None:
        """Close the port now and open it again after so many seconds."""
        if self._return is not None:
            self._return.cancel()
        self.down()
        self._return = asyncio.get_running_loop().create_task(self._come_back(seconds))

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Be down for the length of a block."""
        self.down()
        try:
            yield
        finally:
            await self.up()

    async def _come_back(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.up()

    async def close(self) -> None:
        """Close everything."""
        if self._return is not None:
            self._return.cancel()
        self.down()
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        self._placeholder.close()
        self.sandbox.store.close()

    def _protocol(self) -> asyncio.Protocol:
        return _Protocol(config=self._config, server_state=self._state, app_state={})


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Two sockets may share an address this way as long as only one of them listens.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound

"""One request and its answer, down to the bytes on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable, MutableMapping
from email.utils import formatdate
from typing import Any, Final

from openmeter_collector.component.env import AsgiReceive, AsgiSend, Scope
from openmeter_collector.testing.sandbox.faults import Status
from openmeter_collector.testing.sandbox.problem import CONTENT_TYPE as PROBLEM
from openmeter_collector.testing.sandbox.problem import problem
from openmeter_collector.testing.sandbox.store import Received

TRANSPORT: Final = "sandbox.transport"
"""Scope key of the connection's transport, for faults below HTTP."""
MAX_BODY: Final = 256 << 20


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.v3 = False
        self.request_id = "sandbox/control"
        self.entry = Received(0, 0.0, self.method, self.path, [], b"")
        self._raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._transport: asyncio.Transport | None = scope.get(TRANSPORT)
        self._receive = receive
        self._send = send

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All headers for the log."""
        return [(name.decode("latin-1"), _shown(name, value)) for name, value in self._raw_headers]

    def header(self, wanted: bytes) -> bytes:
        """The first value of a header, empty when it is not there."""
        for name, value in self._raw_headers:
            if name == wanted:
                return value
        return b""

    @property
    def authorization(self) -> bytes:
        return self.header(b"authorization")

    @property
    def content_type(self) -> str:
        return self.header(b"content-type").decode("latin-1")

    async def body(self) -> bytes | None:
        """The whole body, None when the client went away before its end."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            return None
        if not message.get("more_body"):
            return bytes(message.get("body", b""))
        parts = bytearray(message.get("body", b""))
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect" or len(parts) > MAX_BODY:
                return None
            parts += message.get("body", b"")
            if not message.get("more_body"):
                return bytes(parts)

    async def answer(
        self, status: int, content_type: bytes, body: bytes, *more: tuple[bytes, bytes]
    ) -> None:
        """Send a whole answer."""
        self.entry.status = status
        headers = list(more)
        if status not in (204, 304):
            headers.append((b"content-length", str(len(body)).encode()))
        if content_type:
            headers.append((b"content-type", content_type))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def problem(self, status: int, detail: str, *more: tuple[bytes, bytes]) -> None:
        """Send a problem."""
        self.entry.detail = detail
        body = problem(status, detail, self.request_id, v3=self.v3)
        await self.answer(status, PROBLEM, body, *more)

    async def status(self, one: Status, now: float) -> None:
        """Send what a `status` fault asks for."""
        more = [(name.lower().encode(), value.encode()) for name, value in one.headers.items()]
        if one.retry_after is not None:
            more.append((b"retry-after", _retry_after(one.retry_after, now).encode()))
        if one.body is None:
            await self.problem(one.status, one.detail, *more)
        else:
            await self.answer(one.status, one.content_type.encode(), one.body.encode(), *more)

    async def stream(self, lines: Iterable[bytes]) -> None:
        """Send lines as newline-delimited JSON."""
        headers = [(b"content-type", b"application/x-ndjson")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        chunk = bytearray()
        for line in lines:
            chunk += line
            if len(chunk) > 65536:
                await self._send(
                    {"type": "http.response.body", "body": bytes(chunk), "more_body": True}
                )
                chunk.clear()
        await self._send({"type": "http.response.body", "body": bytes(chunk)})

    async def until_gone(self, seconds: float | None) -> None:
        """Wait until the client has gone, at most so long."""

        async def gone() -> None:
            message: MutableMapping[str, Any] = {"type": ""}
            while message["type"] != "http.disconnect":
                message = await self._receive()

        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gone(), seconds)

    def write(self, raw: bytes) -> None:
        """Put bytes on the wire past HTTP."""
        assert self._transport is not None, "this fault needs the sandbox's own server"
        self._transport.write(raw)

    async def close(self) -> None:
        """Close the connection after what was written has gone out."""
        assert self._transport is not None, "this fault needs the sandbox's own server"
        self._transport.close()
        await self.until_gone(5)  # uvicorn would add an answer of its own

    async def reset(self) -> None:
        """End the connection with a TCP reset."""
        assert self._transport is not None, "this fault needs the sandbox's own server"
        wire = self._transport.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.close()


def _shown(name: bytes, value: bytes) -> str:
    if name != b"authorization":
        return value.decode("latin-1")
    scheme, _, rest = value.decode("latin-1").partition(" ")
    return f"{scheme} ({len(rest)} characters)" if rest else "(hidden)"


def _retry_after(wanted: str | float, now: float) -> str:
    text = str(wanted)
    if text.startswith("date:"):
        return formatdate(now + float(text[5:]), usegmt=True)
    return text.removesuffix(".0")

"""The REST interface of components whose children come and go: `/inputs/{label}`, `/outputs/{label}`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from openmeter_collector.api import AsgiReceive, AsgiSend, ConfigError, Env, Node, Scope, Shown
from openmeter_collector.values import json
from openmeter_collector.values.units import format_duration

_MOST: Final = 1 << 20
_LABEL: Final = re.compile(r"[A-Za-z0-9_\-.]{1,100}")


@dataclass(slots=True)
class Child:
    """A child that is there.

    Attributes:
        config: its config, as it is shown.
        raw: its config, as it came; None for one of the collector's own config.
        since: when it began, in seconds of the clock for measuring; None when it has ended.
        error: why it has ended, empty when it did so by itself.
    """

    config: Shown
    raw: str | None
    since: float | None
    error: str = ""


class Refused(Exception):
    """What a request asks for cannot be done."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


Start = Callable[[str, Node], Awaitable[None]]
Stop = Callable[[str], Awaitable[None]]


class DynamicApi:
    """Which children there are, and the ASGI application that changes them.

    Attributes:
        children: by label. Whoever runs them says here when one has ended.
    """

    def __init__(self, env: Env, kind: str, start: Start, stop: Stop) -> None:
        """Nothing is there yet.

        Args:
            kind: `input` or `output`.
            start: makes a child run; raises `ConfigError` if it cannot.
            stop: ends one, in order.
        """
        self._env = env
        self._kind = kind
        self._start = start
        self._stop = stop
        self._changing = asyncio.Lock()
        self.children: dict[str, Child] = {}

    def add(self, label: str, node: Node, raw: str | None = None) -> None:
        """Note a child that runs from now on."""
        self.children[label] = Child(self._env.shown(node), raw, self._env.monotonic())

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        try:
            status, kind, body = await self._answer(scope, receive)
        except Refused as refused:
            status, kind, body = refused.status, "text/plain", f"{refused}\n".encode()
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: AsgiReceive) -> tuple[int, str, bytes]:
        _, _, rest = scope["path"].partition(f"/{self._kind}s")
        label, _, more = unquote(rest.removeprefix("/")).partition("/")
        if more not in {"", "uptime"} or (label and not _LABEL.fullmatch(label)):
            raise Refused(404, "no such endpoint")
        if not label:
            return 200, "application/json", json.dumps(self._all())
        if more:
            return 200, "text/plain", self._uptime(self._known(label)).encode()
        return await self._one(scope["method"], label, receive)

    async def _one(self, method: str, label: str, receive: AsgiReceive) -> tuple[int, str, bytes]:
        if method == "GET":
            return 200, "application/yaml", self._known(label).config.text.encode()
        if method == "POST":
            body = await _body(receive)
            async with self._changing:
                await self._set(label, body)
        elif method == "DELETE":
            self._known(label)
            async with self._changing:
                await self._stop(label)
                self.children.pop(label, None)
            self._env.log.info(f"{self._kind} removed by request", name=label)
        else:
            raise Refused(405, f"{method} is not possible here; use GET, POST or DELETE")
        return 200, "text/plain", b""

    async def _set(self, label: str, body: str) -> None:
        known = self.children.get(label)
        if known is not None and known.raw == body and known.since is not None:
            return
        env = self._env
        path = f"{env.node.path}.{env.node.name}.{self._kind}s.{label}"
        try:
            node = env.decode(self._kind, body, path)
            if known is not None:
                await self._stop(label)
                del self.children[label]
            await self._start(label, node)
        except ConfigError as error:
            raise Refused(400, str(error)) from error
        self.add(label, node, body)
        env.log.info(f"{self._kind} set by request", name=label)

    def _known(self, label: str) -> Child:
        child = self.children.get(label)
        if child is None:
            raise Refused(404, f"there is no {self._kind} {label!r}")
        return child

    def _all(self) -> Mapping[str, Any]:
        shown = {}
        for label, child in self.children.items():
            shown[label] = {
                "uptime": self._uptime(child),
                "config": child.config.value,
                "config_raw": child.config.text,
            }
            if child.error:
                shown[label]["error"] = child.error
        return shown

    def _uptime(self, child: Child) -> str:
        if child.since is None:
            return "stopped"
        return format_duration(round((self._env.monotonic() - child.since) * 1e9))


def paths(prefix: str, kind: str) -> list[str]:
    """Where the interface is mounted."""
    base = f"/{prefix.strip('/')}/{kind}s" if prefix.strip("/") else f"/{kind}s"
    return [base, base + "/"]


async def _body(receive: AsgiReceive) -> str:
    pieces = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "the request was not finished")
        piece = message.get("body", b"")
        size += len(piece)
        if size > _MOST:
            raise Refused(413, f"the config is larger than {_MOST} bytes")
        pieces.append(piece)
        if not message.get("more_body", False):
            break
    try:
        return b"".join(pieces).decode()
    except UnicodeDecodeError:
        raise Refused(400, "the config is not UTF-8 text") from None

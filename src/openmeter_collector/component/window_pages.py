"""What the collector's HTTP service says of the windows of an input, and takes from whoever runs it.

    GET   the ledger: what is open, what is lost, and why
    POST  {"action": "fill" | "accept", "start": "...", "end": "..."}, from the same machine only

`openmeter-collector gaps` is the client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

from openmeter_collector.component.env import AsgiReceive, AsgiSend, Scope
from openmeter_collector.errors import CollectorError
from openmeter_collector.values.addresses import is_loopback
from openmeter_collector.values.windows import Ledger, Span, moment_of, moment_text

_MOST_BODY: Final = 4096
Change = Callable[[Ledger], object]


class WindowPage:
    """An ASGI application."""

    def __init__(
        self, name: str, ledger: Callable[[], Ledger], change: Callable[[Change], Awaitable[None]]
    ) -> None:
        """`change` is told what a person wants to be different; it makes that true."""
        self._name = name
        self._ledger = ledger
        self._change = change

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["method"] == "POST":
            status, body = await self._post(scope, receive)
        else:
            status, body = 200, told(self._name, self._ledger())
        content = orjson.dumps(body)
        headers = [(b"content-type", b"application/json")]
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _post(self, scope: Scope, receive: AsgiReceive) -> tuple[int, dict[str, Any]]:
        client = scope.get("client")
        # What is accepted is not billed; that is not for everybody who can reach the port.
        if not client or not is_loopback(client[0]):
            return 403, {"error": "only from the machine the collector runs on"}
        message = await receive()
        content = message.get("body", b"")
        if message.get("more_body") or len(content) > _MOST_BODY:
            return 413, {"error": "too large"}
        try:
            asked = orjson.loads(content)
            change = change_of(asked["action"], moment_of(asked["start"]), moment_of(asked["end"]))
        except (ValueError, KeyError, TypeError) as error:
            return 400, {"error": f"not understood: {error}"}
        try:
            await self._change(change)
        except CollectorError as error:
            return 503, {"error": str(error)}
        return 200, told(self._name, self._ledger())


def change_of(action: str, start: int, end: int) -> Change:
    """What a person asks for, as a change of the ledger.

    Raises:
        ValueError: there is no such action.
    """
    if action == "fill":
        return lambda ledger: ledger.refill(start, end)
    if action == "accept":
        return lambda ledger: ledger.accept(start, end)
    raise ValueError(f"there is no action {action!r}; use fill or accept")


def told(name: str, ledger: Ledger) -> dict[str, Any]:
    """A ledger for people and their programs."""
    return {
        "windows": name,
        "begun": moment_text(ledger.begun),
        "upto": moment_text(ledger.upto),
        "open": [_shown(span) for span in ledger.open],
        "lost": [_shown(span) for span in ledger.lost],
    }


def _shown(span: Span) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "start": moment_text(span.start),
        "end": moment_text(span.end),
        "cause": span.cause,
    }
    if span.rest:
        shown["parts"] = len(span.rest)
    return shown

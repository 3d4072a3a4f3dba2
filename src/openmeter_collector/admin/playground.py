"""Trying mappings in a browser: a page with a document, a mapping and what comes out, as one types.

`attempt` is the core and knows no HTTP; `Playground` serves it with the page. Whoever wants it as a part
of another page takes `static/playground.js`, whose `mountPlayground` needs an element and a function that
asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import orjson

from openmeter_collector import bloblang
from openmeter_collector.admin.pages import HEADERS, body_of, static
from openmeter_collector.bloblang import DELETED, NOTHING, SimpleDocument
from openmeter_collector.component.env import AsgiReceive, AsgiSend, Scope
from openmeter_collector.server.guards import answer
from openmeter_collector.values import json as value_json
from openmeter_collector.values import json_exact

_PATIENCE: Final = 5.0
_STATIC: Final = {
    "/": ("playground.html", b"text/html; charset=utf-8"),
    "/playground.js": ("playground.js", b"text/javascript; charset=utf-8"),
    "/page.js": ("page.js", b"text/javascript; charset=utf-8"),
    "/playground.css": ("playground.css", b"text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", b"image/svg+xml"),
}

Write = Callable[[str, str], None]
"""Told document and mapping after each change."""


def attempt(
    document: str,
    mapping: str,
    registry: bloblang.Registry = bloblang.STANDARD,
    services: bloblang.Services | None = None,
) -> dict[str, Any]:
    """Run a mapping on a document.

    Returns:
        `result`, `metadata` (or None when unchanged) and `note`; or `error` with `line` and `column` of the
        mapping, `shown` (the line with a caret below the place) and `stage`: `parse` or `run`.
    """
    try:
        program = bloblang.compile(mapping, registry=registry, services=services)
    except bloblang.MappingError as error:
        first = error.diagnostics[0]
        excerpt = error.rendered().partition("\n")[2]
        return _wrong("parse", first.text, first.line, first.column, excerpt)
    message = SimpleDocument(document.encode("utf-8", "surrogatepass"))
    try:
        body, metadata = program.run([message], 0)
        result, note = _shown(body, document)
    except bloblang.MappingFailed as failed:
        excerpt = failed.rendered().partition("\n")[2]
        return _wrong("run", str(failed), failed.line, failed.column, excerpt)
    except value_json.EncodeError as error:
        return _wrong("run", f"the result has no JSON form: {error}", 1, 1, "")
    shown = None if metadata is None else {key: _plain(value) for key, value in metadata.items()}
    return {"result": result, "metadata": shown, "note": note}


def _wrong(stage: str, text: str, line: int, column: int, shown: str) -> dict[str, Any]:
    return {"error": text, "stage": stage, "line": line, "column": column, "shown": shown}


def _shown(body: Any, document: str) -> tuple[str, str]:
    if body is DELETED:
        return "", "The message is dropped."
    if body is NOTHING:
        return document, "The content is unchanged."
    if isinstance(body, bytes):
        return body.decode("utf-8", "replace"), "The content is text, not JSON."
    if isinstance(body, str):
        return body, "The content is text, not JSON."
    return json_exact.dumps(body, "  ").decode("utf-8", "replace"), ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json_exact.dumps(value).decode("utf-8", "replace")


class Playground:
    """The ASGI application: the page, and `POST /attempt`."""

    def __init__(
        self,
        hosts: frozenset[str],
        *,
        document: str = "",
        mapping: str = "",
        registry: bloblang.Registry = bloblang.STANDARD,
        write: Write | None = None,
        services: bloblang.Services | None = None,
    ) -> None:
        """Take what the page starts with.

        Args:
            hosts: the names that a request may use for this server. Any other is refused: a page from
                elsewhere must not reach this one under a name of its own.
            write: told every change.
            services: what mappings may reach outside the document; by default what this process may.
        """
        self._hosts = hosts
        self._start = {"document": document, "mapping": mapping}
        self._registry = registry
        self._write = write
        self._services = services

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer one request."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if not self._is_ours(headers):
            await _say(send, 403, b"this page is for its own address only\n")
        elif scope["path"] in _STATIC and scope["method"] in ("GET", "HEAD"):
            name, kind = _STATIC[scope["path"]]
            await _say(send, 200, static(name), kind, head=scope["method"] == "HEAD")
        elif scope["path"] == "/start" and scope["method"] == "GET":
            await _say(send, 200, orjson.dumps(self._start), b"application/json")
        elif scope["path"] == "/attempt" and scope["method"] == "POST":
            await self._attempt(headers, receive, send)
        else:
            await _say(send, 404, b"404 page not found\n")

    def _is_ours(self, headers: dict[bytes, str]) -> bool:
        host = headers.get(b"host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        origin = headers.get(b"origin")
        return name.strip("[]").lower() in self._hosts and (
            origin is None or origin.partition("://")[2] == host
        )

    async def _attempt(
        self, headers: dict[bytes, str], receive: AsgiReceive, send: AsgiSend
    ) -> None:
        # A type that a form of another page cannot send without being asked for permission first.
        if headers.get(b"content-type", "").partition(";")[0].strip() != "application/json":
            await _say(send, 415, b"send application/json\n")
            return
        body = await body_of(receive)
        if body is None:
            await _say(send, 413, b"too large\n")
            return
        try:
            asked = orjson.loads(body)
            document, mapping = str(asked["document"]), str(asked["mapping"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            await _say(send, 400, b"send an object with document and mapping\n")
            return
        made = await self._made(document, mapping)
        await _say(send, 200, orjson.dumps(made), b"application/json")

    async def _made(self, document: str, mapping: str) -> dict[str, Any]:
        # In a thread: a mapping that takes long must not hold up the page.
        working = asyncio.to_thread(attempt, document, mapping, self._registry, self._services)
        try:
            made = await asyncio.wait_for(working, _PATIENCE)
        except TimeoutError:
            return _wrong("run", f"no result within {_PATIENCE:g} s", 1, 1, "")
        if self._write is not None:
            try:
                self._write(document, mapping)
            except OSError as error:
                made["unsaved"] = f"not written: {error.strerror or error}"
        return made


async def _say(
    send: AsgiSend, status: int, body: bytes, kind: bytes = b"text/plain; charset=utf-8",
    *, head: bool = False,
) -> None:  # fmt: skip
    await answer(send, status, body, kind, headers=HEADERS, head=head)

"""Trying mappings in a browser: documents, a mapping and what comes out, as one types; kept as a unit test.

    GET  /            the page
    GET  /start       what it begins with, and what it may do
    GET  /mappings    those of a config, secrets taken out
    GET  /events      documents to try them on, likewise
    POST /attempt     {"document", "mapping", "mode", "lines", "metadata"}
    POST /case        {"asked": the same, "wanted": {"name", "processors", "mapping_file"}}: a unit test in YAML
    POST /write-case  the same, written beside the config; only where that was asked for

Mappings run in processes of their own (`trials`). Whoever wants this as a part of another page takes
`static/playground.js`, whose `mountPlayground` needs an element and a function that asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from openmeter_collector.admin.attempt import NOTHING_ELSE, Asked, NotUnderstood, Reach
from openmeter_collector.admin.pages import HEADERS, body_of, static
from openmeter_collector.admin.trials import Busy, Trials
from openmeter_collector.component.env import AsgiReceive, AsgiSend, Scope
from openmeter_collector.errors import CollectorError
from openmeter_collector.server.guards import answer

_JSON: Final = b"application/json"
_STATIC: Final = {
    "/": ("playground.html", b"text/html; charset=utf-8"),
    "/playground.js": ("playground.js", b"text/javascript; charset=utf-8"),
    "/page.js": ("page.js", b"text/javascript; charset=utf-8"),
    "/playground.css": ("playground.css", b"text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", b"image/svg+xml"),
}
_MOST_NAME: Final = 200
DOCUMENT: Final = '{"message": "hello world", "usage": {"tokens": 42}}\n'
MAPPING: Final = "root = this\nroot.message = this.message.uppercase()\n"

Write = Callable[[str, str], None]
"""Told document and mapping after each change."""


def _none() -> list[dict[str, Any]]:
    return []


@dataclass(frozen=True, slots=True)
class Offers:
    """What the page begins with, and what it has to offer.

    Attributes:
        mapping_file: the name of the file that the mapping is in, for tests beside it.
        home: the address of the page that this one belongs to, or "".
        mappings: see `config_mappings.mappings_of`.
        events: `content`, `metadata` and the names of an event, the newest first.
        save: told document and mapping after each change.
        tests_file: where tests are written, for people; "" where they are not.
        add_test: writes a test there.
    """

    document: str = DOCUMENT
    mapping: str = MAPPING
    mapping_file: str = ""
    home: str = ""
    mappings: Callable[[], list[dict[str, Any]]] = _none
    events: Callable[[], list[dict[str, Any]]] = _none
    save: Write | None = None
    tests_file: str = ""
    add_test: Callable[[str], None] | None = field(default=None, repr=False)

    def start(self) -> dict[str, Any]:
        """What the page is told first."""
        return {
            "document": self.document,
            "mapping": self.mapping,
            "mapping_file": self.mapping_file,
            "home": self.home,
            "tests_file": self.tests_file,
        }


class _Refused(Exception):
    """A request that is answered with something else than what it asked for."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


class Playground:
    """The ASGI application."""

    def __init__(
        self,
        hosts: frozenset[str],
        offers: Offers | None = None,
        reach: Reach = NOTHING_ELSE,
        trials: Trials | None = None,
    ) -> None:
        """Take what the page is about.

        Args:
            hosts: the names that a request may use for this server. Any other is refused: a page from
                elsewhere must not reach this one under a name of its own.
            reach: what mappings may use outside the documents.
        """
        self._hosts = hosts
        self._offers = offers or Offers()
        self._trials = trials or Trials(reach)

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer one request."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        path, method = scope["path"], scope["method"]
        try:
            self._check_is_ours(headers)
            if path in _STATIC and method in ("GET", "HEAD"):
                name, kind = _STATIC[path]
                head = method == "HEAD"
                await answer(send, 200, static(name), kind, headers=HEADERS, head=head)
                return
            value = await self._value(path, method, headers, receive)
        except _Refused as refused:
            text = f"{refused}\n".encode()
            await answer(send, refused.status, text, headers=HEADERS)
            return
        await answer(send, 200, orjson.dumps(value), _JSON, headers=HEADERS)

    def _check_is_ours(self, headers: Mapping[bytes, str]) -> None:
        host = headers.get(b"host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        origin = headers.get(b"origin")
        ours = origin is None or origin.partition("://")[2] == host
        if name.strip("[]").lower() not in self._hosts or not ours:
            raise _Refused(403, "this page is for its own address only")

    async def _value(
        self, path: str, method: str, headers: Mapping[bytes, str], receive: AsgiReceive
    ) -> Any:
        offers = self._offers
        given = {"/start": offers.start, "/mappings": offers.mappings, "/events": offers.events}
        if path in given and method == "GET":
            return given[path]()
        if method != "POST" or path not in {"/attempt", "/case", "/write-case"}:
            raise _Refused(404, "404 page not found")
        asked = await _asked(headers, receive)
        try:
            if path == "/attempt":
                return await self._attempt(asked)
            return await self._case(asked, write=path == "/write-case")
        except Busy as busy:
            raise _Refused(503, str(busy)) from busy

    async def _attempt(self, asked: Any) -> dict[str, Any]:
        tried = _understood(asked)
        made = await self._trials.attempt(asked)
        if self._offers.save is not None:
            try:
                self._offers.save(tried.document, tried.mapping)
            except OSError as error:
                made["unsaved"] = f"not written: {error.strerror or error}"
        return made

    async def _case(self, value: Any, *, write: bool) -> dict[str, Any]:
        add = self._offers.add_test if write else None
        if write and add is None:
            raise _Refused(404, "404 page not found")
        try:
            asked, wanted = value["asked"], value["wanted"]
            target = {
                name: str(wanted.get(name, ""))[:_MOST_NAME]
                for name in ("name", "processors", "mapping_file")
            }
        except (KeyError, TypeError, AttributeError):
            raise _Refused(400, "send an object with asked and wanted") from None
        _understood(asked)
        if add is not None and not target["processors"]:
            raise _Refused(400, "only a test of the config's own processors is written beside it")
        made = await self._trials.case(asked, target)
        if add is not None and "text" in made:
            try:
                await asyncio.to_thread(add, made["text"])
            except CollectorError as error:
                return {"error": str(error)}
        return made


async def _asked(headers: Mapping[bytes, str], receive: AsgiReceive) -> Any:
    # A type that a form of another page cannot send without being asked for permission first.
    if headers.get(b"content-type", "").partition(";")[0].strip() != "application/json":
        raise _Refused(415, "send application/json")
    body = await body_of(receive)
    if body is None:
        raise _Refused(413, "too large")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _Refused(400, f"this is no JSON: {error}") from error


def _understood(asked: Any) -> Asked:
    try:
        return Asked.of(asked)
    except NotUnderstood as error:
        raise _Refused(400, str(error)) from error

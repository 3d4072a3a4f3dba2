"""The live page below `/ui`: the pipeline at work, and what a person may do about it.

    GET  /ui                  the page
    GET  /ui/state            everything it shows, once
    GET  /ui/events           the same, as server-sent events, once a second
    GET  /ui/ledger           the books by hour            ?pipeline=&hours=
    GET  /ui/letters          dead letters                 ?pipeline=&q=
    GET  /ui/letters/N        one, with its event
    POST /ui/letters/N        {"action": "replay" | "drop" | "edit", "content": "..."}
    GET  /ui/life             what is known of one event   ?pipeline=&id=
    GET  /ui/tail             events that passed lately    ?pipeline=&q=
    GET  /ui/windows          paths of the pages of scheduled inputs
         /ui/playground/      trying mappings, which reach neither environment nor files here

Who may what: figures are for everybody who reaches the port, as `/metrics` is. Events themselves are
other people's data: with a password on the service (`http.basic_auth`) or from this machine only.
Changes need the password.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from html import escape
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from openmeter_collector.admin import journal_view
from openmeter_collector.admin.config_mappings import MOST_MAPPINGS, mappings_of
from openmeter_collector.admin.pages import HEADERS, body_of, static
from openmeter_collector.admin.playground import Offers, Playground
from openmeter_collector.admin.snapshot import Gatherer, drawn, journal_path, shared
from openmeter_collector.component.env import AsgiReceive, AsgiSend, Scope
from openmeter_collector.component.node import Node
from openmeter_collector.config.lint import SCRUBBED, Scrubber
from openmeter_collector.config.source_text import sounds_secret
from openmeter_collector.engine.status import PipelineStatus
from openmeter_collector.errors import CollectorError
from openmeter_collector.server.guards import answer
from openmeter_collector.values.addresses import is_loopback

_PERIOD: Final = 1.0
_MOST_VIEWERS: Final = 32
_MOST_SHOWN: Final = 100
_MOST_DOCUMENTS: Final = 50
_JSON: Final = b"application/json"
_STATIC: Final = {
    "/ui/live.js": ("live.js", b"text/javascript; charset=utf-8"),
    "/ui/live.css": ("live.css", b"text/css; charset=utf-8"),
    "/ui/icon.svg": ("icon.svg", b"image/svg+xml"),
}
_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class _AnyName(frozenset[str]):
    """Every name is ours: behind a password it does not matter how somebody got here."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)


class Refused(Exception):
    """A request that is answered with something else than what it asked for."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


class LivePage:
    """The ASGI application."""

    def __init__(
        self,
        gatherer: Gatherer,
        pipelines: Callable[[], Mapping[str, PipelineStatus]],
        paths: Callable[[], Sequence[str]],
        *,
        locked: bool,
        secrets: Collection[str] = (),
    ) -> None:
        """Take what the page is about.

        Args:
            paths: what is mounted on the service at the moment.
            locked: the service asks for a password, so whoever gets here has it.
            secrets: values that must not be shown; more may be added while this runs.
        """
        self._secrets = secrets
        self._gatherer = gatherer
        self._pipelines = pipelines
        self._paths = paths
        self._locked = locked
        offers = Offers(home="/ui", mappings=self._mappings, events=self._events)
        self._playground = Playground(_AnyName() if locked else _LOCAL_NAMES, offers)
        self._state: bytes = b"{}"
        self._ticked = asyncio.Condition()
        self._viewers = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Gather once a second, for plots that have begun before anybody looks."""
        task = asyncio.create_task(self._gather(), name="live-page")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _gather(self) -> None:
        while True:
            self._state = orjson.dumps(self._gatherer.sample())
            async with self._ticked:
                self._ticked.notify_all()
            await asyncio.sleep(_PERIOD)

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer one request."""
        try:
            await self._answer(scope, receive, send)
        except Refused as refused:
            body = orjson.dumps({"error": str(refused)})
            await answer(send, refused.status, body, _JSON, headers=HEADERS)
        except CollectorError as error:
            body = orjson.dumps({"error": str(error)})
            await answer(send, 503, body, _JSON, headers=HEADERS)

    async def _answer(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        path, method = scope["path"].rstrip("/"), scope["method"]
        if scope["path"].startswith("/ui/playground/"):
            self._check_may_see(scope)
            inner = scope["path"].removeprefix("/ui/playground")
            await self._playground({**scope, "path": inner}, receive, send)
            return
        if method == "POST" and path.startswith("/ui/letters/"):
            body = orjson.dumps(await self._change(scope, receive, path))
            await answer(send, 200, body, _JSON, headers=HEADERS)
            return
        if method not in {"GET", "HEAD"}:
            raise Refused(405, "only GET is served here")
        head = method == "HEAD"
        if path == "/ui/events" and not head:
            await self._stream(receive, send)
        elif path in _STATIC:
            name, kind = _STATIC[path]
            await answer(send, 200, static(name), kind, headers=HEADERS, head=head)
        elif path == "/ui":
            page = self._page(scope).encode()
            await answer(send, 200, page, b"text/html; charset=utf-8", headers=HEADERS, head=head)
        else:
            body = await self._data(path, scope)
            await answer(send, 200, body, _JSON, headers=HEADERS, head=head)

    async def _data(self, path: str, scope: Scope) -> bytes:
        query = {key: values[-1] for key, values in _query(scope).items()}
        if path == "/ui/state":
            return self._state
        if path == "/ui/windows":
            return orjson.dumps([one for one in self._paths() if "/windows/" in one])
        if path == "/ui/ledger":
            journal = self._journal(query)
            hours = min(max(int(query.get("hours", "24")), 1), 24 * 31)
            return orjson.dumps(await asyncio.to_thread(journal_view.books, journal, hours))
        if path == "/ui/letters":
            return orjson.dumps(
                await asyncio.to_thread(
                    journal_view.letters, self._journal(query), query.get("q", ""), _MOST_SHOWN
                )
            )
        if path.startswith("/ui/letters/"):
            self._check_may_see(scope)
            number = _number(path)
            found = await asyncio.to_thread(journal_view.letter, self._journal(query), number)
            if found is None:
                raise Refused(404, f"there is no letter {number} any more")
            return orjson.dumps(found)
        if path == "/ui/life":
            self._check_may_see(scope)
            journal, event_id = self._journal(query), query.get("id", "")
            return orjson.dumps(await asyncio.to_thread(journal_view.life, journal, event_id))
        if path == "/ui/tail":
            self._check_may_see(scope)
            return orjson.dumps(self._tail(query))
        raise Refused(404, "there is nothing at this address")

    # ---- the page ----------------------------------------------------------------------------

    def _page(self, scope: Scope) -> str:
        template = static("live.html").decode()
        pipelines = self._pipelines()
        drawn_now = "".join(_figure(name, one) for name, one in pipelines.items())
        drawn_now += _resources(shared(pipelines))
        may = {
            "see": self._may_see(scope),
            "change": self._locked,
        }
        return template.replace("<!--pipelines-->", drawn_now).replace(
            "MAY", escape(orjson.dumps(may).decode(), quote=True)
        )

    async def _stream(self, receive: AsgiReceive, send: AsgiSend) -> None:
        if self._viewers >= _MOST_VIEWERS:
            raise Refused(503, f"{_MOST_VIEWERS} others are looking; close one of those pages")
        self._viewers += 1
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            headers = [*HEADERS, (b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while not gone.done():
                chunk = b"data: " + self._state + b"\n\n"
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                tick = asyncio.ensure_future(self._tick())
                await asyncio.wait({tick, gone}, return_when=asyncio.FIRST_COMPLETED)
                tick.cancel()
        finally:
            gone.cancel()
            self._viewers -= 1

    async def _tick(self) -> None:
        async with self._ticked:
            await self._ticked.wait()

    # ---- events and letters ------------------------------------------------------------------

    def _tail(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        wanted = query.get("q", "").strip()
        shown = []
        for message in self._pipeline(query).taken.newest_first():
            content = self._scrubbed(message.content)
            if wanted in content:
                shown.append(journal_view.event_facts(content.encode()))
            if len(shown) >= _MOST_SHOWN:
                break
        return shown

    def _scrubbed(self, content: bytes) -> str:
        return Scrubber(self._secrets).scrub(content.decode("utf-8", "replace"))

    # ---- for the playground ------------------------------------------------------------------

    def _mappings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        seen: set[int] = set()
        for name, status in self._pipelines().items():
            # What streams share is shown with the first of them.
            nodes = [one for one in (*status.stages, *status.resources) if id(one) not in seen]
            seen |= {id(one) for one in nodes}
            found += mappings_of(nodes, self._secrets, name)
        return found[:MOST_MAPPINGS]

    def _events(self) -> list[dict[str, Any]]:
        found = []
        pipelines = self._pipelines()
        each = max(1, _MOST_DOCUMENTS // max(1, len(pipelines)))  # a busy stream hides no other
        for name, status in pipelines.items():
            for message in status.taken.newest_first()[:each]:
                content = self._scrubbed(message.content)
                facts = journal_view.event_facts(content.encode())
                metadata = self._metadata(message.metadata)
                found.append(facts | {"metadata": metadata, "stream": name})
        return found[:_MOST_DOCUMENTS]

    def _metadata(self, metadata: Mapping[str, Any]) -> dict[str, str]:
        """Texts; those of senders' own secrets, such as a cookie, are left out like ours."""
        return {
            key: SCRUBBED
            if sounds_secret(key.replace("-", "_")) or "cookie" in key.lower()
            else self._scrubbed(str(value).encode("utf-8", "replace"))
            for key, value in metadata.items()
        }

    def _pipeline(self, query: Mapping[str, str]) -> PipelineStatus:
        pipelines = self._pipelines()
        name = query.get("pipeline", next(iter(pipelines), ""))
        if name not in pipelines:
            raise Refused(404, f"there is no pipeline {name!r}")
        return pipelines[name]

    def _journal(self, query: Mapping[str, str]) -> str:
        path = journal_path(self._pipeline(query))
        if path is None:
            raise Refused(404, "this pipeline keeps no journal; its buffer is not `sqlite`")
        return path

    async def _change(self, scope: Scope, receive: AsgiReceive, path: str) -> dict[str, Any]:
        headers = dict(scope["headers"])
        if not self._locked:
            raise Refused(
                403, "changes need a password on the service; set http.basic_auth in the config"
            )
        origin = headers.get(b"origin", b"").decode("latin-1").partition("://")[2]
        if origin and origin != headers.get(b"host", b"").decode("latin-1"):
            raise Refused(403, "this came from another page")
        # A type that a form of another page cannot send without being asked for permission first.
        if headers.get(b"content-type", b"").partition(b";")[0].strip() != _JSON:
            raise Refused(415, "send application/json")
        body = await body_of(receive)
        if body is None:
            raise Refused(413, "too large")
        try:
            asked: Any = orjson.loads(body)
            action, content = str(asked["action"]), asked.get("content")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise Refused(400, "send an object with an action") from error
        query = {key: values[-1] for key, values in _query(scope).items()}
        number = _number(path)
        done = await asyncio.to_thread(
            journal_view.change, self._journal(query), number, action, content
        )
        if not done:
            raise Refused(409, f"letter {number} is not there any more, or the action is not known")
        return {"done": action}

    # ---- who may what ------------------------------------------------------------------------

    def _may_see(self, scope: Scope) -> bool:
        if self._locked:
            return True
        client = scope.get("client")
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        # By the name, too: a page from elsewhere may have one that leads to this machine.
        return client is not None and is_loopback(client[0]) and name.strip("[]") in _LOCAL_NAMES

    def _check_may_see(self, scope: Scope) -> None:
        if not self._may_see(scope):
            raise Refused(
                403,
                "events are shown with a password on the service (http.basic_auth), or on the "
                "machine itself",
            )


def _figure(name: str, status: PipelineStatus) -> str:
    """The pipeline as a list in reading order; figures are filled in while looking."""
    stages = _cards(list(drawn(status.stages)))
    title = escape(name) or "Pipeline"
    return (
        f'<section class="pipeline" data-pipeline="{escape(name)}" aria-label="{title}">'
        f'<h2>{title} <span class="badge"></span></h2><ul class="problems" role="status"></ul>'
        f'<ol class="flow road">{stages}</ol>'
        '<div class="plots"></div><dl class="facts"></dl></section>'
    )


def _resources(stages: Sequence[tuple[int, Node]]) -> str:
    if not stages:
        return ""
    return (
        '<section id="resources" aria-label="Resources"><h2>Resources</h2>'
        f'<ul class="flow">{_cards(stages)}</ul></section>'
    )


def _cards(stages: Sequence[tuple[int, Node]]) -> str:
    """A card for each, those of what is inside it in it."""
    made = []
    for at, (depth, node) in enumerate(stages):
        after = stages[at + 1][0] if at + 1 < len(stages) else 0
        label = f' <span class="label">{escape(node.label)}</span>' if node.label else ""
        made.append(
            f'<li class="stage {escape(node.kind)}" data-path="{escape(node.path)}">'
            f'<span class="kind">{escape(node.kind.replace("_", " "))}</span> '
            f'<span class="name">{escape(node.name)}</span>{label}'
            '<span class="figures"></span><span class="figures more"></span>'
        )
        made.append('<ul class="inside">' if after > depth else "</li>")
        made.append("</ul></li>" * (depth - after))
    return "".join(made)


def _query(scope: Scope) -> dict[str, list[str]]:
    return parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _number(path: str) -> int:
    text = path.rpartition("/")[2]
    if not text.isdigit() or len(text) > 18:
        raise Refused(404, "a letter has a number")
    return int(text)


async def _until_gone(receive: AsgiReceive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

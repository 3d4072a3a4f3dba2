"""The sandbox's ASGI application: the ingest and list routes of OpenMeter, and the routes below
`/sandbox/` that ask what came and say what shall go wrong.
"""

from __future__ import annotations

import asyncio
import hmac
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from openmeter_collector.component.env import AsgiReceive, AsgiSend, Scope
from openmeter_collector.testing.sandbox import faults as fault
from openmeter_collector.testing.sandbox.exchange import MAX_BODY, Exchange
from openmeter_collector.testing.sandbox.listing import list_v1, list_v2, list_v3
from openmeter_collector.testing.sandbox.play import AFTER, play_after, play_before
from openmeter_collector.testing.sandbox.rules import Refused, media_type, read_events, seen_in
from openmeter_collector.testing.sandbox.store import Received, Store

V1: Final = "/api/v1/events"
V2: Final = "/api/v2/events"
V3: Final = "/api/v3/openmeter/events"
_JSON = b"application/json"


class Application:
    """A local OpenMeter as a raw ASGI application."""

    def __init__(
        self,
        *,
        tokens: Iterable[str] = (),
        light: bool = False,
        keep: int | None = None,
        store: Path | None = None,
        dedupe: bool = True,
        window: float | None = None,
        faults: Sequence[fault.AnyFault] = (),
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare it.

        Args:
            tokens: accepted bearer tokens; none means that nobody is asked.
            light, keep, store, dedupe, window: see `Store`.
            faults: what goes wrong from the start; see `faults`.
        """
        self.store = Store(
            light=light, keep=keep, path=store, dedupe=dedupe, window=window, clock=clock
        )
        self.plan = fault.FaultPlan()
        self.go_down: Callable[[float], None] | None = None
        """Set by the server: closes the port for so many seconds."""
        self._tokens = [token.encode() for token in tokens]
        self._clock = clock
        self._initial = list(faults)
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self.plan.arm(self._initial, seed)

    @property
    def initial_downtime(self) -> float | None:
        """Seconds to be down right from the start, when told so."""
        found = [f.seconds for f in self._initial if isinstance(f, fault.Down)]
        return found[-1] if found else None

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer one request."""
        assert scope["type"] == "http", scope["type"]
        path: str = scope["path"]
        if path.startswith("/sandbox"):
            await self._control(scope, receive, send)
            return
        if self.store.light and path == V1 and scope["method"] == "POST":
            if self._tokens or self.plan.active:
                await self._answer(Exchange(scope, receive, send))
            else:
                await self._answer_fast(scope, receive, send)
        else:
            await self._answer(Exchange(scope, receive, send))
        self._notify()

    async def wait_until(self, predicate: Callable[[], bool], timeout: float = 30.0) -> None:
        """Wait until `predicate` holds; it is asked whenever something came or was answered.

        Raises:
            TimeoutError: it did not come to hold in time.
        """
        if predicate():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watcher = (predicate, future)
        self._watchers.append(watcher)
        try:
            await asyncio.wait_for(future, timeout)
        finally:
            self._watchers.remove(watcher)

    def _notify(self) -> None:
        for predicate, future in self._watchers:
            if not future.done() and predicate():
                future.set_result(None)

    async def _answer_fast(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """What `_answer` does, when nothing is kept of a request but its events' identities."""
        message = await receive()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        media = headers.get(b"content-type", b"").decode("latin-1")
        if message.get("more_body", False) or b"content-encoding" in headers:
            await self._answer(Exchange(scope, _replay(message, receive), send))
            return
        if message["type"] == "http.disconnect":
            return
        body = message.get("body", b"")
        try:
            events, _ = read_events(body, media_type(media, exact=True), raws=False)
        except Refused:
            await self._answer(Exchange(scope, _replay(message, receive), send))
            return
        self.store.ingest_light(events, len(body))
        await send(_NO_CONTENT)
        await send(_END)

    async def _answer(self, exchange: Exchange) -> None:
        body = await exchange.body()
        if body is None:
            return  # the client went away in the middle
        entry = self.store.log(exchange.method, exchange.path, exchange.headers, body)
        self._notify()
        exchange.entry = entry
        exchange.request_id = f"sandbox/{entry.number:06}"
        exchange.v3 = exchange.path.startswith("/api/v3/")
        try:
            if exchange.path not in (V1, V2, V3):
                await exchange.problem(404, "no such route")
            elif not self._allows(exchange.authorization):
                await exchange.problem(401, "a valid bearer token is required")
            elif exchange.method == "POST" and exchange.path != V2:
                await self._post(exchange, body)
            elif exchange.method == "GET":
                await self._list(exchange)
            else:
                await exchange.problem(405, "method not allowed")
        except Refused as refused:
            await exchange.problem(400, str(refused))
        finally:
            self.store.by_status[entry.status] += 1

    def _allows(self, authorization: bytes) -> bool:
        if not self._tokens:
            return True
        scheme, _, given = authorization.partition(b" ")
        matches = [hmac.compare_digest(given.strip(), token) for token in self._tokens]
        return scheme.lower() == b"bearer" and any(matches)

    async def _post(self, exchange: Exchange, sent: bytes) -> None:
        body = _decompressed(sent, exchange.header(b"content-encoding"))
        chosen: Sequence[fault.AnyFault] = ()
        if self.plan.active:
            seen = seen_in(body)
            chosen = self.plan.choose(exchange.path, seen, len(sent))
            for one in chosen:
                if not await play_before(exchange, one, sent, seen, self._clock()):
                    self.store.attempted(_identities(seen))
                    return
        try:
            media = media_type(exchange.content_type, exact=not exchange.v3)
            events, parts = read_events(body, media, raws=not self.store.light)
        except Refused:
            self.store.attempted(_identities(seen_in(body)))
            raise
        self.store.attempted((event.source, event.id) for event in events)
        exchange.entry.events = len(events)
        after = chosen[-1] if chosen and isinstance(chosen[-1], AFTER) else None
        kept = len(events)
        if isinstance(after, fault.Partial):
            kept = after.keep
        elif after is not None and not getattr(after, "ingest", True):
            kept = 0
        self.store.ingest(exchange.entry, events[:kept], parts[:kept])
        self._notify()
        success = 202 if exchange.v3 else 204
        if after is None:
            await exchange.answer(success, b"", b"")
        else:
            await play_after(exchange, after, success)

    async def _list(self, exchange: Exchange) -> None:
        events = list(self.store.events)
        if exchange.path == V1:
            answer = list_v1(events, exchange.query, self._clock())
        elif exchange.path == V2:
            answer = list_v2(events, exchange.query)
        else:
            answer = list_v3(events, exchange.query)
        await exchange.answer(200, _JSON, answer)

    async def _control(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        exchange = Exchange(scope, receive, send)
        body = await exchange.body()
        if body is None:
            return
        route = (exchange.method, exchange.path.rstrip("/"))
        if route == ("GET", "/sandbox/events"):
            meta = b"meta=true" in exchange.query
            await exchange.stream(_event_lines(self.store, meta=meta))
        elif route == ("DELETE", "/sandbox/events"):
            self.store.clear()
            await exchange.answer(204, b"", b"")
        elif route == ("GET", "/sandbox/requests"):
            await exchange.stream(_request_lines(self.store))
        elif route == ("GET", "/sandbox/stats"):
            answer = orjson.dumps(self.store.stats(), option=orjson.OPT_INDENT_2)
            await exchange.answer(200, _JSON, answer + b"\n")
        elif route == ("GET", "/sandbox/faults"):
            answer = orjson.dumps(self.plan.describe(), option=orjson.OPT_INDENT_2)
            await exchange.answer(200, _JSON, answer + b"\n")
        elif route == ("PUT", "/sandbox/faults"):
            await self._set_faults(exchange, body)
        elif route == ("DELETE", "/sandbox/faults"):
            self.plan.arm([])
            await exchange.answer(204, b"", b"")
        else:
            await exchange.problem(404, "no such route below /sandbox; see the guide")

    async def _set_faults(self, exchange: Exchange, body: bytes) -> None:
        try:
            settings = msgspec.json.decode(body, type=fault.FaultSettings)
            self.plan.arm(settings.faults, settings.seed)
        except (msgspec.DecodeError, ValueError) as error:
            await exchange.problem(400, str(error))
            return
        answer = orjson.dumps(self.plan.describe(), option=orjson.OPT_INDENT_2)
        await exchange.answer(200, _JSON, answer + b"\n")
        for one in settings.faults:
            if isinstance(one, fault.Down) and self.go_down is not None:
                self.go_down(one.seconds)


_NO_CONTENT: Final = {"type": "http.response.start", "status": 204, "headers": []}
_END: Final = {"type": "http.response.body", "body": b""}


def _replay(first: MutableMapping[str, Any], receive: AsgiReceive) -> AsgiReceive:
    """A `receive` that gives a message once more that was already taken."""
    taken = [first]

    async def again() -> MutableMapping[str, Any]:
        return taken.pop() if taken else await receive()

    return again


def _identities(seen: Sequence[dict[str, str]]) -> Iterable[tuple[str, str]]:
    return ((event.get("source", ""), event.get("id", "")) for event in seen)


def _decompressed(body: bytes, encoding: bytes) -> bytes:
    if encoding in (b"", b"identity"):
        return body
    if encoding != b"gzip":
        raise Refused(f"request body has an error: Content-Encoding {encoding.decode('latin-1')!r}")
    inflater = zlib.decompressobj(wbits=31)
    try:
        opened = inflater.decompress(body, MAX_BODY)
    except zlib.error as error:
        raise Refused(f"request body has an error: reading failed: {error}") from None
    if not inflater.eof:
        raise Refused("request body has an error: reading failed: gzip stream is cut off")
    return opened


def _event_lines(store: Store, *, meta: bool) -> Iterable[bytes]:
    for event in list(store.events):
        if meta:
            fields = msgspec.structs.asdict(event)
            yield orjson.dumps(fields | {"raw": b64encode(event.raw).decode()}) + b"\n"
        else:
            # A line break between JSON tokens would end the line; the exact bytes are in `meta`.
            yield event.raw.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def _request_lines(store: Store) -> Iterable[bytes]:
    for entry in list(store.requests):
        fields = {name: getattr(entry, name) for name in Received.__dataclass_fields__}
        yield orjson.dumps(fields | {"body": b64encode(entry.body).decode()}) + b"\n"

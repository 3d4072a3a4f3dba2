"""The API that manages streams: list, create, read, replace, patch, delete, and their figures.

It can start any component, so it is only as safe as the address that it is served at: `--no-api`
switches it off, `http.basic_auth` puts a password in front of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from openmeter_collector.component.env import AsgiReceive, AsgiSend, Scope
from openmeter_collector.component.node import Node
from openmeter_collector.config import InvalidConfig, Problem, Stream, lint_lines
from openmeter_collector.config.emit import to_yaml
from openmeter_collector.engine.streams import Streams
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.guards import answer
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.values.units import Duration, format_duration

MOST_BYTES: Final = 4 << 20
"""Size of a stream's config, or of a set of them."""
_ID: Final = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
_RESOURCES: Final = ("cache", "input", "output", "processor", "rate_limit")

Body = tuple[int, bytes, bytes]


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text
        super().__init__(text)


class Definitions:
    """How configs of streams and resources are read and shown; made by whoever has a registry.

    Attributes:
        values: the plain values of a text, variables filled in; raises `InvalidConfig`.
        stream: reads the text of a stream's config; raises `InvalidConfig`.
        resource: reads the text of a resource, given its kind and label; raises `InvalidConfig`.
        shown: a stream's whole config as plain values, secrets hidden.
    """

    def __init__(
        self,
        values: Callable[[str], Any],
        stream: Callable[[str, bool], Stream],
        resource: Callable[[str, str, str, bool], Node],
        shown: Callable[[Stream], Any],
    ) -> None:
        self.values, self.stream, self.resource, self.shown = values, stream, resource, shown


class StreamsApi:
    """The ASGI application; see `service.Api`."""

    endpoints: Mapping[str, str] = {
        "/streams": "GET lists the streams, POST puts a whole set in their place.",
        "/streams/{id}": "GET, POST, PUT, PATCH, DELETE one stream.",
        "/streams/{id}/stats": "GET the metrics of one stream, as JSON.",
        "/resources/{type}/{id}": "POST adds or replaces a resource.",
    }

    def __init__(
        self,
        streams: Streams,
        definitions: Definitions,
        sources: dict[str, Any],
        metrics: MetricStore,
        monotonic: Callable[[], float],
    ) -> None:
        """`sources`: plain values of the configs of streams, by name; kept up to date here."""
        self._streams = streams
        self._definitions = definitions
        self._sources = sources
        self._metrics = metrics
        self._monotonic = monotonic

    def serves(self, path: str) -> bool:
        """Whether a path is one of its own."""
        return path == "/streams" or path.startswith(("/streams/", "/resources/"))

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer one request."""
        try:
            status, kind, body = await self._answer(scope, receive)
        except Refused as refused:
            status, kind, body = (
                refused.status,
                b"text/plain; charset=utf-8",
                b"%s\n" % (refused.text.encode()),
            )
        except InvalidConfig as error:
            status, kind, body = _json(400, {"lint_errors": _lints(error.faults)})
        except ConfigError as error:
            status, kind, body = 400, b"text/plain; charset=utf-8", f"{error}\n".encode()
        await answer(send, status, body, kind, head=scope["method"] == "HEAD")

    async def _answer(self, scope: Scope, receive: AsgiReceive) -> Body:
        parts = scope["path"].strip("/").split("/")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        chilled = query.get("chilled", [""])[-1] == "true"
        if parts[0] == "resources":
            return await self._resource(parts, method, receive, chilled=chilled)
        match len(parts):
            case 1:
                return await self._all(method, receive, chilled=chilled)
            case 2:
                return await self._one(parts[1], method, receive, query, chilled=chilled)
            case 3 if parts[2] == "stats":
                _only(method, "GET")
                return self._stats(parts[1])
        raise Refused(404, "404 page not found")

    # ---- all streams -----------------------------------------------------------------------------

    async def _all(self, method: str, receive: AsgiReceive, *, chilled: bool) -> Body:
        _only(method, "GET", "POST")
        if method == "GET":
            return _json(200, {name: self._state(name) for name in sorted(self._streams.running)})
        wanted = _object(self._definitions.values(await _text(receive)))
        made, faults = {}, []
        for name, value in wanted.items():
            _check_id(name)
            try:
                made[name] = self._definitions.stream(_yaml(value), chilled)
            except InvalidConfig as error:
                faults += [f"stream '{name}': {line}" for line in _lints(error.faults)]
        if faults:
            return _json(400, {"lint_errors": faults})
        # What is wrong with one must not leave half of the set; but what cannot be opened can only
        # be found out by opening it, so the others stay, and the answer names it.
        failed = []
        for name in [name for name in self._streams.running if name not in made]:
            await self._stop(name, None)
        for name, stream in made.items():
            try:
                if name in self._streams.running:
                    if self._sources.get(name) != wanted[name] or not self._active(name):
                        await self._streams.replace(name, stream)
                else:
                    await self._streams.start(name, stream)
                self._sources[name] = wanted[name]
            except ConfigError as error:
                failed.append(str(error))
        if failed:
            raise Refused(400, "\n".join(failed))
        return 200, b"text/plain; charset=utf-8", b""

    def _active(self, name: str) -> bool:
        return self._streams.running[name].active

    def _state(self, name: str) -> dict[str, Any]:
        one = self._streams.running[name]
        uptime = self._monotonic() - one.began if one.active else 0.0
        shown = {
            "active": one.active,
            "uptime": uptime,
            "uptime_str": format_duration(int(uptime * 1e9)),
        }
        return shown | ({"error": one.error} if one.error else {})

    # ---- one stream ------------------------------------------------------------------------------

    async def _one(
        self,
        name: str,
        method: str,
        receive: AsgiReceive,
        query: Mapping[str, list[str]],
        *,
        chilled: bool,
    ) -> Body:
        _only(method, "GET", "POST", "PUT", "PATCH", "DELETE")
        _check_id(name)
        there = name in self._streams.running
        if method == "POST" and there:
            raise Refused(400, "Stream already exists")
        if method != "POST" and not there:
            raise Refused(404, "Stream not found")
        timeout = _timeout(query)
        if method == "GET":
            config = self._definitions.shown(self._streams.running[name].stream)
            return _json(200, self._state(name) | {"config": config})
        if method == "DELETE":
            await self._stop(name, timeout)
        else:
            await self._put(name, method, await _text(receive), timeout, chilled=chilled)
        return 200, b"text/plain; charset=utf-8", b""

    async def _put(
        self, name: str, method: str, text: str, timeout: float | None, *, chilled: bool
    ) -> None:
        if method == "PATCH":
            if name not in self._sources:
                raise Refused(400, "Stream cannot be patched: its source is not known")
            patch = _object(self._definitions.values(text))
            text = _yaml(patched(self._sources[name], patch))
        stream = self._definitions.stream(text, chilled)
        values = _object(self._definitions.values(text))
        if method == "POST":
            await self._streams.start(name, stream)
        else:
            await self._streams.replace(name, stream, timeout)
        self._sources[name] = values

    async def _stop(self, name: str, timeout: float | None) -> None:
        await self._streams.stop(name, timeout)
        self._sources.pop(name, None)

    def _stats(self, name: str) -> Body:
        if name not in self._streams.running:
            raise Refused(404, "Stream not found")
        figures: dict[str, float] = {}
        for _, sample, labels, value in self._metrics.samples():
            if labels.get("stream") != name:
                continue
            inside = ",".join(f'{key}="{text}"' for key, text in labels.items() if key != "stream")
            figures[f"{sample}{{{inside}}}"] = int(value) if value == int(value) else value
        state = self._state(name)
        figures["uptime_ns"] = int(state["uptime"] * 1e9)
        return _json(200, figures)

    async def _resource(
        self, parts: list[str], method: str, receive: AsgiReceive, *, chilled: bool
    ) -> Body:
        if len(parts) != 3 or parts[1] not in _RESOURCES:
            raise Refused(404, "404 page not found")
        _only(method, "POST")
        _check_id(parts[2])
        node = self._definitions.resource(parts[1], parts[2], await _text(receive), chilled)
        await self._streams.put_resource(node)
        return 200, b"text/plain; charset=utf-8", b""


def patched(value: Any, patch: Any) -> Any:
    """A value with a JSON merge patch applied (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    made = dict(value) if isinstance(value, dict) else {}
    for key, inner in patch.items():
        if inner is None:
            made.pop(key, None)
        else:
            made[key] = patched(made.get(key), inner)
    return made


def _lints(faults: tuple[Problem, ...]) -> list[str]:
    return lint_lines(faults)


def _yaml(value: Any) -> str:
    if not isinstance(value, dict):
        raise Refused(400, "a stream's config is an object")
    return to_yaml(value)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(400, "the body is not an object")
    return value


def _timeout(query: Mapping[str, list[str]]) -> float | None:
    text = query.get("timeout", [""])[-1]
    if not text:
        return None
    try:
        return float(Duration(text))
    except ValueError as error:
        raise Refused(400, f"timeout: {error}") from None


def _check_id(name: str) -> None:
    if not _ID.fullmatch(name):
        raise Refused(400, "a name has letters, digits, '_', '-' and '.', at most 128 of them")


def _only(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise Refused(405, f"{method} is not allowed here; use {', '.join(allowed)}")


async def _text(receive: AsgiReceive) -> str:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "the request ended early")
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            raise Refused(413, f"larger than {MOST_BYTES} bytes")
        if not message.get("more_body"):
            break
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None


def _json(status: int, value: Any) -> Body:
    return status, b"application/json", orjson.dumps(value)

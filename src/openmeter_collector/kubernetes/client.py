"""Requests to the API server, and what its answers mean.

Lists are read page by page, and objects stay bytes until somebody looks into them: a cluster of fifty
thousand pods costs the memory of one page.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from openmeter_collector.component.env import HttpClient, HttpResponse
from openmeter_collector.errors import CollectorError, Overloaded, Paused, Retryable
from openmeter_collector.kubernetes.kubeconfig import Access
from openmeter_collector.spec.http_answers import retry_after

PAGE: Final = 500
_TIMEOUT: Final = 30.0
_WATCH_SECONDS: Final = 120
_MOST_SAID: Final = 300
_MOST_LINE: Final = 16 << 20


class Gone(Retryable):
    """410: that version of the list is not kept any more; list anew."""


class Conflict(Retryable):
    """409: somebody else changed the object, or made it first; read it again."""


class NotFound(CollectorError):
    """404: there is no such object."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """Part of a list.

    Attributes:
        items: objects, as the server wrote them.
        version: `resourceVersion` of the list, from which it can be watched.
        last: nothing follows.
    """

    items: list[bytes]
    version: str
    last: bool


@dataclass(frozen=True, slots=True)
class Event:
    """A change that a watch tells of: `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`; `OPENED` comes first,
    and is ours: the server has taken the watch.
    """

    kind: str
    object: bytes


class _Meta(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815 - names of the API
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_LIST: Final = msgspec.json.Decoder(_List)
_EVENT: Final = msgspec.json.Decoder(_Event)


class KubernetesClient:
    """One cluster."""

    def __init__(self, http: HttpClient, access: Access, now: Callable[[], float]) -> None:
        self._http = http
        self._access = access
        self._now = now

    @property
    def namespace(self) -> str:
        """The one we are in; empty when unknown."""
        return self._access.namespace

    async def get(self, path: str) -> dict[str, Any]:
        """Read one object.

        Raises:
            NotFound: there is none.
            CollectorError: it cannot be read now, or we may not.
        """
        return _object(await self._request("GET", path))

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object in a collection.

        Raises:
            Conflict: there is one of that name.
        """
        return _object(await self._request("POST", path, body))

    async def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Write an object, if it still is as we read it (`metadata.resourceVersion`).

        Raises:
            Conflict: it is not.
        """
        return _object(await self._request("PUT", path, body))

    async def pages(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        size: int = PAGE,
        restart: bool = False,
    ) -> AsyncIterator[ListPage]:
        """A collection, page by page.

        When the server has forgotten the state of the list between two pages, the rest is read as it is
        now: each object that was there all the time is still given once.

        Args:
            restart: raise `Gone` in that case instead, for those who go on with a watch.
        """
        token = ""
        while True:
            asked = {**(params or {}), "limit": str(size)}
            if token:
                asked["continue"] = token
            try:
                response = await self._request("GET", f"{path}?{urllib.parse.urlencode(asked)}")
            except _Expired as expired:
                if restart or not token or not expired.token:
                    raise
                token = expired.token
                continue
            try:
                found = _LIST.decode(response.body)
            except msgspec.DecodeError as error:
                raise Retryable(f"GET {path}: the answer is no list; it may be cut off") from error
            token = found.metadata.continue_
            items = [bytes(one) for one in found.items or ()]
            yield ListPage(items, found.metadata.resourceVersion, not token)
            if not token:
                return

    async def watch(
        self, path: str, params: Mapping[str, str] | None, version: str
    ) -> AsyncIterator[Event]:
        """What changes after a version, until the server ends the watch (it does so regularly).

        Raises:
            Gone: the version is too old.
        """
        asked = {
            **(params or {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        url = f"{self._access.server}{path}?{urllib.parse.urlencode(asked)}"
        headers = await self._headers()
        async with self._http.stream(
            "GET", url, headers=headers, idle_timeout=_WATCH_SECONDS + 30.0
        ) as stream:
            if stream.status != 200:
                body = b"".join([line async for line in _lines(stream.chunks)])
                self._raise("GET", path, HttpResponse(stream.status, stream.headers, body))
            yield Event("OPENED", b"{}")
            async for line in _lines(stream.chunks):
                if not line.strip():
                    continue
                try:
                    event = _EVENT.decode(line)
                except msgspec.DecodeError as error:
                    raise Retryable(f"GET {path}: an event of the watch is cut off") from error
                if event.type == "ERROR":
                    told = orjson.loads(bytes(event.object))
                    status = int(told.get("code") or 500)
                    self._raise("GET", path, HttpResponse(status, {}, bytes(event.object)))
                yield Event(event.type, bytes(event.object))

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        headers = await self._headers()
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = orjson.dumps(body)
        response = await self._http.request(
            method, f"{self._access.server}{path}", headers=headers, body=content, timeout=_TIMEOUT
        )
        if 200 <= response.status < 300:
            return response
        self._raise(method, path, response)
        raise AssertionError

    async def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "openmeter-collector"}
        shown = await self._access.credentials.header(self._now())
        if shown:
            headers["Authorization"] = shown
        return headers

    def _raise(self, method: str, path: str, response: HttpResponse) -> None:
        status = _status(response)
        said = str(status.get("message", ""))[:_MOST_SAID]
        text = f"{method} {path.partition('?')[0]}: answered {response.status}: {said}"
        if response.status == 401:
            self._access.credentials.forget()
            raise Paused(f"{text}; check the credentials")
        if response.status == 403:
            raise Paused(f"{text}; grant it with a Role or ClusterRole")
        if response.status == 404:
            raise NotFound(text)
        if response.status == 409:
            raise Conflict(text)
        if response.status == 410:
            raise _Expired(text, str((status.get("metadata") or {}).get("continue") or ""))
        if response.status == 429 or response.status >= 500:
            raise Overloaded(text, retry_after(response, self._now()))
        raise Paused(f"{text}; check the config")


class _Expired(Gone):
    """With the token that reads the rest of the list as it is now; empty if there is none."""

    def __init__(self, text: str, token: str) -> None:
        self.token = token
        super().__init__(text)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in chunks:
        rest += chunk
        if b"\n" in chunk:
            *lines, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in lines:
                yield line
        if len(rest) > _MOST_LINE:
            raise Retryable(f"an event of a watch is longer than {_MOST_LINE} bytes")
    if rest:
        yield bytes(rest)


def _object(response: HttpResponse) -> dict[str, Any]:
    try:
        made = orjson.loads(response.body)
    except ValueError as error:
        raise Retryable("the API server's answer is no JSON; is something in between?") from error
    if not isinstance(made, dict):
        raise Retryable("the API server's answer is no object; is something in between?")
    return made


def _status(response: HttpResponse) -> dict[str, Any]:
    try:
        made = orjson.loads(response.body)
    except ValueError:
        made = None
    return made if isinstance(made, dict) else {}

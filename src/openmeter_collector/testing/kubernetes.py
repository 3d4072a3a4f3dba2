"""A Kubernetes API server in memory, for tests: what the collector asks of one, and the faults of one.

Faithful in what matters to a client: lists in pages with tokens that expire (410 with a fresh token),
watches that begin at a version, tell of bookmarks and end with an ERROR event once the version is
compacted, optimistic locking (409), RBAC refusals (403) with the words of the real one, tokens (401),
selectors and leases that are refused. `tests/integration/kubernetes` asks the same of a real one.
Not there: admission, defaulting, validation of other objects, patches, anything that controllers do.
"""

from __future__ import annotations

import asyncio
import base64
import bisect
import copy
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import web

from openmeter_collector.testing.leases import wrong_lease
from openmeter_collector.testing.selectors import matches_fields, matches_labels, wrong_selector

Object = dict[str, Any]
_GROUPS: Final = {"leases": "coordination.k8s.io"}
_CLUSTER_WIDE: Final = frozenset({"nodes", "persistentvolumes", "namespaces", "storageclasses"})


@dataclass(frozen=True, slots=True)
class _Change:
    version: int
    kind: str
    resource: str
    object: Object


@dataclass(frozen=True, slots=True)
class _Where:
    resource: str
    namespace: str
    name: str


@dataclass
class FakeKubernetes:
    """The server. `serve` it, and put objects in with `put` and `remove`.

    Attributes:
        tokens: bearer tokens that are known; None lets everybody in.
        allowed: (verb, resource, namespace) that are granted, namespace empty for the whole cluster;
            None grants everything.
        down: connections are cut.
        delay: seconds before each answer.
        failing: statuses for the next requests, one each.
        asked: (verb, path with query) of every request.
    """

    tokens: set[str] | None = None
    allowed: set[tuple[str, str, str]] | None = None
    down: bool = False
    delay: float = 0.0
    failing: list[int] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""
    _objects: dict[str, dict[tuple[str, str], Object]] = field(default_factory=dict)
    _history: list[_Change] = field(default_factory=list)
    _snapshots: dict[int, list[Object]] = field(default_factory=dict)
    _version: int = 100
    _oldest: int = 100
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    # ---- what tests do -----------------------------------------------------------------

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeKubernetes]:
        """Listen on a free port of the loopback."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address = runner.addresses[0]
        self.url = f"http://{address[0]}:{address[1]}"
        try:
            yield self
        finally:
            self._changed.set()
            await runner.cleanup()

    def kubeconfig(self, token: str = "", namespace: str = "default") -> str:
        """The text of a kubeconfig file that leads here."""
        return orjson.dumps(
            {
                "current-context": "fake",
                "contexts": [
                    {
                        "name": "fake",
                        "context": {"cluster": "fake", "user": "me", "namespace": namespace},
                    }
                ],
                "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
                "users": [{"name": "me", "user": {"token": token} if token else {}}],
            }
        ).decode()

    def put(self, resource: str, made: Object) -> Object:
        """Make an object, or put it in place of the one of its name."""
        made = copy.deepcopy(made)
        metadata = made.setdefault("metadata", {})
        key = (metadata.get("namespace", ""), metadata["name"])
        known = self._objects.setdefault(resource, {})
        kind = "MODIFIED" if key in known else "ADDED"
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        metadata.setdefault("uid", f"uid-{resource}-{key[0]}-{key[1]}-{self._version}")
        known[key] = made
        self._tell(_Change(self._version, kind, resource, made))
        return made

    def put_many(self, resource: str, made: Iterable[Object]) -> None:
        """Make many objects that nobody changes and no watch is told of; they may share parts."""
        known = self._objects.setdefault(resource, {})
        for one in made:
            known[_key(one)] = one
        self._version += 1

    def remove(self, resource: str, name: str, namespace: str = "") -> None:
        """Delete an object; a watch is told its last state."""
        made = copy.deepcopy(self._objects[resource].pop((namespace, name)))
        self._version += 1
        made["metadata"]["resourceVersion"] = str(self._version)
        self._tell(_Change(self._version, "DELETED", resource, made))

    def all_of(self, resource: str) -> list[Object]:
        """Every object of a kind."""
        return list(self._objects.get(resource, {}).values())

    def bookmark(self) -> None:
        """Have watches told of the version as it is now."""
        self._version += 1
        self._tell(_Change(self._version, "BOOKMARK", "", {}))

    def compact(self) -> None:
        """Forget the past: tokens of lists expire, watches from older versions end."""
        self._oldest = self._version
        self._history.clear()
        self._snapshots.clear()
        self._changed.set()

    def _tell(self, change: _Change) -> None:
        self._history.append(change)
        self._changed.set()

    # ---- what clients see --------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.down:
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=500)
        where = _where(request.path)
        if where is None:
            return _refusal(404, "NotFound", "the server could not find the requested resource")
        verb = _verb(request, where)
        self.asked.append((verb, request.path_qs))
        if self.failing:
            return _refusal(self.failing.pop(0), "InternalError", "failing on purpose")
        if self.tokens is not None:
            shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if shown not in self.tokens:
                return _refusal(401, "Unauthorized", "Unauthorized")
        if self.allowed is not None and not self._may(verb, where):
            scope = (
                f'in the namespace "{where.namespace}"'
                if where.namespace
                else "at the cluster scope"
            )
            return _refusal(
                403,
                "Forbidden",
                f'{where.resource} is forbidden: User "me" cannot {verb} resource "{where.resource}" '
                f'in API group "{_GROUPS.get(where.resource, "")}" {scope}',
            )
        if verb in {"list", "watch"}:
            query = request.query
            selectors = query.get("labelSelector", ""), query.get("fieldSelector", "")
            wrong = wrong_selector(*selectors, where.resource)
            if wrong:
                return _refusal(400, "BadRequest", wrong)
            if verb == "list":
                return self._list(request, where)
            return await self._watch(request, where)
        body = orjson.loads(await request.read()) if request.can_read_body else {}
        return self._one(verb, where, body)

    def _may(self, verb: str, where: _Where) -> bool:
        assert self.allowed is not None
        wide = (verb, where.resource, "") in self.allowed
        return wide or (verb, where.resource, where.namespace) in self.allowed

    def _one(self, verb: str, where: _Where, body: Object) -> web.Response:
        known = self._objects.setdefault(where.resource, {})
        key = (where.namespace, where.name or str(body.get("metadata", {}).get("name", "")))
        group = _GROUPS.get(where.resource)
        shown = f"{where.resource}.{group}" if group else where.resource
        if where.resource == "leases" and verb in {"create", "update"}:
            code, why = wrong_lease(body)
            if code:
                return _refusal(code, "Invalid", f'{shown} "{key[1]}" is invalid: {why}')
        if verb == "create":
            if key in known:
                return _refusal(409, "AlreadyExists", f'{shown} "{key[1]}" already exists')
            body.setdefault("metadata", {})["namespace"] = where.namespace
            return _json(self.put(where.resource, body), 201)
        if key not in known:
            return _refusal(404, "NotFound", f'{shown} "{key[1]}" not found')
        if verb == "get":
            return _json(known[key])
        if verb == "delete":
            self.remove(where.resource, key[1], key[0])
            return _json({"kind": "Status", "status": "Success"})
        given = body.get("metadata", {}).get("resourceVersion")
        if not given and where.resource == "leases":
            why = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
            return _refusal(422, "Invalid", f'{shown} "{key[1]}" is invalid: {why}')
        if given and given != known[key]["metadata"]["resourceVersion"]:
            return _refusal(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {shown} "{key[1]}": the object has been modified; '
                "please apply your changes to the latest version and try again",
            )
        body["metadata"]["uid"] = known[key]["metadata"]["uid"]
        return _json(self.put(where.resource, body))

    def _list(self, request: web.Request, where: _Where) -> web.Response:
        query = request.query
        limit = int(query.get("limit", 0))
        start = ("", "")
        version = self._version
        token = query.get("continue")
        if token:
            asked = orjson.loads(base64.urlsafe_b64decode(token))
            start = (asked["after"][0], asked["after"][1])
            version = asked["version"]
            if version and version not in self._snapshots:
                fresh = _token(0, start)
                return _refusal(
                    410,
                    "Expired",
                    "The provided continue parameter is too old",
                    {"continue": fresh},
                )
        if not token or not version:
            version = version or self._version
            everything = self._objects.get(where.resource, {}).values()
            self._snapshots[version] = sorted(everything, key=_key)
        snapshot = self._snapshots[version]
        first = bisect.bisect_right(snapshot, start, key=_key)
        # As the real one: it reads on until the page is full, and knows only then that more follows.
        page: list[Object] = []
        more = False
        for made in itertools.islice(snapshot, first, None):
            if _wanted(made, where, query):
                more = bool(limit) and len(page) == limit
                if more:
                    break
                page.append(made)
        metadata: Object = {"resourceVersion": str(version)}
        if more:
            metadata["continue"] = _token(version, _key(page[-1]))
        kind = where.resource.rstrip("s").capitalize() + "List"
        return _json({"kind": kind, "apiVersion": "v1", "metadata": metadata, "items": page})

    async def _watch(self, request: web.Request, where: _Where) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        version = int(request.query.get("resourceVersion") or 0)
        loop = asyncio.get_running_loop()
        end = loop.time() + float(request.query.get("timeoutSeconds", 300))
        while loop.time() < end and not self.down:
            if version < self._oldest:
                gone = _status(410, "Expired", f"too old resource version: {version}")
                await response.write(orjson.dumps({"type": "ERROR", "object": gone}) + b"\n")
                break
            first = bisect.bisect_right(self._history, version, key=lambda one: one.version)
            for change in self._history[first:]:
                for event in _events(change, where, request.query):
                    await response.write(orjson.dumps(event) + b"\n")
                version = change.version
            self._changed.clear()
            changing = asyncio.ensure_future(self._changed.wait())
            done, _ = await asyncio.wait({changing}, timeout=min(1.0, end - loop.time()))
            if not done:
                changing.cancel()
        if self.down and request.transport is not None:
            request.transport.abort()
        return response


def _events(change: _Change, where: _Where, query: Any) -> Iterator[Object]:
    if change.kind == "BOOKMARK":
        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(change.version)}}}
        return
    if change.resource != where.resource:
        return
    if _wanted(change.object, where, query):
        yield {"type": change.kind, "object": change.object}
    elif change.kind == "MODIFIED" and _wanted(change.object, where, {}):
        # It does not match any more: to this watch it is gone.
        yield {"type": "DELETED", "object": change.object}


def _wanted(made: Object, where: _Where, query: Any) -> bool:
    metadata = made["metadata"]
    if where.namespace and metadata.get("namespace", "") != where.namespace:
        return False
    labels = matches_labels(query.get("labelSelector", ""), metadata.get("labels") or {})
    return labels and matches_fields(query.get("fieldSelector", ""), made)


def _where(path: str) -> _Where | None:
    parts = [one for one in path.split("/") if one]
    if parts[:1] == ["api"]:
        parts = parts[2:]
    elif parts[:1] == ["apis"]:
        parts = parts[3:]
    else:
        return None
    namespace = ""
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    if not parts or len(parts) > 2 or (namespace and parts[0] in _CLUSTER_WIDE):
        return None
    return _Where(parts[0], namespace, parts[1] if len(parts) > 1 else "")


def _verb(request: web.Request, where: _Where) -> str:
    if request.method == "GET":
        if where.name:
            return "get"
        return "watch" if request.query.get("watch") == "true" else "list"
    return {"POST": "create", "PUT": "update", "DELETE": "delete"}[request.method]


def _key(made: Object) -> tuple[str, str]:
    return made["metadata"].get("namespace", ""), made["metadata"]["name"]


def _token(version: int, after: Iterable[str]) -> str:
    made = orjson.dumps({"version": version, "after": list(after)})
    return base64.urlsafe_b64encode(made).decode()


def _status(code: int, reason: str, message: str, metadata: Object | None = None) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": metadata or {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _refusal(code: int, reason: str, message: str, metadata: Object | None = None) -> web.Response:
    return _json(_status(code, reason, message, metadata), code)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")

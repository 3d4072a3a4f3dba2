"""The collector's own HTTP service: probes, metrics, and what components mount on it.

Paths, bodies and codes are those that probes and dashboards of existing installations expect; every
endpoint answers below the root path as well (`/benthos/ping`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from openmeter_collector import __version__
from openmeter_collector.component.env import AsgiApp, AsgiReceive, AsgiSend, Scope
from openmeter_collector.component.metrics import MetricsExporter
from openmeter_collector.engine.status import Connection, PipelineStatus
from openmeter_collector.telemetry.counters import MetricStore

Answer = tuple[int, str, bytes]
Endpoint = Callable[[Scope], Awaitable[Answer] | Answer]

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class _Mounted:
    path: str
    app: AsgiApp


@dataclass(slots=True)
class Service:
    """The ASGI application."""

    metrics: MetricStore
    pipelines: Mapping[str, PipelineStatus] = field(default_factory=dict)
    root_path: str = "/benthos"
    exporter: MetricsExporter | None = None
    """What the config says about metrics; without it they are shown as they are kept."""
    leadership: Callable[[], Mapping[str, Any]] | None = None
    """What `/ready` says of leader election."""
    _mounted: list[_Mounted] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer one request."""
        path = scope["path"]
        if self.root_path and path.startswith(self.root_path + "/"):
            path = path[len(self.root_path) :]
        endpoint = _ENDPOINTS.get(path)
        if endpoint is not None:
            status, kind, body = endpoint[1](self)
            await _send(send, status, kind, body, head=scope["method"] == "HEAD")
            return
        for mounted in self._mounted:
            inside = path.startswith(mounted.path) if mounted.path.endswith("/") else False
            if path == mounted.path or inside:
                await mounted.app({**scope, "path": path}, receive, send)
                return
        await _send(send, 404, "text/plain; charset=utf-8", b"404 page not found\n")

    @asynccontextmanager
    async def mount(self, paths: Sequence[str], app: AsgiApp) -> AsyncIterator[None]:
        """Serve `app` at these paths (a path that ends in `/` stands for all below it)."""
        mounted = [_Mounted(path, app) for path in paths]
        self._mounted += mounted
        try:
            yield
        finally:
            self._mounted = [one for one in self._mounted if one not in mounted]

    def ping(self) -> Answer:
        """The process answers."""
        return 200, "text/plain; charset=utf-8", b"pong"

    def version(self) -> Answer:
        """Which collector this is."""
        return _json(200, {"version": __version__, "built": ""})

    def endpoints(self) -> Answer:
        """What is served."""
        listed = {path: text for path, (text, _) in _ENDPOINTS.items()}
        listed |= {mounted.path: "Mounted by a component." for mounted in self._mounted}
        return _json(200, listed)

    def ready(self) -> Answer:
        """Whether every pipeline can take and is not refused."""
        now = time.time()
        statuses = []
        problems = []
        for name, pipeline in self.pipelines.items():
            problems += pipeline.problems(now)
            statuses += [_connection(name, one) for one in (pipeline.input, pipeline.output)]
        ready = bool(self.pipelines) and not problems
        body: dict[str, Any] = {"statuses": statuses}
        if self.leadership is not None:
            body["leader_election"] = self.leadership()
        if problems:
            body["problems"] = problems
        return _json(200 if ready else 503, body)

    def exposition(self) -> Answer:
        """All metrics, as the config says; 404 when it says nobody is shown them."""
        if self.exporter is None:
            return 200, _PROMETHEUS, self.metrics.exposition()
        page = self.exporter.page()
        if page is None:
            return 404, "text/plain; charset=utf-8", b"404 page not found\n"
        return 200, page.content_type, page.body


_ENDPOINTS: dict[str, tuple[str, Callable[[Service], Answer]]] = {
    "/ping": ("200 as long as the process answers.", Service.ping),
    "/ready": ("200 when the pipeline can take events, else 503 with the reasons.", Service.ready),
    "/version": ("The version of the collector.", Service.version),
    "/endpoints": ("This list.", Service.endpoints),
    "/metrics": ("Metrics, in the format of the metrics component.", Service.exposition),
    "/stats": ("Metrics, in the format of the metrics component.", Service.exposition),
}


def _connection(stream: str, one: Connection) -> dict[str, Any]:
    shown: dict[str, Any] = {"label": one.label, "path": one.path, "connected": one.connected}
    if stream:
        shown["stream"] = stream
    if one.error:
        shown["error"] = one.error
    return shown


def _json(status: int, value: Any) -> Answer:
    return status, "application/json", orjson.dumps(value)


async def _send(send: AsgiSend, status: int, kind: str, body: bytes, *, head: bool = False) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})

"""The collector's own HTTP service: probes, metrics, and what components mount on it.

Paths, bodies and codes are those that probes and dashboards of existing installations expect; every
endpoint answers below the root path as well (`/benthos/ping`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import orjson

from openmeter_collector import __version__
from openmeter_collector.component.env import AsgiApp, AsgiReceive, AsgiSend, Scope
from openmeter_collector.component.metrics import MetricsExporter
from openmeter_collector.engine.status import Connection, PipelineStatus
from openmeter_collector.server import debug
from openmeter_collector.server.guards import answer
from openmeter_collector.telemetry import openmetrics
from openmeter_collector.telemetry.counters import MetricStore

Answer = tuple[int, str, bytes]

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"


class Api(Protocol):
    """More endpoints, which need a request's method and body."""

    endpoints: Mapping[str, str]
    """Paths and what they are for."""

    def serves(self, path: str) -> bool:
        """Whether a path is one of its own."""

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer one request."""


@dataclass(slots=True)
class _Mounted:
    path: str
    app: AsgiApp
    purpose: str

    def serves(self, path: str) -> bool:
        return path == self.path or (self.path.endswith("/") and path.startswith(self.path))


@dataclass(slots=True)
class Service:
    """The ASGI application.

    Attributes:
        exporter: what the config says about metrics; without it they are shown as they are kept.
        streams: several pipelines run here, each with a name; none at all is no fault then.
        api: what manages streams, if that is wanted.
        config: the config as YAML and as JSON, without secrets, for the debug endpoints; None keeps
            those closed.
        leadership: what `/ready` says of leader election; None when there is none.
    """

    metrics: MetricStore
    pipelines: Mapping[str, PipelineStatus] = field(default_factory=dict)
    root_path: str = "/benthos"
    exporter: MetricsExporter | None = None
    streams: bool = False
    api: Api | None = None
    config: tuple[str, bytes] | None = None
    leadership: Callable[[], Mapping[str, Any]] | None = None
    _mounted: list[_Mounted] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer one request."""
        path = scope["path"]
        if self.root_path and path.startswith(self.root_path + "/"):
            path = path[len(self.root_path) :]
        endpoint = self._endpoints(scope).get(path)
        if endpoint is not None:
            status, kind, body = endpoint[1]()
            await answer(send, status, body, kind.encode(), head=scope["method"] == "HEAD")
            return
        if self.api is not None and self.api.serves(path):
            await self.api({**scope, "path": path}, receive, send)
            return
        mounted = self._at(path)
        if mounted is not None:
            await mounted.app({**scope, "path": path}, receive, send)
            return
        await answer(send, 404, b"404 page not found\n")

    def _at(self, path: str) -> _Mounted | None:
        return next((one for one in self._mounted if one.serves(path)), None)

    def _endpoints(self, scope: Scope | None = None) -> dict[str, tuple[str, Callable[[], Answer]]]:
        figures = partial(self.exposition, _accepted(scope))
        served: dict[str, tuple[str, Callable[[], Answer]]] = {
            "/ping": ("200 as long as the process answers.", self.ping),
            "/ready": ("200 when events can be taken, else 503 with the reasons.", self.ready),
            "/version": ("The version of the collector.", self.version),
            "/endpoints": ("This list.", self.endpoints),
            "/metrics": ("Metrics, in the format of the metrics component.", figures),
            "/stats": ("Metrics, in the format of the metrics component.", figures),
        }
        if self.config is not None:
            served |= self._debug(*self.config)
        return served

    def _debug(self, yaml: str, json: bytes) -> dict[str, tuple[str, Callable[[], Answer]]]:
        def instead() -> Answer:
            return 501, _TEXT, debug.INSTEAD.encode()

        return {
            "/debug/config/yaml": (
                "The config in YAML, without secrets.",
                lambda: (200, "application/yaml", yaml.encode()),
            ),
            "/debug/config/json": (
                "The config in JSON, without secrets.",
                lambda: (200, "application/json", json),
            ),
            "/debug/stack": (
                "What every task and thread is doing.",
                lambda: (200, _TEXT, debug.stacks().encode()),
            ),
            **dict.fromkeys(debug.PROFILES, ("Not made here; says what to use instead.", instead)),
        }

    @asynccontextmanager
    async def mount(
        self, paths: Sequence[str], app: AsgiApp, purpose: str = "Mounted by a component."
    ) -> AsyncIterator[None]:
        """Serve `app` at these paths (a path that ends in `/` stands for all below it).

        Args:
            purpose: what it is for, as `/endpoints` says it.
        """
        mounted = [_Mounted(path, app, purpose) for path in paths]
        self._mounted += mounted
        try:
            yield
        finally:
            self._mounted = [one for one in self._mounted if one not in mounted]

    def mounted(self) -> list[str]:
        """Paths that are mounted at the moment."""
        return [one.path for one in self._mounted]

    def leads(self) -> Mapping[str, Any] | None:
        """What there is to say of leader election; None when there is none."""
        return None if self.leadership is None else self.leadership()

    def ping(self) -> Answer:
        """The process answers."""
        return 200, _TEXT, b"pong"

    def version(self) -> Answer:
        """Which collector this is."""
        return _json(200, {"version": __version__, "built": ""})

    def endpoints(self) -> Answer:
        """What is served."""
        listed = {path: text for path, (text, _) in self._endpoints().items()}
        listed |= self.api.endpoints if self.api is not None else {}
        listed |= {mounted.path: mounted.purpose for mounted in self._mounted}
        return _json(200, listed)

    def ready(self) -> Answer:
        """Whether every pipeline can take and is not refused; a stream that has ended is no fault."""
        now = time.time()
        faults = {name: one.problems(now) for name, one in self.pipelines.items()}
        problems = [text for found in faults.values() for text in found]
        if self.streams:
            return _streams_ready([name for name, found in faults.items() if found], problems)
        statuses = [
            _connection(name, one)
            for name, pipeline in self.pipelines.items()
            for one in (pipeline.input, pipeline.output)
        ]
        body: dict[str, Any] = {"statuses": statuses}
        if self.leadership is not None:
            body["leader_election"] = self.leadership()
        if problems:
            body["problems"] = problems
        return _json(200 if self.pipelines and not problems else 503, body)

    def exposition(self, accept: str = "") -> Answer:
        """All metrics, as the config says; 404 when it says nobody is shown them."""
        if self.exporter is None:
            if openmetrics.wanted(accept, gains=False):
                return 200, openmetrics.CONTENT_TYPE, openmetrics.exposition(self.metrics)
            return 200, _PROMETHEUS, self.metrics.exposition()
        page = self.exporter.page(accept)
        if page is None:
            return 404, _TEXT, b"404 page not found\n"
        return 200, page.content_type, page.body


def _accepted(scope: Scope | None) -> str:
    headers = scope["headers"] if scope is not None else ()
    return ", ".join(value.decode("latin-1") for name, value in headers if name == b"accept")


def _streams_ready(names: Sequence[str], problems: Sequence[str]) -> Answer:
    if not names:
        return 200, _TEXT, b"OK"
    lines = [f"streams [{' '.join(sorted(names))}] are not connected", *problems]
    return 503, _TEXT, "".join(f"{line}\n" for line in lines).encode()


def _connection(stream: str, one: Connection) -> dict[str, Any]:
    shown: dict[str, Any] = {"label": one.label, "path": one.path, "connected": one.connected}
    if stream:
        shown["stream"] = stream
    if one.error:
        shown["error"] = one.error
    return shown


def _json(status: int, value: Any) -> Answer:
    return status, "application/json", orjson.dumps(value)

"""Runs a config inside the current event loop, for tests and for embedding in them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from openmeter_collector.component.env import ListenOptions
from openmeter_collector.config import load
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.exporting import exporting
from openmeter_collector.engine.run import Control, Ended, Pipeline
from openmeter_collector.engine.status import PipelineStatus
from openmeter_collector.server.listener import listen
from openmeter_collector.server.service import Service
from openmeter_collector.spec.registry import Registry
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions


class RunningConfig:
    """A pipeline under way.

    Attributes:
        status: what it says of itself.
        metrics: its counters.
        lines: what it logged.
        ended: what it left behind, once the block is left.
    """

    def __init__(self, status: PipelineStatus, metrics: MetricStore, lines: list[str]) -> None:
        self.status = status
        self.metrics = metrics
        self.lines = lines
        self.ended: Ended | None = None
        self._over: Callable[[], bool] = lambda: False

    @property
    def over(self) -> bool:
        """The pipeline has come to its end by itself: the source had no more, all is delivered."""
        return self._over()

    def watch(self, over: Callable[[], bool]) -> None:
        """Ask this whether it has."""
        self._over = over

    async def until_connected(self) -> None:
        """Wait until the input takes."""
        while not self.status.input.connected:  # noqa: ASYNC110 - the status is polled by design
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(
    text: str, registry: Registry, env: Mapping[str, str] | None = None
) -> AsyncIterator[RunningConfig]:
    """Run the config `text`; stop it in order when the block is left."""
    config = load(text, registry, env=env or {})
    lines: list[str] = []
    log = Log(LogOptions(level="debug", format="json"), lines.append)
    metrics = MetricStore()
    service = Service(metrics, root_path=config.http.root_path)
    around = Surroundings(log, metrics, listen=listen, mount=service.mount)
    pipeline = Pipeline(config, around)
    service.pipelines = {"": pipeline.status}
    control = Control()
    under_way = RunningConfig(pipeline.status, metrics, lines)
    async with (
        exporting(config, around) as service.exporter,
        asyncio.TaskGroup() as tasks,
        _service(service, config.http.address, enabled=config.http.enabled),
    ):
        task = tasks.create_task(pipeline.run(control))
        under_way.watch(task.done)
        started = tasks.create_task(control.started.wait())
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        try:
            yield under_way
        finally:
            control.stop.set()
            under_way.ended = await task


@asynccontextmanager
async def _service(service: Service, address: str, *, enabled: bool) -> AsyncIterator[None]:
    if not enabled:
        yield
        return
    async with listen(service, ListenOptions(address)):
        yield


def free_port() -> int:
    """A port on the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

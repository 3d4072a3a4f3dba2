"""What a config says about metrics, put into effect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from openmeter_collector.bloblang import DELETED, SimpleDocument
from openmeter_collector.component.metrics import MetricsExporter
from openmeter_collector.component.tracer import Tracer
from openmeter_collector.config.model import Config
from openmeter_collector.engine.environment import ComponentEnv, Resources, Surroundings
from openmeter_collector.errors import CollectorError
from openmeter_collector.spec.fields import MappingText
from openmeter_collector.telemetry.counters import Rewrite, Sampled
from openmeter_collector.telemetry.logs import Log
from openmeter_collector.values import json


@asynccontextmanager
async def exporting(
    config: Config, surroundings: Surroundings
) -> AsyncIterator[MetricsExporter | None]:
    """Open the metrics component and the tracer. Before the pipelines, which they say things about.

    Raises:
        ConfigError: it cannot be opened as it is configured.
    """
    if config.metrics_mapping is not None:
        surroundings.metrics.rewrite = rewrite_by(config.metrics_mapping, surroundings.log)
    async with AsyncExitStack() as stack:
        exporter = None
        if config.metrics is not None:
            env = ComponentEnv(surroundings, Resources(), config.metrics)
            exporter = await stack.enter_async_context(config.metrics.config.open(env))
        if config.tracer is not None:
            env = ComponentEnv(surroundings, Resources(), config.tracer)
            opened = await stack.enter_async_context(config.tracer.config.open(env))
            surroundings.tracing.tracer = opened
            if opened is not None:
                surroundings.log.context.fields = opened.current_ids
                surroundings.metrics.sampled = _sampling(opened, surroundings.now)
        yield exporter


def _sampling(tracer: Tracer, now: Callable[[], float]) -> Callable[[], Sampled | None]:
    def sampled() -> Sampled | None:
        ids = tracer.sampled_ids()
        return None if ids is None else Sampled(*ids, now())

    return sampled


def rewrite_by(mapping: MappingText, log: Log) -> Rewrite:
    """The mapping asked about each metric: `this` is its name, metadata are its labels."""

    def rewrite(name: str, labels: Mapping[str, str]) -> tuple[str, Mapping[str, str]] | None:
        try:
            document = SimpleDocument(json.dumps(name), dict(labels))
            body, metadata = mapping.program.run([document], 0)
        except CollectorError as error:
            log.warning("the metrics mapping failed; the metric stays", name=name, error=str(error))
            return name, labels
        if body is DELETED:
            return None
        renamed = body if isinstance(body, str) and body else name
        if metadata is not None:
            labels = {key: str(value) for key, value in metadata.items()}
        return renamed, labels

    return rewrite

"""What a config says about metrics, put into effect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from openmeter_collector.component.metrics import MetricsExporter
from openmeter_collector.component.tracer import Tracer
from openmeter_collector.config.model import Config
from openmeter_collector.engine.environment import ComponentEnv, Resources, Surroundings
from openmeter_collector.engine.metric_names import rewrite_by
from openmeter_collector.telemetry.counters import Sampled


@asynccontextmanager
async def exporting(
    config: Config, surroundings: Surroundings
) -> AsyncIterator[MetricsExporter | None]:
    """Open the metrics component and the tracer. Before the pipelines, which they say things about.

    Raises:
        ConfigError: it cannot be opened as it is configured.
    """
    if config.metrics_mapping is not None:
        surroundings.metrics.rewrite = rewrite_by(config.metrics_mapping.program, surroundings.log)
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

"""Spans around what the engine calls. Put around components only when a config has a tracer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from openmeter_collector.component.env import Chain
from openmeter_collector.component.input import Intake
from openmeter_collector.component.node import Node
from openmeter_collector.component.processor import AsyncProcessor, Processor
from openmeter_collector.component.tracer import Attribute, Span, Tracer
from openmeter_collector.message import Batch, Delivery, Message

_CARRIERS = frozenset({"traceparent", "tracestate"})


@dataclass(slots=True)
class Tracing:
    """Whether there are traces; known once the config's tracer is opened."""

    tracer: Tracer | None = None


class Writes(Protocol):
    """What an output's batches are handed to."""

    async def write(self, batch: Batch) -> None:
        """See `component.output.Output.write`."""


def traced_processor(
    tracing: Tracing, node: Node, processor: Processor | AsyncProcessor
) -> Processor | AsyncProcessor:
    """The processor, in a span for each batch if there is a tracer."""
    if tracing.tracer is None:
        return processor
    if inspect.iscoroutinefunction(processor.process):
        return _TracedAsync(tracing.tracer, node, processor)  # type: ignore[arg-type]
    return _Traced(tracing.tracer, node, processor)  # type: ignore[arg-type]


def traced_output(tracing: Tracing, node: Node, output: Writes) -> Writes:
    """The output, in a span for each batch if there is a tracer."""
    return output if tracing.tracer is None else _TracedOutput(tracing.tracer, node, output)


def traced_chain(tracing: Tracing, chain: Chain) -> Chain:
    """The pipeline's processors, in one span for each batch if there is a tracer."""
    return chain if tracing.tracer is None or chain.empty else _TracedChain(tracing.tracer, chain)


def traced_intake(tracing: Tracing, node: Node, intake: Intake) -> Intake:
    """The intake; if there is a tracer with a span for each delivery, until it is settled."""
    return intake if tracing.tracer is None else _TracedIntake(tracing.tracer, node, intake)


def _about(node: Node, batch: Batch) -> Mapping[str, Attribute]:
    return {"label": node.label, "path": node.path, "messages": len(batch)}


@contextmanager
def _during(span: Span) -> Iterator[None]:
    try:
        with span.current():
            yield
    except Exception as error:
        span.end(error)
        raise
    except BaseException:
        span.end()
        raise
    span.end()


class _Traced:
    def __init__(self, tracer: Tracer, node: Node, processor: Processor) -> None:
        self._tracer, self._node, self._processor = tracer, node, processor

    def process(self, batch: Batch) -> list[Batch]:
        with _during(self._tracer.begin(self._node.name, _about(self._node, batch))):
            return self._processor.process(batch)


class _TracedAsync:
    def __init__(self, tracer: Tracer, node: Node, processor: AsyncProcessor) -> None:
        self._tracer, self._node, self._processor = tracer, node, processor

    async def process(self, batch: Batch) -> list[Batch]:
        with _during(self._tracer.begin(self._node.name, _about(self._node, batch))):
            return await self._processor.process(batch)


class _TracedOutput:
    def __init__(self, tracer: Tracer, node: Node, output: Writes) -> None:
        self._tracer, self._node, self._output = tracer, node, output
        self._name = f"output_{node.name}"

    async def write(self, batch: Batch) -> None:
        with _during(self._tracer.begin(self._name, _about(self._node, batch))):
            await self._output.write(batch)


class _TracedChain:
    def __init__(self, tracer: Tracer, chain: Chain) -> None:
        self._tracer, self._chain = tracer, chain
        self.empty, self.sync, self.strict = chain.empty, chain.sync, chain.strict

    def run_sync(self, batch: Batch) -> list[Batch]:
        with _during(self._tracer.begin("pipeline", {"messages": len(batch)})):
            return self._chain.run_sync(batch)

    async def run(self, batch: Batch) -> list[Batch]:
        with _during(self._tracer.begin("pipeline", {"messages": len(batch)})):
            return await self._chain.run(batch)


class _TracedIntake:
    def __init__(self, tracer: Tracer, node: Node, intake: Intake) -> None:
        self._tracer, self._node, self._intake = tracer, node, intake
        self._name = f"input_{node.name}"

    def offer(self, delivery: Delivery) -> None:
        span, traced = self._begin(delivery)
        try:
            with span.current():
                self._intake.offer(traced)
        except Exception as error:
            span.end(error)
            raise

    async def put(self, delivery: Delivery) -> None:
        span, traced = self._begin(delivery)
        try:
            with span.current():
                await self._intake.put(traced)
        except BaseException:
            span.end()  # not handed over
            raise

    def dropped(self, messages: Sequence[Message], rule: str) -> None:
        self._intake.dropped(messages, rule)

    def refused(self, contents: Sequence[bytes], reason: str) -> None:
        self._intake.refused(contents, reason)

    def _begin(self, delivery: Delivery) -> tuple[Span, Delivery]:
        batch = delivery.batch
        caused_by = _carriers(batch)
        span = self._tracer.begin(self._name, _about(self._node, batch), caused_by)

        def settle(failure: Exception | None) -> None:
            span.end(failure)
            delivery.settle(failure)

        return span, Delivery(batch, settle, delivery.checkpoints)


def _carriers(batch: Batch) -> dict[str, str] | None:
    """What the request said about the trace it is a part of."""
    if not batch:
        return None
    found = {
        key.lower(): str(value)
        for key, value in batch[0].metadata.items()
        if key.lower() in _CARRIERS
    }
    return found or None

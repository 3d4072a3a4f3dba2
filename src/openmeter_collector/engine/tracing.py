"""Spans around what the engine calls. Put around components only when a config has a tracer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from openmeter_collector.component.env import Chain
from openmeter_collector.component.input import Intake
from openmeter_collector.component.node import Node
from openmeter_collector.component.processor import AsyncProcessor, Processor
from openmeter_collector.component.tracer import Attribute, Span, Tracer
from openmeter_collector.message import Batch, Delivery, Message, Metadata

_CARRIERS: Final = frozenset({"traceparent", "tracestate"})
_KEPT: Final = "collector_"
"""Before the names under which messages carry the trace they are in, in their metadata."""
_MOST_CAUSES: Final = 128

Carrier = Mapping[str, str]


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
        about = _about(self._node, batch)
        # What is written by another output is a part of that one's span.
        inside = self._tracer.current_ids()
        span = self._tracer.begin(self._name, about, () if inside else causes_of(batch))
        with _during(span):
            await self._output.write(batch)


class _TracedChain:
    def __init__(self, tracer: Tracer, chain: Chain) -> None:
        self._tracer, self._chain = tracer, chain
        self.empty, self.sync, self.strict = chain.empty, chain.sync, chain.strict

    def run_sync(self, batch: Batch) -> list[Batch]:
        with _during(self._begin(batch)):
            return self._chain.run_sync(batch)

    async def run(self, batch: Batch) -> list[Batch]:
        with _during(self._begin(batch)):
            return await self._chain.run(batch)

    def _begin(self, batch: Batch) -> Span:
        return self._tracer.begin("pipeline", {"messages": len(batch)}, causes_of(batch))


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
        span = self._tracer.begin(self._name, _about(self._node, batch), causes_of(batch))

        def settle(failure: Exception | None) -> None:
            span.end(failure)
            delivery.settle(failure)

        return span, Delivery(carrying(batch, span.carrier()), settle, delivery.checkpoints)


def carrying(batch: Batch, carrier: Carrier) -> Batch:
    """The messages with a trace in their metadata, which a buffer keeps with them."""
    kept = {_KEPT + key: value for key, value in carrier.items()}
    made: dict[int, Metadata] = {}  # messages of one request share their metadata, and go on to
    for message in batch:
        if id(message.metadata) not in made:
            made[id(message.metadata)] = {**message.metadata, **kept}
    return [message.with_metadata(made[id(message.metadata)]) for message in batch]


def causes_of(batch: Batch) -> list[Carrier]:
    """The traces that messages are in, each once: those they carry, else those of their requests."""
    looked_at: set[int] = set()
    found: dict[str, Carrier] = {}
    for message in batch:
        metadata = message.metadata
        if not metadata or id(metadata) in looked_at:
            continue
        looked_at.add(id(metadata))
        carrier = _carrier(metadata)
        if (parent := carrier.get("traceparent")) is not None:
            found.setdefault(parent, carrier)
            if len(found) == _MOST_CAUSES:
                break
    return list(found.values())


def _carrier(metadata: Metadata) -> dict[str, str]:
    names = {key.lower(): str(value) for key, value in metadata.items()}
    kept = {key: names[_KEPT + key] for key in _CARRIERS if _KEPT + key in names}
    return kept or {key: names[key] for key in _CARRIERS if key in names}

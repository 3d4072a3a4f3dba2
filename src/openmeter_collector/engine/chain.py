"""A list of processors as one, with their counters."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence

from openmeter_collector.component.env import Chain
from openmeter_collector.component.processor import AsyncProcessor, Processor
from openmeter_collector.message import Batch, Delivery
from openmeter_collector.message.settlement import OnDropped, Stage, Watch
from openmeter_collector.telemetry.counters import Metrics


class Step:
    """One processor and what is counted about it, per batch."""

    __slots__ = (
        "_batch_received",
        "_batch_sent",
        "_error",
        "_latency",
        "_received",
        "_rule",
        "_sent",
        "asynchronous",
        "processor",
    )

    def __init__(
        self, processor: Processor | AsyncProcessor, metrics: Metrics, rule: str = "a processor"
    ) -> None:
        """`rule`: how the books name what it drops."""
        self.processor = processor
        self._rule = rule
        self.asynchronous = inspect.iscoroutinefunction(processor.process)
        self._received = metrics.counter("processor_received", "Messages given to the processor.")
        self._batch_received = metrics.counter("processor_batch_received", "Batches given to it.")
        self._sent = metrics.counter("processor_sent", "Messages it passed on.")
        self._batch_sent = metrics.counter("processor_batch_sent", "Batches it passed on.")
        self._error = metrics.counter("processor_error", "Messages it flagged as failed.")
        self._latency = metrics.timer("processor_latency_ns", "Time for one batch.")

    def run(self, batch: Batch) -> list[Batch]:
        """Process without waiting."""
        watch = Watch()
        began = time.perf_counter_ns()
        try:
            results: list[Batch] = self.processor.process(batch)  # type: ignore[assignment]
        except Exception as error:  # noqa: BLE001 - a defect in a processor must not cost events
            results = [[message.with_error(error) for message in batch]]
        self._count(batch, results, began, watch)
        return results

    async def run_async(self, batch: Batch) -> list[Batch]:
        """Process, waiting where the processor does."""
        if not self.asynchronous:
            return self.run(batch)
        watch = Watch()
        began = time.perf_counter_ns()
        try:
            results: list[Batch] = await self.processor.process(batch)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - as above
            results = [[message.with_error(error) for message in batch]]
        self._count(batch, results, began, watch)
        return results

    def _count(self, batch: Batch, results: list[Batch], began: int, watch: Watch) -> None:
        self._latency.observe(time.perf_counter_ns() - began)
        if len(results) != 1 or len(results[0]) != len(batch):
            watch.left_out(batch, results, self._rule)
        self._received.add(len(batch))
        self._batch_received.add()
        # Runs once per processor and request, whose batch is often one message: plain loops cost
        # least there, and flags are rare.
        flagged = []
        for result in results:
            self._sent.add(len(result))
            for message in result:
                if message.error is not None:
                    flagged.append(message.error)  # noqa: PERF401
        self._batch_sent.add(len(results))
        if flagged:
            known = {id(message.error) for message in batch}
            self._error.add(sum(1 for error in flagged if id(error) not in known))


class ProcessorChain:
    """See `component.env.Chain`."""

    def __init__(self, steps: Sequence[Step], *, strict: bool = False) -> None:
        """`strict`: a message that failed skips what follows, in a batch of failed ones."""
        self._steps = list(steps)
        self.strict = strict
        self.empty = not self._steps
        self.sync = not any(step.asynchronous for step in self._steps)

    def run_sync(self, batch: Batch) -> list[Batch]:
        if self.strict:
            return self._run_sync_strictly(batch)
        batches = [batch]
        for step in self._steps:
            batches = [result for one in batches for result in step.run(one) if result]
        return batches

    async def run(self, batch: Batch) -> list[Batch]:
        if self.strict:
            return await self._run_strictly(batch)
        batches = [batch]
        for step in self._steps:
            results: list[Batch] = []
            for one in batches:
                results += [result for result in await step.run_async(one) if result]
            batches = results
        return batches

    def _run_sync_strictly(self, batch: Batch) -> list[Batch]:
        batches, failed = _apart([batch])
        for step in self._steps:
            batches, more = _apart([result for one in batches for result in step.run(one)])
            failed += more
        return [*batches, *failed]

    async def _run_strictly(self, batch: Batch) -> list[Batch]:
        batches, failed = _apart([batch])
        for step in self._steps:
            results: list[Batch] = []
            for one in batches:
                results += await step.run_async(one)
            batches, more = _apart(results)
            failed += more
        return [*batches, *failed]


def _apart(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Batches of sound messages, and batches of failed ones; no empty ones."""
    sound = [[one for one in batch if one.error is None] for batch in batches]
    failed = [[one for one in batch if one.error is not None] for batch in batches]
    return [batch for batch in sound if batch], [batch for batch in failed if batch]


async def through(
    chain: Chain, delivery: Delivery, on_dropped: OnDropped | None = None
) -> list[Delivery]:
    """A delivery through processors; as it is when there are none."""
    if chain.empty:
        return [delivery]
    with Stage(delivery, on_dropped) as stage:
        results = chain.run_sync(stage.batch) if chain.sync else await chain.run(stage.batch)
    return stage.deliveries(results)

"""What the ways in of OTLP share: handing records over, and what an exporter is told about them.

An exporter drops what is answered with a code it may not repeat, so such a code is only ever a verdict
on the data. Everything else is "not now", with the time after which to come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from openmeter_collector.api import (
    Batch,
    BatchFailed,
    Checkpoint,
    Delivery,
    Env,
    Intake,
    Message,
    Overloaded,
    Rejected,
    Undeliverable,
)
from openmeter_collector.components.inputs.http_ingest import (
    NOT_TAKEN,
    Refusal,
    refusal_of,
    retry_headers,
)
from openmeter_collector.components.otlp.reading import Record


@dataclass(frozen=True, slots=True)
class Partial:
    """How many records were refused for good while the others are safe; 0 means all are safe."""

    refused: int = 0
    text: str = ""


ALL_SAFE = Partial()

NOT_WHOLE: Final = "request too large or broken off"
"""The reason in the books for what gRPC does not even hand over."""
_BY_VERDICT: Final = "refused by the pipeline"


class Judged(Refusal):
    """Ends a request whose records are in the books already."""


class Receiver:
    """Hands records over and waits until they are safe."""

    def __init__(self, env: Env, intake: Intake, timeout: float, most_bytes: int) -> None:
        """Take the intake.

        Args:
            timeout: seconds a request waits for the buffer.
            most_bytes: of requests that are under way together.
        """
        self._intake = intake
        self._timeout = timeout
        self._most_bytes = most_bytes
        self._bytes = 0
        self._records = env.metrics.counter("otlp_records", "Records answered with success.")
        self._refused = env.metrics.counter("otlp_refused", "Requests refused for good.")
        self._records_refused = env.metrics.counter(
            "otlp_records_refused", "Records that were read, and refused for good."
        )
        self._put_off = env.metrics.counter("otlp_put_off", "Requests told to come again.")
        self._log = env.log

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Count a request of this many bytes as under way.

        Raises:
            Refusal: 503, too much is.
        """
        if self._bytes and self._bytes + size > self._most_bytes:
            raise Refusal(503, "too many large requests are under way", retry_headers(None))
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size

    async def take(
        self,
        batch: Batch,
        checkpoints: tuple[Checkpoint, ...] = (),
        settled: Callable[[Exception | None], None] | None = None,
    ) -> Partial:
        """Hand a batch over and wait until it is safe.

        Args:
            settled: told once what became of the batch, however late, also when it was not taken.

        Raises:
            Refusal: 400 when it can never be taken, 503 when it may be sent again.
        """
        safe: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def settle(failure: Exception | None) -> None:
            if settled is not None:
                settled(failure)
            if not safe.done():
                safe.set_result(failure)

        try:
            self._intake.offer(Delivery(batch, settle, checkpoints))
        except Exception as error:
            if settled is not None:
                settled(error)
            if isinstance(error, Overloaded):
                raise refusal_of(error) from error
            raise
        try:
            async with asyncio.timeout(self._timeout):
                failure = await safe
        except TimeoutError as error:
            raise refusal_of(Overloaded("the buffer does not answer", 1.0)) from error
        if failure is None:
            self._records.add(len(batch))
            return ALL_SAFE
        return self._partial(failure, len(batch))

    def _partial(self, failure: Exception, count: int) -> Partial:
        errors = list(failure.errors.values()) if isinstance(failure, BatchFailed) else []
        for_good = all(isinstance(one, Rejected | Undeliverable) for one in errors)
        if not errors or not for_good or len(errors) >= count:
            # With one that may come again, all of them have to.
            refusal = refusal_of(failure)
            if refusal.status not in NOT_TAKEN:
                raise refusal
            self._enter(count)
            raise Judged(refusal.status, refusal.detail)
        self._records.add(count - len(errors))
        self._enter(len(errors))
        return Partial(len(errors), str(errors[0]))

    def _enter(self, records: int) -> None:
        self._records_refused.add(records)
        # Under no names: records of OTLP have neither the source nor the type of an event.
        self._intake.refused([b""] * records, _BY_VERDICT)

    def refused(self, refusal: Refusal, reason: str | None = None) -> None:
        """Count an answer that is no success, in the books too when it is final.

        Args:
            reason: for the books, instead of that of the answer's status.
        """
        (self._put_off if refusal.status in {429, 503} else self._refused).add()
        reason = reason or NOT_TAKEN.get(refusal.status)
        if reason is not None and not isinstance(refusal, Judged):
            self._intake.refused([b""], reason)

    def defect(self, error: Exception) -> Refusal:
        """The answer when a request could not be handled through a fault of ours."""
        self._log.error("a request could not be handled", error=repr(error))
        text = "the collector could not handle this request; it says why in its log"
        return Refusal(503, text, retry_headers(None))


def messages(records: Iterable[Record], **metadata: str) -> Batch:
    """Records as messages, each with its `otlp_id`. Equal records of one request are several facts,
    so the second and further ones have their number in it; a repeated request repeats them too.
    """
    made: Batch = []
    seen: dict[str, int] = {}
    for record in records:
        identity = record.identity
        times = seen[identity] = seen.get(identity, 0) + 1
        if times > 1:
            identity = f"{identity}-{times}"
        made.append(Message(record.content, {**metadata, "otlp_id": identity}, value=record.value))
    return made


Handler = Callable[[Any], Any]
"""Takes a parsed request, returns a `Partial` once all is safe; a coroutine function."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One of the three services of OTLP.

    Attributes:
        service: full name of the gRPC service.
        path: of the HTTP route.
        request: the message that is sent.
        response: the message that is answered.
        rejected: name of the count in its `partial_success`.
        handle: what is done with a request.
    """

    service: str
    path: str
    request: Any
    response: Any
    rejected: str
    handle: Handler

    def answer(self, partial: Partial) -> Any:
        """The response that says it."""
        made = self.response()
        if partial.refused:
            setattr(made.partial_success, self.rejected, partial.refused)
            made.partial_success.error_message = partial.text
        return made

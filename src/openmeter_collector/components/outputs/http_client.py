"""Sends messages to an HTTP server of any kind.

A batch is one request only when it was made one message (an `archive` in the batching policy) or with
`batch_as_multipart`; otherwise its messages are sent one by one, and those that were delivered before one
failed are not sent again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    BatchFailed,
    BatchPolicy,
    Env,
    Example,
    HttpRequest,
    Interpolated,
    Message,
    Output,
    Rejected,
    Requester,
    Retryable,
    field,
    output,
    requester,
    respond,
    section,
)
from openmeter_collector.values.multipart import join_multipart

POST_BATCHES = Example(
    "Post a hundred events at a time as a JSON array",
    """
    output:
      http_client:
        url: http://localhost:8888/api/v1/events
        headers:
          Content-Type: application/json
        batching:
          count: 100
          period: 1s
    """,
)


@section
class Part:
    """One part of a multipart request."""

    content_type: Interpolated = field(
        default_factory=lambda: Interpolated(""), doc="Its Content-Type."
    )
    content_disposition: Interpolated = field(
        default_factory=lambda: Interpolated(""), doc="Its Content-Disposition."
    )
    body: Interpolated = field(default_factory=lambda: Interpolated(""), doc="Its body.")


@output("http_client", since="0.1.0", categories=("Network",), examples=[POST_BATCHES])
class HttpClientOutput(HttpRequest):
    """Sends each message as the body of a request.

    A status in `successful_on` or 2xx delivers. One in `drop_on` ends the attempts at once; one in
    `backoff_on` is tried again after growing pauses, any other after `retry_period`, `retries`
    times, and never before `Retry-After`. What has still failed then is failed for whoever comes
    after: at the root of a config, 400, 413, 422 and what `drop_on` names become dead letters once
    the message is alone, other 4xx pause delivery, everything else is tried again for ever.
    """

    batch_as_multipart: bool = field(
        default=False, advanced=True, doc="Send a batch as one multipart request."
    )
    propagate_response: bool = field(
        default=False, advanced=True, doc="Store the answer as the synchronous response."
    )
    max_in_flight: int = field(default=64, minimum=1, doc="Requests under way at the same time.")
    batching: BatchPolicy = field(default_factory=BatchPolicy, doc="How messages are batched.")
    multipart: list[Part] = field(
        default_factory=list, advanced=True, doc="Make each request multipart of these parts."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Nothing is sent on opening."""
        async with requester(self, env, max_connections=self.max_in_flight) as sender:
            yield _Sender(self, sender)


class _Sender:
    def __init__(self, config: HttpClientOutput, sender: Requester) -> None:
        self._config = config
        self._sender = sender

    async def write(self, batch: Batch) -> None:
        if self._config.batch_as_multipart and len(batch) > 1:
            kind, body = join_multipart([message.content for message in batch], "mixed")
            await self._deliver(batch, 0, body, kind)
            return
        for index in range(len(batch)):
            try:
                kind, body = self._body(batch, index)
                await self._deliver(batch, index, body, kind)
            except Exception as error:
                if len(batch) == 1:
                    raise
                # Those before it are delivered; the ones behind it were not tried.
                rest = dict.fromkeys(range(index + 1, len(batch)), _untried(error))
                raise BatchFailed({index: error, **rest}) from error

    def _body(self, batch: Batch, index: int) -> tuple[str, bytes]:
        if not self._config.multipart:
            return "", batch[index].content
        boundary = "openmeter-collector-part"
        chunks = [
            f"--{boundary}\r\nContent-Type: {part.content_type.resolve(batch, index)}\r\n"
            f"Content-Disposition: {part.content_disposition.resolve(batch, index)}\r\n\r\n"
            f"{part.body.resolve(batch, index)}\r\n"
            for part in self._config.multipart
        ]
        return (
            f"multipart/form-data; boundary={boundary}",
            ("".join(chunks) + f"--{boundary}--\r\n").encode(),
        )

    async def _deliver(self, batch: Batch, index: int, body: bytes, kind: str) -> None:
        done = await self._sender.exchange(batch, index, body, kind)
        if done.failure is not None:
            raise done.failure
        if done.response is not None and self._config.propagate_response:
            metadata = {"http_status_code": str(done.response.status)}
            metadata |= self._config.extract_headers.select(done.response.headers)
            respond([Message(done.response.body, metadata, context=batch[index].context)])


def _untried(error: Exception) -> Exception:
    """Messages behind a failed one share its fate only where that says something about them."""
    if isinstance(error, Rejected):
        return Retryable("not sent: a message before it in the batch was refused")
    return error

"""Asks an HTTP server for messages, again and again, or reads an answer that does not end.

What fails is tried again here, for as long as it takes: deliveries that were handed over stay under way
meanwhile, which they would not if the input were opened anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from openmeter_collector.api import (
    Batch,
    ByteSize,
    CollectorError,
    Delivery,
    Duration,
    EndOfInput,
    Env,
    Example,
    HttpRequest,
    Interpolated,
    Message,
    Overloaded,
    Puller,
    Reading,
    Requester,
    Scanner,
    ScannerNode,
    Source,
    Unreadable,
    field,
    input,  # noqa: A004
    requester,
    section,
)
from openmeter_collector.values.multipart import boundary_of, split_multipart

POLL = Example(
    "Ask for usage every minute",
    """
    input:
      http_client:
        url: https://example.com/usage?since=${! (timestamp_unix()-60) }
        rate_limit: each_minute
    rate_limit_resources:
      - label: each_minute
        local:
          count: 1
          interval: 1m
    """,
)
FEED = Example(
    "Read a feed, a JSON document a line",
    """
    input:
      http_client:
        url: https://example.com/feed
        basic_auth:
          enabled: true
          username: collector
          password: ${FEED_PASSWORD}
        stream:
          enabled: true
          idle_timeout: 5m
    """,
)
_SHORTEST, _LONGEST = 0.1, 30.0
_IDLE_LONGEST = 1.0


@section
class Stream:
    """Reading an answer as it comes, instead of whole."""

    enabled: bool = field(
        default=False, doc="Read the body of one request as it comes, without an end."
    )
    reconnect: bool = field(
        default=True, doc="Ask again when the answer has ended. If not, the input ends with it."
    )
    codec: ScannerNode | None = field(
        default=None,
        deprecated=True,
        doc="An older way to name the scanner: `lines`, `delim:x`, `all-bytes`, `csv`, `gzip/csv`, ...",
    )
    max_buffer: int = field(
        default=1000000,
        deprecated=True,
        doc="Not used: records of a `codec` may have up to 64 MiB.",
    )
    scanner: ScannerNode | None = field(
        default=None,
        default_config="lines: {}",
        doc="How the bytes that come become messages.",
    )
    idle_timeout: Duration | None = field(
        default=None,
        ours=True,
        doc="Give the connection up, and ask again, when nothing came for this long. Empty waits for "
        "ever, also for a server that is gone without a word.",
        examples=["5m"],
    )


@input("http_client", categories=("Network",), examples=[POLL, FEED])
class HttpClientInput(HttpRequest):
    """Sends a request, makes a message of the answer's body, and sends the next one.

    Without a `rate_limit` the next request follows as soon as the message is handed over. Messages
    carry the metadata `http_status_code` and what `extract_headers` names; an answer in several parts
    (`multipart/*`) is a batch of as many messages. An answer without a body is no message, see
    `drop_empty_bodies`.

    Expressions in `url`, `headers` and `payload` see the message that was read last: its fields, its
    metadata; the first request sees an empty one. That is enough for simple paging.

    With `stream`, one request is sent, and its answer is read as it comes. When the connection is lost it
    is made again.

    A request that fails is repeated `retries` times as the fields say, then with pauses of up to 30
    seconds, not before `Retry-After`, for ever. The first failure is in the log.
    """

    url: Interpolated = field(doc="Address to ask.")
    verb: str = field(default="GET", doc="Method of the request.")
    payload: Interpolated | None = field(default=None, doc="What to send as the body.")
    drop_empty_bodies: bool = field(
        default=True,
        advanced=True,
        doc="An empty body, or an empty line of a stream, is no message.",
    )
    stream: Stream = field(
        default_factory=Stream, doc="Reading an answer as it comes, instead of whole."
    )
    auto_replay_nacks: bool = field(
        default=True, doc="Repeat messages that could not be delivered. There is no other way."
    )
    max_response_bytes: ByteSize = field(
        default=ByteSize("64MiB"),
        ours=True,
        advanced=True,
        doc="Bytes of a body at most; a larger one counts as a failed request.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller]:
        """Nothing is sent on opening."""
        most = int(self.max_response_bytes) + 1
        async with requester(self, env, max_connections=1, max_response_bytes=most) as asks:
            if not self.stream.enabled:
                yield _Polling(self, env, asks)
                return
            node = self.stream.codec or self.stream.scanner
            assert node is not None
            async with env.scanner(node) as scanner:
                reader = _Streaming(self, env, asks, scanner)
                try:
                    yield reader
                finally:
                    await reader.close()


class _Asking:
    """What both ways have in common: the message read last, and patience."""

    def __init__(self, config: HttpClientInput, env: Env, asks: Requester) -> None:
        self._config = config
        self._env = env
        self._asks = asks
        self._last: Batch = [Message(b"")]
        self._failures = 0
        self._failed = env.metrics.counter(
            "input_connection_failed", "Requests that failed after all their attempts."
        )

    def _payload(self) -> bytes | None:
        payload = self._config.payload
        return payload.resolve(self._last, 0).encode() if payload is not None else None

    async def _failed_with(self, error: Exception) -> None:
        """Say it once, and wait before the next try."""
        self._failed.add()
        self._failures += 1
        if self._failures == 1:
            self._env.log.warning("a request failed; trying again", error=str(error))
        pause = min(_LONGEST, _SHORTEST * 2 ** min(self._failures, 30))
        pause *= 0.5 + self._env.random() / 2
        if isinstance(error, Overloaded) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        await self._env.sleep(pause)

    def _worked(self) -> None:
        if self._failures:
            self._env.log.info("requests succeed again", failures=self._failures)
        self._failures = 0


class _Polling(_Asking):
    """One request, one message."""

    def __init__(self, config: HttpClientInput, env: Env, asks: Requester) -> None:
        super().__init__(config, env, asks)
        self._idle = _SHORTEST

    async def read(self) -> Delivery:
        while True:
            try:
                batch = await self._ask()
            except CollectorError as error:
                await self._failed_with(error)
                continue
            self._worked()
            if batch:
                self._idle = _SHORTEST
                self._last = batch
                return Delivery(batch)
            await self._env.sleep(self._idle)
            self._idle = min(_IDLE_LONGEST, self._idle * 2)

    async def _ask(self) -> Batch:
        done = await self._asks.exchange(self._last, 0, self._payload())
        if done.failure is not None:
            raise done.failure
        response = done.response
        assert response is not None
        most = int(self._config.max_response_bytes)
        if len(response.body) > most:
            raise Unreadable(
                f"the answer is larger than max_response_bytes ({most}); make that larger, or "
                "use `stream`"
            )
        metadata = {
            **self._config.extract_headers.select(response.headers),
            "http_status_code": response.status,
        }
        boundary = boundary_of(response.headers.get("content-type", ""))
        if boundary is not None:
            try:
                parts = split_multipart(response.body, boundary)
            except ValueError as error:
                raise Unreadable(f"the answer: {error}") from error
            return [Message(part, metadata) for part in parts]
        if not response.body and self._config.drop_empty_bodies:
            return []
        return [Message(response.body, metadata)]


class _Streaming(_Asking):
    """One answer, many messages."""

    def __init__(
        self, config: HttpClientInput, env: Env, asks: Requester, scanner: Scanner
    ) -> None:
        super().__init__(config, env, asks)
        self._scanner = scanner
        self._connection = AsyncExitStack()
        self._reading: Reading | None = None

    async def read(self) -> Delivery:
        while True:
            try:
                if self._reading is None:
                    self._reading = await self._connect()
                delivery = await self._reading.next()
            except CollectorError as error:
                await self.close()
                if isinstance(error, Unreadable) and not self._config.stream.reconnect:
                    raise
                await self._failed_with(error)
                continue
            if delivery is None:
                await self.close()
                if not self._config.stream.reconnect:
                    raise EndOfInput("the answer has ended")
                await self._env.sleep(_IDLE_LONGEST)
                continue
            self._worked()
            kept = self._kept(delivery)
            if kept is not None:
                self._last = kept.batch[-1:]
                return kept

    def _kept(self, delivery: Delivery) -> Delivery | None:
        if not self._config.drop_empty_bodies:
            return delivery
        batch = [message for message in delivery.batch if message.content]
        if not batch:
            delivery.settle(None)
            return None
        return Delivery(batch, delivery.settle, delivery.checkpoints)

    async def _connect(self) -> Reading:
        idle = self._config.stream.idle_timeout
        wait = None if idle is None else float(idle)
        stream = await self._connection.enter_async_context(
            self._asks.streamed(self._last, 0, self._payload(), wait)
        )
        metadata = {
            **self._config.extract_headers.select(stream.headers),
            "http_status_code": stream.status,
        }
        name = self._config.url.resolve(self._last, 0)
        reading = Reading(self._scanner, Source(name, stream.chunks, metadata))
        self._connection.push_async_callback(reading.close)
        return reading

    async def close(self) -> None:
        """End the request that is under way."""
        self._reading = None
        await self._connection.aclose()

"""Usage events over HTTP, as OpenMeter's own ingest API takes them.

An answer of 2xx means: every event of the request is in the buffer, and with the `sqlite` buffer that
means on disk with an fsync behind it. Anything else means: send it again, unless it says that the
request itself is wrong. Nothing in between is answered: no 408, no 502, no redirect, because the
official SDKs give up on those.

The request path is one function without a framework; what it does per request is all there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs

import orjson

from openmeter_collector.api import (
    AsgiReceive,
    AsgiSend,
    ByteSize,
    Delivery,
    Duration,
    Env,
    Example,
    Input,
    Intake,
    ListenOptions,
    Message,
    Overloaded,
    RateLimitRef,
    Respond,
    Scope,
    ShortWay,
    field,
    input,  # noqa: A004 - the word of the config language
)
from openmeter_collector.components.inputs.deadlines import Deadlines
from openmeter_collector.components.inputs.http_ingest import (
    NOT_TAKEN,
    Refusal,
    TlsFiles,
    TokenCheck,
    answer,
    decompress,
    read_body,
    refusal_of,
    retry_headers,
    send_whole,
    server_tls,
    too_large,
    whole_answer,
)
from openmeter_collector.values.cloudevent import Fault, Parsed, is_plain, parse_array, parse_single

# What the books call a request whose events were never looked at; it counts as one event.
_BREAKS_RULES: Final = "an event of the request breaks a rule"
_SMALL: Final = 64 << 10
_MOST_READING: Final = 256 << 20
"""Bytes that bodies larger than `_SMALL` may come to while they are on their way."""

DURABLE_INGEST = Example(
    "Take usage events and keep them on disk",
    """
    input:
      cloudevents:
        address: 0.0.0.0:8080
        tokens:
          - ${INGEST_TOKEN:change-me}
    buffer:
      sqlite:
        path: ./buffer.db
    output:
      openmeter:
        url: https://openmeter.cloud
        token: ${OPENMETER_TOKEN:}
    """,
)


@input("cloudevents", ours=True, since="0.1.0", categories=("Network",), examples=[DURABLE_INGEST])
class CloudEvents:
    """Takes usage events in CloudEvents JSON format from the OpenMeter SDKs and anything that speaks HTTP.

    Serves `POST /api/v1/events` (204) and `POST /api/v3/openmeter/events` (202), with the content
    types `application/cloudevents+json` (one event), `application/cloudevents-batch+json` (an array)
    and `application/json` (either), plain or compressed with gzip, deflate or zstd. Each event
    becomes one message with the sender's bytes; an event without `time` gets the time of receipt.

    A request is answered after its events are in the buffer. When there is no room, or the disk
    does not answer, the answer is 503 with `Retry-After`, which the official SDKs obey. When an
    event breaks a rule, the whole request is refused with 400 and every fault is named; with
    `partial` the good ones are kept and the answer says which were not.

    The `Authorization` header is compared and forgotten: it is not in the message.
    """

    every_worker: ClassVar[bool] = True

    address: str = field(default="0.0.0.0:8080", doc="Where to listen: `host:port`.")
    path: str = field(default="/api/v1/events", doc="Path of the v1 route; empty for none.")
    v3_path: str = field(
        default="/api/v3/openmeter/events", doc="Path of the v3 route; empty for none."
    )
    tokens: list[str] = field(
        default_factory=list,
        secret=True,
        doc="Bearer tokens that are accepted, for rotation several. A token may be given as "
        "`sha256:` and the hexadecimal SHA-256 of it. Empty: no token is asked for.",
    )
    tls: TlsFiles = field(default_factory=TlsFiles, doc="Serve HTTPS.", advanced=True)
    partial: bool = field(
        default=False,
        doc="Keep the good events of a request that has bad ones; also per request with "
        "`?partial=true`. The answer is then 200 with a list of what was refused.",
    )
    rate_limit: RateLimitRef = field(
        default="",
        doc="A rate limit resource, asked once per request; over it the answer is 429 with "
        "`Retry-After`.",
    )
    timeout: Duration = field(
        default=Duration("10s"),
        doc="How long a request waits for the buffer before it is answered 503.",
    )
    max_body_bytes: ByteSize = field(
        default=ByteSize("8MiB"), doc="Largest body, as it comes; larger is answered 413."
    )
    max_decompressed_bytes: ByteSize = field(
        default=ByteSize("32MiB"), doc="Largest body when decompressed; larger is answered 413."
    )
    max_header_bytes: ByteSize = field(
        default=ByteSize("32KiB"),
        doc="Largest request head; larger is answered 431.",
        advanced=True,
    )
    header_timeout: Duration = field(
        default=Duration("10s"), doc="Time for the request head to arrive.", advanced=True
    )
    body_timeout: Duration = field(
        default=Duration("30s"), doc="Time for the body to arrive.", advanced=True
    )
    idle_timeout: Duration = field(
        default=Duration("75s"), doc="How long a silent connection is kept.", advanced=True
    )
    max_connections: int = field(
        default=10_000, doc="More than this are answered 503 and closed.", advanced=True
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Bind the address; requests are answered once `run` has the intake."""
        yield _Server(self, env)


class _Server:
    def __init__(self, config: CloudEvents, env: Env) -> None:
        self._config = config
        self._env = env

    async def run(self, intake: Intake) -> None:
        config = self._config
        handler = _Handler(config, self._env, intake)
        options = ListenOptions(
            address=config.address,
            tls=server_tls(config.tls, "input.cloudevents"),
            max_connections=config.max_connections,
            max_header_bytes=config.max_header_bytes,
            header_timeout=config.header_timeout,
            body_timeout=config.body_timeout,
            idle_timeout=config.idle_timeout,
            short_way=handler.short_way,
        )
        async with self._env.listen(handler, options) as listener:
            self._env.log.info("taking events", address=listener.address)
            await handler.deadlines.run()


class _Handler:
    """The ASGI application, and the short way past it."""

    def __init__(self, config: CloudEvents, env: Env, intake: Intake) -> None:
        self._config = config
        self._env = env
        self._intake = intake
        self._offer = intake.offer
        self._tokens = TokenCheck(config.tokens, "input.cloudevents")
        self._limit = env.rate_limit(config.rate_limit) if config.rate_limit else None
        self._loop = asyncio.get_running_loop()
        self.deadlines = Deadlines(
            float(config.timeout), Overloaded("the buffer does not answer", 1.0)
        )
        self._reading = 0
        routes = {path: status for path, status in _routes(config) if path}
        self._success = {path: _empty_start(status) for path, status in routes.items()}
        self._short_success = {
            path.encode(): _SHORT_SUCCESS[status] for path, status in routes.items()
        }
        self.short_way = ShortWay(frozenset(self._short_success), _SMALL, self._take_short)
        self._accepted = env.metrics.counter("cloudevents_accepted", "Events answered with 2xx.")
        self._refused = env.metrics.counter(
            "cloudevents_refused", "Events or requests answered 4xx."
        )
        self._put_off = env.metrics.counter("cloudevents_put_off", "Requests answered 503 or 429.")

    def _take_short(
        self,
        path: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        client: tuple[str, int] | None,
        respond: Respond,
    ) -> bool:
        """See `ShortWay.take`. Takes what is right; what has a fault, or needs waiting before it can
        be looked at, is left to the application, which says everything about it.
        """
        del client
        content_type = authorization = b""
        for name, value in headers:
            if name == b"content-type":
                content_type = value
            elif name == b"authorization":
                authorization = value
            elif name == b"content-encoding":
                return False
        kind = _KINDS.get(content_type)
        if kind is None or self._limit is not None or len(body) > self._config.max_body_bytes:
            return False
        if self._tokens.active and not self._tokens.knows(authorization):
            return False
        if kind != "array" and is_plain(body):
            messages = [Message(body)]
        else:
            parsed = _PARSERS[kind](body, _stamp)
            if parsed.faults or not parsed.events:
                return False
            messages = [Message(event) for event in parsed.events]
        count = len(messages)

        def told(failure: Exception | None) -> None:
            if failure is None:
                self._accepted.add(count)
                respond(self._short_success[path])
            else:
                self._refuse_short(refusal_of(failure), respond)

        waiting = self.deadlines.waiting(told)
        try:
            self._offer(Delivery(messages, waiting.settle))
        except Overloaded as error:
            self._refuse_short(refusal_of(error), respond)
        else:
            self.deadlines.watch(waiting)
        return True

    def _refuse_short(self, refusal: Refusal, respond: Respond) -> None:
        self._count_refusal(refusal)
        respond(*whole_answer(refusal))

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        try:
            await self._take(scope, receive, send)
        except Refusal as refusal:
            if refusal.status in NOT_TAKEN and not isinstance(refusal, _RulesBroken):
                self._intake.refused([b""], NOT_TAKEN[refusal.status])
            await self._answer(send, refusal)
        except Exception as error:  # noqa: BLE001 - a defect of ours is no reason to give up
            self._env.log.error("a request could not be handled", error=repr(error))  # noqa: TRY400
            text = "the collector could not handle this request; it says why in its log"
            await self._answer(send, Refusal(503, text, retry_headers(None)))

    async def _answer(self, send: AsgiSend, refusal: Refusal) -> None:
        self._count_refusal(refusal)
        await answer(send, refusal)

    def _count_refusal(self, refusal: Refusal) -> None:
        (self._put_off if refusal.status in {429, 503} else self._refused).add()

    async def _take(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        success = self._success.get(scope["path"])
        if success is None:
            raise Refusal(404, f"nothing is served at {scope['path'][:200]}")
        if scope["method"] != "POST":
            raise Refusal(405, "only POST is served here", {"allow": "POST"})
        content_type = content_encoding = authorization = b""
        length = 0
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-length":
                length = int(value)
            elif name == b"authorization":
                authorization = value
            elif name == b"content-encoding":
                content_encoding = value
        if self._tokens.active:
            self._tokens.check(authorization)
        if self._limit is not None:
            await self._check_rate()
        if length > self._config.max_body_bytes:
            raise too_large(self._config.max_body_bytes)
        body = await self._read(receive, length)
        if content_encoding:
            body = decompress(body, content_encoding, self._config.max_decompressed_bytes)
        parsed = _parse(body, content_type)
        if parsed.faults:
            await self._take_some(scope, send, parsed)
            return
        if parsed.events:
            await self._store(parsed.events)
        await send(success)
        await send(_EMPTY_BODY)

    async def _read(self, receive: AsgiReceive, length: int) -> bytes:
        """The body; what many slow senders together may make us hold is bounded."""
        most = self._config.max_body_bytes
        if 0 < length <= _SMALL:
            return await read_body(receive, most)
        expected = length or most
        if self._reading and self._reading + expected > _MOST_READING:
            raise Refusal(503, "too many large bodies are on their way", retry_headers(None))
        self._reading += expected
        try:
            return await read_body(receive, most)
        finally:
            self._reading -= expected

    async def _store(self, events: list[bytes]) -> None:
        """Hand over and wait until the events are safe."""
        loop = self._loop
        safe: asyncio.Future[Exception | None] = loop.create_future()

        def told(failure: Exception | None) -> None:
            if not safe.done():
                safe.set_result(failure)

        waiting = self.deadlines.waiting(told)
        delivery = Delivery([Message(event) for event in events], waiting.settle)
        try:
            self._offer(delivery)
        except Overloaded as error:
            raise Refusal(503, str(error), retry_headers(error.retry_after)) from error
        self.deadlines.watch(waiting)
        failure = await safe
        if failure is not None:
            raise refusal_of(failure)
        self._accepted.add(len(events))

    async def _take_some(self, scope: Scope, send: AsgiSend, parsed: Parsed) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        wants = self._config.partial or query.get("partial") == ["true"]
        if not wants or not parsed.events:
            self._intake.refused([*parsed.bad, *parsed.events] or [b""], _BREAKS_RULES)
            raise _RulesBroken(400, _summary(parsed.faults), extra=_fault_list(parsed.faults))
        await self._store(parsed.events)
        self._intake.refused(parsed.bad, _BREAKS_RULES)
        bad = {fault.index for fault in parsed.faults}
        self._refused.add(len(bad))
        answer = {"accepted": len(parsed.events), "refused": len(bad)}
        body = orjson.dumps(answer | _fault_list(parsed.faults))
        await send_whole(send, 200, body, {"content-type": "application/json"})

    async def _check_rate(self) -> None:
        assert self._limit is not None
        wait = await self._limit.access()
        if wait > 0:
            raise Refusal(429, "more requests than the rate limit allows", retry_headers(wait))


class _RulesBroken(Refusal):
    """Events of the request break rules; they are counted by themselves."""


def _parse(body: bytes, content_type: bytes) -> Parsed:
    kind = _KINDS.get(content_type) or _KINDS.get(content_type.partition(b";")[0].strip().lower())
    if kind is None:
        shown = content_type.decode("latin-1")[:200]
        raise Refusal(400, f"invalid content type: {shown!r}; send one of {', '.join(_TYPES)}")
    parsed = _PARSERS[kind](body, _stamp)
    if kind == "either" and not parsed.count and not parsed.faults:
        raise Refusal(400, "no events found")
    return parsed


def _parse_either(body: bytes, stamp: Callable[[], str]) -> Parsed:
    if body.lstrip(b" \t\r\n").startswith(b"["):
        return parse_array(body, stamp)
    return parse_single(body, stamp)


_PARSERS: Final = {"single": parse_single, "array": parse_array, "either": _parse_either}


_TYPES: Final = (
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/json",
)
_KINDS: Final = dict(
    zip((name.encode() for name in _TYPES), ("single", "array", "either"), strict=True)
)


def _stamp() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _summary(faults: Sequence[Fault]) -> str:
    """The first faults in words; the list beside it has them all."""
    shown = "; ".join(str(fault) for fault in faults[:5])
    more = len(faults) - 5
    return f"{shown}; and {more} more" if more > 0 else shown


def _fault_list(faults: Iterable[Fault]) -> dict[str, Any]:
    return {
        "errors": [
            {"index": fault.index, "field": fault.field, "detail": str(fault)} for fault in faults
        ]
    }


# ---- answers ----------------------------------------------------------------------------------

_EMPTY_BODY: Final = {"type": "http.response.body", "body": b""}
_SHORT_SUCCESS: Final = {
    204: b"HTTP/1.1 204 No Content\r\n",
    202: b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n",
}


def _routes(config: CloudEvents) -> tuple[tuple[str, int], ...]:
    return (config.path, 204), (config.v3_path, 202)


def _empty_start(status: int) -> dict[str, Any]:
    headers = [] if status == 204 else [(b"content-length", b"0")]
    return {"type": "http.response.start", "status": status, "headers": headers}

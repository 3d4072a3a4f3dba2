"""Messages over HTTP and WebSocket, with answers made by the pipeline.

Under the config of the component it is named after, with its promises made true: 2xx means that the
message is where the pipeline makes it safe (the buffer, or the output when there is none), and a sender
that should try again is told so with 503 and `Retry-After`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from openmeter_collector.api import (
    AsgiReceive,
    AsgiSend,
    Batch,
    ByteSize,
    ConfigError,
    Delivery,
    Duration,
    Env,
    Example,
    Input,
    Intake,
    ListenOptions,
    Message,
    Metadata,
    Overloaded,
    RateLimitRef,
    Respond,
    ResponseStore,
    Scope,
    ShortWay,
    field,
    input,  # noqa: A004 - the word of the config language
    section,
)
from openmeter_collector.components.inputs.deadlines import Deadlines
from openmeter_collector.components.inputs.http_ingest import (
    NOT_TAKEN,
    Refusal,
    TlsFiles,
    TokenCheck,
    answer,
    decompress,
    head_of,
    read_body,
    refusal_of,
    retry_headers,
    send_whole,
    server_tls,
    too_large,
    whole_answer,
)
from openmeter_collector.components.inputs.http_messages import (
    Headers,
    is_plain_path,
    messages_of,
    metadata_of,
    path_matcher,
)
from openmeter_collector.components.inputs.sync_response import Responses, SyncResponse
from openmeter_collector.components.inputs.webhook_signature import (
    NotVerified,
    Verifier,
    Verify,
    verifier,
)

ANSWERING = Example(
    "Take events and answer with what the pipeline decides",
    """
    input:
      http_server:
        address: 0.0.0.0:8080
        path: /api/v1/events
        timeout: 10s
        sync_response:
          status: "204"
    """,
)
WEBHOOKS = Example(
    "Take Stripe's webhooks, and nobody else's",
    """
    input:
      http_server:
        address: 0.0.0.0:8080
        path: /webhooks/stripe
        verify:
          stripe:
            secrets: ["${STRIPE_WEBHOOK_SECRET}"]
    """,
)


@section
class Cors:
    """Cross-origin requests."""

    enabled: bool = field(default=False, doc="Answer preflight requests and allow origins.")
    allowed_origins: list[str] = field(
        default_factory=list, doc="Origins that are allowed; `*` for all."
    )


@section
class Tcp:
    """Options of the listening socket."""

    reuse_addr: bool = field(default=False, doc="Accepted; it is always set.")
    reuse_port: bool = field(default=False, doc="Let several processes share the port.")


@input("http_server", since="0.1.0", categories=("Network",), examples=[ANSWERING, WEBHOOKS])
class HttpServer:
    """Takes messages over HTTP. The whole body of a request is one message; of a `multipart` one, each part is.

    A request is answered when its messages are acknowledged: with what a `sync_response` stored, or
    with 200 and nothing. When they cannot be taken now, the answer is 503 with `Retry-After`.

    Metadata: `http_server_user_agent`, `http_server_request_path`, `http_server_verb`,
    `http_server_remote_ip`, with TLS `http_server_tls_version`, `_tls_subject` and
    `_tls_cipher_suite`; all headers by their canonical names (except `Authorization` and
    `Proxy-Authorization`), query and path parameters, and cookies. What a client chooses never
    replaces what was there before it in this list.

    With an empty `address` the paths are served on the collector's own HTTP service.
    """

    address: str = field(default="", doc="`host:port`; empty for the collector's own service.")
    path: str = field(
        default="/post",
        doc="Path to serve; `{name}` stands for a segment that becomes metadata, a final `/` for "
        "everything below. Empty serves no HTTP.",
    )
    ws_path: str = field(
        default="/post/ws",
        doc="Path for WebSocket connections, each frame a message. Served when it is set in the "
        "config and `address` is, too.",
    )
    ws_welcome_message: str = field(
        default="", advanced=True, doc="First frame sent to each WebSocket client."
    )
    ws_rate_limit_message: str = field(
        default="", advanced=True, doc="Frame sent for a frame that the rate limit turned away."
    )
    allowed_verbs: list[str] = field(
        default_factory=lambda: ["POST"], doc="Methods that are served; one at least."
    )
    timeout: Duration = field(
        default=Duration("5s"), doc="How long a request waits for its acknowledgement."
    )
    rate_limit: RateLimitRef = field(default="", doc="A rate limit resource, asked per request.")
    cert_file: str = field(
        default="", file=bool, advanced=True, doc="Certificate, PEM; needs `address`."
    )
    key_file: str = field(default="", file=bool, advanced=True, doc="Its private key, PEM.")
    cors: Cors = field(default_factory=Cors, advanced=True, doc="Cross-origin requests.")
    sync_response: SyncResponse = field(
        default_factory=SyncResponse, doc="How responses from the pipeline are sent."
    )
    tcp: Tcp = field(default_factory=Tcp, advanced=True, doc="Options of the listening socket.")
    client_ca_file: str = field(
        default="",
        file=bool,
        ours=True,
        advanced=True,
        doc="Authorities of client certificates; clients without one are refused (mTLS).",
    )
    tokens: list[str] = field(
        default_factory=list,
        secret=True,
        ours=True,
        doc="Bearer tokens that are accepted, plain or as `sha256:` and their hash. Empty: none is "
        "asked for.",
    )
    verify: Verify = field(
        default_factory=Verify,
        ours=True,
        doc="Signatures that requests must have. What has none, or a wrong or old one, is answered 401 "
        "before it is looked at in any other way, and counted in `webhook_refused`.",
    )
    max_body_bytes: ByteSize = field(
        default=ByteSize("32MiB"), ours=True, doc="Largest body; larger is answered 413."
    )
    decode_body: bool = field(
        default=False,
        ours=True,
        doc="Undo `Content-Encoding` (gzip, deflate, zstd) before the pipeline sees the body.",
    )
    max_connections: int = field(
        default=10_000, ours=True, advanced=True, doc="More than this are answered 503."
    )

    @property
    def every_worker(self) -> bool:
        """A port of its own is shared; the collector's own service is another one in each worker."""
        return bool(self.address)

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Check what can be checked; the address is bound by `run`."""
        if not self.allowed_verbs:
            raise ConfigError(f"{env.node.where} allowed_verbs is empty; name one method at least")
        verify = verifier(self.verify, f"{env.node.where} http_server")
        if verify is not None and self.ws_path not in {"", _DEFAULT_WS_PATH}:
            raise ConfigError(
                f"{env.node.where} http_server: frames of ws_path carry no signatures; remove ws_path or "
                "verify"
            )
        yield _Server(self, env, verify)


class _Server:
    def __init__(self, config: HttpServer, env: Env, verify: Verifier | None) -> None:
        self._config = config
        self._env = env
        self._verify = verify

    async def run(self, intake: Intake) -> None:
        config = self._config
        handler = _Handler(config, self._env, intake, self._verify)
        async with self._serve(handler):
            await handler.deadlines.run()

    def _serve(self, handler: _Handler) -> AbstractAsyncContextManager[Any]:
        config = self._config
        if not config.address:
            return self._env.mount([config.path] if config.path else [], handler)
        files = TlsFiles(
            cert_file=config.cert_file,
            key_file=config.key_file,
            client_ca_file=config.client_ca_file,
        )
        tls = server_tls(files, self._env.node.path)
        options = ListenOptions(
            address=config.address,
            tls=tls,
            # What is known about TLS comes with a scope only.
            short_way=handler.short_way() if tls is None else None,
            max_connections=config.max_connections,
            reuse_port=config.tcp.reuse_port,
            websocket=handler.serves_websocket,
            max_websocket_frame=config.max_body_bytes,
        )
        return self._env.listen(handler, options)


class _Handler:
    """The ASGI application."""

    def __init__(
        self, config: HttpServer, env: Env, intake: Intake, verify: Verifier | None
    ) -> None:
        self._config = config
        self._intake = intake
        self._verify = verify
        self._now = env.now
        self._refused = env.metrics.counter("webhook_refused", "Requests that were not verified.")
        self._match = path_matcher(config.path)
        # Upstream leaves /post/ws open beside whatever path is configured; here a door is only
        # opened by name.
        wanted = config.ws_path and config.ws_path != _DEFAULT_WS_PATH
        self._match_ws = path_matcher(config.ws_path) if wanted else None
        self._responses = Responses(config.sync_response)
        self._log = env.log
        self._tokens = TokenCheck(config.tokens, env.node.path)
        self._limit = env.rate_limit(config.rate_limit) if config.rate_limit else None
        self._verbs = frozenset(verb.upper() for verb in config.allowed_verbs)
        self.deadlines = Deadlines(float(config.timeout), Overloaded("Request timed out", 1.0))
        self._loop = asyncio.get_running_loop()

    def short_way(self) -> ShortWay | None:
        """For requests of which all is known at once, and that need not wait to be taken."""
        config = self._config
        waits = self._limit is not None or config.cors.enabled
        if waits or not is_plain_path(config.path) or "POST" not in self._verbs:
            return None
        most = min(_SMALL, int(config.max_body_bytes))
        return ShortWay(frozenset([config.path.encode()]), most, self._take_short)

    def _take_short(
        self,
        path: bytes,
        raw: Sequence[tuple[bytes, bytes]],
        body: bytes,
        client: tuple[str, int] | None,
        respond: Respond,
    ) -> bool:
        """See `ShortWay.take`. Whatever is to be refused is left to the application."""
        headers = Headers(raw)
        if headers.get("content-type")[:10].lower().startswith("multipart"):
            return False
        if self._config.decode_body and headers.get("content-encoding"):
            return False
        if self._tokens.active and not self._tokens.knows(
            headers.get("authorization").encode("latin-1")
        ):
            return False
        if self._verify is not None:
            try:
                self._verify(headers, body, self._now())
            except NotVerified:
                return False
        store = ResponseStore()
        scope = {"path": path.decode("latin-1"), "method": "POST", "client": client}
        message = Message(body, metadata_of(scope, headers, {}), context=store)

        def told(failure: Exception | None) -> None:
            if failure is not None:
                refusal = refusal_of(failure)
                self._enter(refusal)
                respond(*whole_answer(refusal))
            else:
                respond(*self._short_answer(store, headers))

        waiting = self.deadlines.waiting(told)
        try:
            self._intake.offer(Delivery([message], waiting.settle))
        except Overloaded as error:
            respond(*whole_answer(refusal_of(error)))
        else:
            self.deadlines.watch(waiting)
        return True

    def _short_answer(self, store: ResponseStore, headers: Headers) -> tuple[bytes, bytes]:
        try:
            status, body, shown = self._responses.made(store, headers.get("accept-encoding"))
        except Refusal as refusal:
            return whole_answer(refusal)
        except Exception as error:  # noqa: BLE001 - a defect of ours; who settles must not see it
            self._log.error("a request could not be answered", error=repr(error))
            return whole_answer(Refusal(503, "the collector could not answer", retry_headers(None)))
        return head_of(status, shown, len(body)), body

    @property
    def serves_websocket(self) -> bool:
        """Whether upgrades are accepted."""
        return self._match_ws is not None

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] == "websocket":
            await self._talk(scope, receive, send)
            return
        headers = Headers(scope["headers"])
        extra = self._cors_headers(headers)
        try:
            if extra and scope["method"] == "OPTIONS":
                await send_whole(send, 204, b"", extra)
                return
            store = await self._take(scope, headers, receive)
            status, body, shown = self._responses.made(store, headers.get("accept-encoding"))
            await send_whole(send, status, body, shown | extra)
        except Refusal as refusal:
            self._enter(refusal)
            refusal.headers = {**refusal.headers, **extra}
            await answer(send, refusal)

    def _enter(self, refusal: Refusal) -> None:
        """Count in the books what is turned away and will not come again."""
        reason = _NOT_SIGNED if isinstance(refusal, _NotSigned) else NOT_TAKEN.get(refusal.status)
        if reason is not None:
            # Under no names: those of a stranger's body are the stranger's choice.
            self._intake.refused([b""], reason)

    async def _take(self, scope: Scope, headers: Headers, receive: AsgiReceive) -> ResponseStore:
        parameters = self._match(scope["path"]) if self._match else None
        if parameters is None:
            raise Refusal(404, f"nothing is served at {scope['path'][:200]}")
        if scope["method"] not in self._verbs:
            raise Refusal(405, "Incorrect method", {"allow": ", ".join(sorted(self._verbs))})
        if self._tokens.active:
            self._tokens.check(headers.get("authorization").encode("latin-1"))
        if self._verify is None:
            await self._check_rate()
        most = self._config.max_body_bytes
        if int(headers.get("content-length") or 0) > most:
            raise too_large(most)
        body = await read_body(receive, most)
        if self._verify is not None:
            self._check_signature(headers, body)
            # Not before: strangers would use up the rate of those who are let in.
            await self._check_rate()
        encoding = headers.get("content-encoding")
        if encoding and self._config.decode_body:
            body = decompress(body, encoding.encode("latin-1"), most)
        store = ResponseStore()
        metadata = metadata_of(scope, headers, parameters)
        await self._deliver(messages_of(body, headers.get("content-type"), metadata, store))
        return store

    async def _deliver(self, batch: Batch) -> None:
        safe: asyncio.Future[Exception | None] = self._loop.create_future()

        def told(failure: Exception | None) -> None:
            if not safe.done():
                safe.set_result(failure)

        waiting = self.deadlines.waiting(told)
        try:
            self._intake.offer(Delivery(batch, waiting.settle))
        except Overloaded as error:
            raise refusal_of(error) from error
        self.deadlines.watch(waiting)
        failure = await safe
        if failure is not None:
            raise refusal_of(failure)

    def _check_signature(self, headers: Headers, body: bytes) -> None:
        assert self._verify is not None
        try:
            self._verify(headers, body, self._now())
        except NotVerified as error:
            self._refused.add()
            raise _NotSigned(401, str(error)) from error

    async def _check_rate(self) -> None:
        if self._limit is None:
            return
        wait = await self._limit.access()
        if wait > 0:
            raise Refusal(429, "Too Many Requests", retry_headers(wait))

    def _cors_headers(self, headers: Headers) -> dict[str, str]:
        cors = self._config.cors
        origin = headers.get("origin")
        if not (cors.enabled and origin):
            return {}
        if origin not in cors.allowed_origins and "*" not in cors.allowed_origins:
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-allow-methods": ", ".join(sorted(self._verbs)),
            "access-control-allow-headers": headers.get("access-control-request-headers") or "*",
            "vary": "Origin",
        }

    # ---- WebSocket ---------------------------------------------------------------------------

    async def _talk(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        headers = Headers(scope["headers"])
        parameters = self._match_ws(scope["path"]) if self._match_ws else None
        await receive()  # websocket.connect
        try:
            if self._tokens.active:
                self._tokens.check(headers.get("authorization").encode("latin-1"))
        except Refusal:
            parameters = None
        if parameters is None:
            await send({"type": "websocket.close", "code": 1008})
            return
        await send({"type": "websocket.accept"})
        if self._config.ws_welcome_message:
            await send({"type": "websocket.send", "text": self._config.ws_welcome_message})
        metadata = metadata_of({**scope, "method": "GET"}, headers, parameters)
        while (frame := await receive())["type"] == "websocket.receive":
            body = frame.get("bytes") or (frame.get("text") or "").encode()
            await self._frame(body, metadata, send)

    async def _frame(self, body: bytes, metadata: Metadata, send: AsgiSend) -> None:
        """Keep trying with this frame until it is safe: a WebSocket has no way to say "again"."""
        if self._limit is not None and await self._limit.access() > 0:
            self._intake.refused([b""], _OVER_RATE)  # a frame does not come again by itself
            if self._config.ws_rate_limit_message:
                await send({"type": "websocket.send", "text": self._config.ws_rate_limit_message})
            return
        while True:
            store = ResponseStore()
            try:
                await self._deliver([Message(body, metadata, context=store)])
            except Refusal as refusal:
                if refusal.status == 503:
                    await asyncio.sleep(1.0)
                    continue
                self._enter(refusal)
                await send({"type": "websocket.send", "text": refusal.detail})
                return
            for batch in store.batches:
                for message in batch:
                    text = message.content.decode(errors="replace")
                    await send({"type": "websocket.send", "text": text})
            return


class _NotSigned(Refusal):
    """There is no signature, or a wrong or old one."""


_NOT_SIGNED: Final = "no valid signature"
_OVER_RATE: Final = "more than the rate limit allows"
_DEFAULT_WS_PATH: Final = "/post/ws"
_SMALL: Final = 64 << 10

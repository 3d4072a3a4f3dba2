"""Messages over HTTP and WebSocket, with answers made by the pipeline.

Under the config of the component it is named after, with its promises made true: 2xx means that the
message is where the pipeline makes it safe (the buffer, or the output when there is none), and a sender
that should try again is told so with 503 and `Retry-After`.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http.cookies import CookieError, SimpleCookie
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
    Interpolated,
    ListenOptions,
    Message,
    Metadata,
    MetadataFilter,
    Overloaded,
    RateLimitRef,
    ResponseStore,
    Scope,
    field,
    input,  # noqa: A004 - the word of the config language
    section,
)
from openmeter_collector.components.inputs.http_ingest import (
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
)
from openmeter_collector.values.multipart import boundary_of, join_multipart, split_multipart

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


@section
class SyncResponse:
    """How responses that the pipeline stored are sent."""

    status: Interpolated = field(
        default_factory=lambda: Interpolated("200"), doc="Status code; taken from message 0."
    )
    headers: dict[str, Interpolated] = field(
        default_factory=lambda: {"Content-Type": Interpolated("application/octet-stream")},
        doc="Headers; taken from message 0.",
    )
    metadata_headers: MetadataFilter = field(
        default_factory=MetadataFilter,
        doc="Metadata of the response message to send as headers.",
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


@input("http_server", since="0.1.0", categories=("Network",), examples=[ANSWERING])
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
    cert_file: str = field(default="", advanced=True, doc="Certificate, PEM; needs `address`.")
    key_file: str = field(default="", advanced=True, doc="Its private key, PEM.")
    cors: Cors = field(default_factory=Cors, advanced=True, doc="Cross-origin requests.")
    sync_response: SyncResponse = field(
        default_factory=SyncResponse, doc="How responses from the pipeline are sent."
    )
    tcp: Tcp = field(default_factory=Tcp, advanced=True, doc="Options of the listening socket.")
    client_ca_file: str = field(
        default="",
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

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Check what can be checked; the address is bound by `run`."""
        if not self.allowed_verbs:
            raise ConfigError(f"{env.node.where} allowed_verbs is empty; name one method at least")
        yield _Server(self, env)


class _Server:
    def __init__(self, config: HttpServer, env: Env) -> None:
        self._config = config
        self._env = env

    async def run(self, intake: Intake) -> None:
        config = self._config
        handler = _Handler(config, self._env, intake)
        async with self._serve(handler):
            await asyncio.Event().wait()

    def _serve(self, handler: _Handler) -> AbstractAsyncContextManager[Any]:
        config = self._config
        if not config.address:
            return self._env.mount([config.path] if config.path else [], handler)
        files = TlsFiles(
            cert_file=config.cert_file,
            key_file=config.key_file,
            client_ca_file=config.client_ca_file,
        )
        options = ListenOptions(
            address=config.address,
            tls=server_tls(files, self._env.node.path),
            max_connections=config.max_connections,
            reuse_port=config.tcp.reuse_port,
            websocket=handler.serves_websocket,
            max_websocket_frame=config.max_body_bytes,
        )
        return self._env.listen(handler, options)


class _Handler:
    """The ASGI application."""

    def __init__(self, config: HttpServer, env: Env, intake: Intake) -> None:
        self._config = config
        self._intake = intake
        self._match = _path_matcher(config.path)
        # Upstream leaves /post/ws open beside whatever path is configured; here a door is only
        # opened by name.
        wanted = config.ws_path and config.ws_path != _DEFAULT_WS_PATH
        self._match_ws = _path_matcher(config.ws_path) if wanted else None
        self._tokens = TokenCheck(config.tokens, env.node.path)
        self._limit = env.rate_limit(config.rate_limit) if config.rate_limit else None
        self._verbs = frozenset(verb.upper() for verb in config.allowed_verbs)
        self._timeout = float(config.timeout)

    @property
    def serves_websocket(self) -> bool:
        """Whether upgrades are accepted."""
        return self._match_ws is not None

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] == "websocket":
            await self._talk(scope, receive, send)
            return
        headers = _Headers(scope["headers"])
        extra = self._cors_headers(headers)
        try:
            if extra and scope["method"] == "OPTIONS":
                await send_whole(send, 204, b"", extra)
                return
            store = await self._take(scope, headers, receive)
            status, body, shown = self._response(store)
            if body and "gzip" in headers.get("accept-encoding"):
                body = gzip.compress(body, 3, mtime=0)
                shown["content-encoding"] = "gzip"
            await send_whole(send, status, body, shown | extra)
        except Refusal as refusal:
            refusal.headers = {**refusal.headers, **extra}
            await answer(send, refusal)

    async def _take(self, scope: Scope, headers: _Headers, receive: AsgiReceive) -> ResponseStore:
        parameters = self._match(scope["path"]) if self._match else None
        if parameters is None:
            raise Refusal(404, f"nothing is served at {scope['path'][:200]}")
        if scope["method"] not in self._verbs:
            raise Refusal(405, "Incorrect method", {"allow": ", ".join(sorted(self._verbs))})
        if self._tokens.active:
            self._tokens.check(headers.get("authorization").encode("latin-1"))
        await self._check_rate()
        most = self._config.max_body_bytes
        if int(headers.get("content-length") or 0) > most:
            raise too_large(most)
        body = await read_body(receive, most)
        encoding = headers.get("content-encoding")
        if encoding and self._config.decode_body:
            body = decompress(body, encoding.encode("latin-1"), most)
        store = ResponseStore()
        metadata = _metadata(scope, headers, parameters)
        await self._deliver(_messages(body, headers.get("content-type"), metadata, store))
        return store

    async def _deliver(self, batch: Batch) -> None:
        safe: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def settle(failure: Exception | None) -> None:
            if not safe.done():
                safe.set_result(failure)

        try:
            self._intake.offer(Delivery(batch, settle))
            async with asyncio.timeout(self._timeout):
                failure = await safe
        except Overloaded as error:
            raise Refusal(503, str(error), retry_headers(error.retry_after)) from error
        except TimeoutError as error:
            raise Refusal(503, "Request timed out", retry_headers(1.0)) from error
        if failure is not None:
            raise refusal_of(failure)

    async def _check_rate(self) -> None:
        if self._limit is None:
            return
        wait = await self._limit.access()
        if wait > 0:
            raise Refusal(429, "Too Many Requests", retry_headers(wait))

    # ---- answers -----------------------------------------------------------------------------

    def _response(self, store: ResponseStore) -> tuple[int, bytes, dict[str, str]]:
        batch = [message for stored in store.batches for message in stored]
        if not batch:
            return 200, b"", {}
        config = self._config.sync_response
        text = config.status.resolve(batch, 0)
        if not text.isascii() or not text.isdigit() or not 100 <= int(text) <= 599:
            raise Refusal(503, f"sync_response.status gave {text!r}; a status code is expected")
        headers = {
            name.lower(): _one_line(value.resolve(batch, 0))
            for name, value in config.headers.items()
        }
        headers |= {
            name.lower(): _one_line(str(value))
            for name, value in config.metadata_headers.select(batch[0].metadata).items()
        }
        if text in _WITHOUT_BODY:
            # A stored message is often only there to say the status: its content is not for these.
            return int(text), b"", headers
        if len(batch) == 1:
            return int(text), batch[0].content, headers
        kind, body = join_multipart([message.content for message in batch])
        return int(text), body, headers | {"content-type": kind}

    def _cors_headers(self, headers: _Headers) -> dict[str, str]:
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
        headers = _Headers(scope["headers"])
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
        metadata = _metadata({**scope, "method": "GET"}, headers, parameters)
        while (frame := await receive())["type"] == "websocket.receive":
            body = frame.get("bytes") or (frame.get("text") or "").encode()
            await self._frame(body, metadata, send)

    async def _frame(self, body: bytes, metadata: Metadata, send: AsgiSend) -> None:
        """Keep trying with this frame until it is safe: a WebSocket has no way to say "again"."""
        if self._limit is not None and await self._limit.access() > 0:
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
                await send({"type": "websocket.send", "text": refusal.detail})
                return
            for batch in store.batches:
                for message in batch:
                    text = message.content.decode(errors="replace")
                    await send({"type": "websocket.send", "text": text})
            return


_DEFAULT_WS_PATH: Final = "/post/ws"
_WITHOUT_BODY: Final = frozenset({"204", "205", "304"})
_NOT_KEPT: Final = frozenset({"authorization", "proxy-authorization"})


class _Headers:
    """Request headers; the first value of each counts."""

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self.values: dict[str, str] = {}
        for name, value in raw:
            self.values.setdefault(name.decode("latin-1"), value.decode("latin-1"))

    def get(self, name: str) -> str:
        """A value by its lower-case name, empty when it is not there."""
        return self.values.get(name, "")


def _messages(body: bytes, content_type: str, metadata: Metadata, store: ResponseStore) -> Batch:
    if not content_type.lower().lstrip().startswith("multipart/"):
        return [Message(body, metadata, context=store)]
    boundary = boundary_of(content_type)
    if boundary is None:
        raise Refusal(400, "Bad request: the multipart content type has no boundary")
    try:
        parts = split_multipart(body, boundary)
    except ValueError as error:
        raise Refusal(400, f"Bad request: {error}") from error
    if not parts:
        raise Refusal(400, "Bad request: the multipart body has no parts")
    return [Message(part, metadata, context=store) for part in parts]


def _metadata(scope: Scope, headers: _Headers, parameters: Mapping[str, str]) -> Metadata:
    """What is known about a request. Filled from the least trusted to the most, so that a query
    parameter named like a header, or like our own keys, replaces neither.
    """
    metadata: dict[str, Any] = dict(_cookies(headers.get("cookie")))
    metadata |= _query(scope["query_string"])
    metadata |= parameters
    metadata |= {
        _canonical(name): value for name, value in headers.values.items() if name not in _NOT_KEPT
    }
    client = scope.get("client")
    metadata |= {
        "http_server_user_agent": headers.get("user-agent"),
        "http_server_request_path": scope["path"],
        "http_server_verb": scope["method"],
        "http_server_remote_ip": client[0] if client else "",
    }
    metadata |= scope.get("state", {}).get("tls", {})
    return metadata


def _query(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in urllib.parse.parse_qsl(
        raw.decode("latin-1"), keep_blank_values=True, max_num_fields=1000
    ):
        found.setdefault(name, value)
    return found


def _cookies(header: str) -> dict[str, str]:
    if not header:
        return {}
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def _canonical(name: str) -> str:
    """`content-type` as `Content-Type`, the form in which mappings ask for headers."""
    return "-".join(part.capitalize() for part in name.split("-"))


def _one_line(value: str) -> str:
    """A header value may come from a message: it must not bring headers of its own."""
    return value.replace("\r", " ").replace("\n", " ")


def _path_matcher(path: str) -> Callable[[str], dict[str, str] | None] | None:
    """What a request path gives for its `{parameters}`, or None when it does not match."""
    if not path:
        return None
    parts = re.split(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([^{}]*))?\}", path)
    pattern = re.escape(parts[0])
    for name, rule, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        pattern += f"(?P<{name}>{rule or '[^/]+'})" + re.escape(text)
    compiled = re.compile(pattern + (".*" if path.endswith("/") else ""))

    def match(requested: str) -> dict[str, str] | None:
        found = compiled.fullmatch(requested)
        return found.groupdict() if found else None

    return match

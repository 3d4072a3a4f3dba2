"""Sends messages to an HTTP server of any kind.

A batch is one request only when it was made one message (an `archive` in the batching policy) or with
`batch_as_multipart`; otherwise its messages are sent one by one, and those that were delivered before one
failed are not sent again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from openmeter_collector.api import (
    Authorizer,
    Batch,
    BatchFailed,
    BatchPolicy,
    ClientTls,
    Duration,
    Env,
    Example,
    HttpBasicAuth,
    HttpClient,
    HttpResponse,
    Interpolated,
    Jwt,
    Message,
    MetadataFilter,
    OAuth,
    OAuth2,
    Output,
    Overloaded,
    Paused,
    RateLimitRef,
    Rejected,
    Retryable,
    field,
    output,
    respond,
    retry_after,
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

_OF_THE_DATA = frozenset({400, 413, 422})
_LATER = frozenset({408, 425, 429})
_SHOWN = 2_000


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
class HttpClientOutput:
    """Sends each message as the body of a request.

    A status in `successful_on` or 2xx delivers. One in `drop_on` ends the attempts at once; one in
    `backoff_on` is tried again after growing pauses, any other after `retry_period`, `retries`
    times, and never before `Retry-After`. What has still failed then is failed for whoever comes
    after: at the root of a config, 400, 413, 422 and what `drop_on` names become dead letters once
    the message is alone, other 4xx pause delivery, everything else is tried again for ever.
    """

    url: Interpolated = field(doc="Address to send to.")
    verb: str = field(default="POST", doc="Method of the request.")
    headers: dict[str, Interpolated] = field(
        default_factory=dict, doc="Headers of the request, made from its first message."
    )
    metadata: MetadataFilter = field(
        default_factory=MetadataFilter, advanced=True, doc="Metadata to send as headers."
    )
    dump_request_log_level: str = field(
        default="",
        advanced=True,
        doc="Level at which each request is logged: method, address, status and sizes. Never "
        "headers or bodies, which hold secrets and other people's data.",
    )
    oauth: OAuth = field(default_factory=OAuth, advanced=True, doc="OAuth 1.0 signing.")
    oauth2: OAuth2 = field(default_factory=OAuth2, advanced=True, doc="OAuth 2.0 tokens.")
    basic_auth: HttpBasicAuth = field(
        default_factory=HttpBasicAuth, advanced=True, doc="User name and password."
    )
    jwt: Jwt = field(default_factory=Jwt, advanced=True, doc="A signed token.")
    tls: ClientTls = field(default_factory=ClientTls, advanced=True, doc="TLS settings.")
    extract_headers: MetadataFilter = field(
        default_factory=MetadataFilter,
        advanced=True,
        doc="Response headers to put into the metadata of a propagated response.",
    )
    rate_limit: RateLimitRef = field(default="", doc="A rate limit resource, asked per request.")
    timeout: Duration = field(default=Duration("5s"), doc="Time for a request and its answer.")
    retry_period: Duration = field(
        default=Duration("1s"), advanced=True, doc="Pause between attempts."
    )
    max_retry_backoff: Duration = field(
        default=Duration("300s"), advanced=True, doc="Longest pause between attempts."
    )
    retries: int = field(default=3, minimum=0, advanced=True, doc="Further attempts.")
    follow_redirects: bool = field(
        default=True, advanced=True, doc="Follow redirects; if not, they count as success."
    )
    backoff_on: list[int] = field(
        default_factory=lambda: [429],
        advanced=True,
        doc="Status codes after which pauses grow.",
    )
    drop_on: list[int] = field(
        default_factory=list, advanced=True, doc="Status codes that are not tried again."
    )
    successful_on: list[int] = field(
        default_factory=list, advanced=True, doc="Status codes that count as success besides 2xx."
    )
    proxy_url: str = field(default="", advanced=True, doc="HTTP proxy to go through.")
    disable_http2: bool = field(
        default=False, advanced=True, doc="Accepted; requests are HTTP/1.1."
    )
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
        async with env.http(
            tls=self.tls.context(env.node.path + ".tls"),
            max_connections=self.max_in_flight,
            proxy=self.proxy_url or None,
        ) as client:
            yield _Sender(self, env, client)


class _Sender:
    def __init__(self, config: HttpClientOutput, env: Env, client: HttpClient) -> None:
        self._config = config
        self._env = env
        self._client = client
        self._auth = Authorizer(
            env, client, config.basic_auth, config.oauth, config.oauth2, config.jwt
        )
        self._limit = env.rate_limit(config.rate_limit) if config.rate_limit else None
        self._latency = env.metrics.timer("http_request_latency_ns", "Time for one request.")

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
        config = self._config
        url = config.url.resolve(batch, index)
        headers = self._headers(batch, index, kind)
        attempt = 0
        while True:
            attempt += 1
            pause = float(config.retry_period)
            try:
                response = await self._once(url, headers, body)
                failure = self._failure(url, response)
                if failure is None:
                    self._propagate(batch, index, response)
                    return
                if response.status in config.drop_on or attempt > config.retries:
                    raise failure
                if response.status in config.backoff_on:
                    pause *= 2 ** (attempt - 1)
                pause = max(min(pause, config.max_retry_backoff), retry_after(response) or 0.0)
            except (Rejected, Paused, Overloaded):
                raise
            except Retryable:
                if attempt > config.retries:
                    raise
            await self._env.sleep(pause * (0.75 + self._env.random() / 2))

    async def _once(self, url: str, headers: dict[str, str], body: bytes) -> HttpResponse:
        while self._limit is not None and (wait := await self._limit.access()) > 0:
            await self._env.sleep(wait)
        config = self._config
        authorization = await self._auth.header(config.verb, url)
        if authorization:
            headers = {**headers, "Authorization": authorization}
        began = self._env.monotonic()
        response = await self._client.request(
            config.verb,
            url,
            headers=headers,
            body=body,
            timeout=float(config.timeout),
            follow_redirects=config.follow_redirects,
        )
        took = self._env.monotonic() - began
        self._latency.observe(took * 1e9)
        self._env.metrics.counter(f"http_request_code_{response.status // 100}xx").add()
        if response.status == 401:
            self._auth.forget()
        if config.dump_request_log_level:
            self._env.log.log(
                config.dump_request_log_level.lower(),
                "request sent",
                method=config.verb,
                status=response.status,
                sent_bytes=len(body),
                received_bytes=len(response.body),
            )
        return response

    def _headers(self, batch: Batch, index: int, kind: str) -> dict[str, str]:
        config = self._config
        headers = {name: value.resolve(batch, index) for name, value in config.headers.items()}
        for name, value in config.metadata.select(batch[index].metadata).items():
            headers[name] = str(value)
        if kind:
            headers["Content-Type"] = kind
        elif not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/octet-stream"
        return headers

    def _failure(self, url: str, response: HttpResponse) -> Exception | None:
        """What an answer means; None for delivered."""
        config = self._config
        status = response.status
        if status not in config.drop_on and status not in config.backoff_on:
            if status in config.successful_on or 200 <= status < 300:
                return None
            if 300 <= status < 400 and not config.follow_redirects:
                return None
        elif 200 <= status < 300 and status not in config.drop_on:
            return None
        shown = response.body[:_SHOWN].decode(errors="replace")
        # Published configs look for words in this text (`error_patterns: [Bad Request]`).
        text = (
            f"{url}: HTTP request returned unexpected response code ({status}): "
            f"{status} {_phrase(status)}, Error: {shown}"
        )
        if status in config.drop_on or status in _OF_THE_DATA:
            return Rejected(text, shown)
        if status in _LATER or status in config.backoff_on or status >= 500:
            return Overloaded(text, retry_after(response))
        return Paused(text)

    def _propagate(self, batch: Batch, index: int, response: HttpResponse) -> None:
        if not self._config.propagate_response:
            return
        metadata = {"http_status_code": str(response.status)}
        metadata |= self._config.extract_headers.select(response.headers)
        respond([Message(response.body, metadata, context=batch[index].context)])


def _untried(error: Exception) -> Exception:
    """Messages behind a failed one share its fate only where that says something about them."""
    if isinstance(error, Rejected):
        return Retryable("not sent: a message before it in the batch was refused")
    return error


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""

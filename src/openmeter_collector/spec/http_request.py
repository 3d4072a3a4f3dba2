"""Requests to any HTTP server: the fields that say how, and the attempts that follow from them.

Shared by everything that speaks HTTP to a server of the operator's choice, so that a field means the same
wherever it stands. A class of fields is made a component by inheriting it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from openmeter_collector.component.env import Env, HttpClient, HttpResponse, HttpStream
from openmeter_collector.errors import Overloaded, Paused, Rejected, Retryable
from openmeter_collector.message import Batch
from openmeter_collector.spec.client_tls import ClientTls
from openmeter_collector.spec.component import field, section
from openmeter_collector.spec.fields import Interpolated, RateLimitRef
from openmeter_collector.spec.http_answers import retry_after
from openmeter_collector.spec.http_auth import Authorizer, BasicAuth, Jwt, OAuth, OAuth2
from openmeter_collector.spec.metadata_filter import MetadataFilter
from openmeter_collector.values.units import Duration

_OF_THE_DATA = frozenset({400, 413, 422})
_LATER = frozenset({408, 425, 429})
_SHOWN = 2_000


@section
class HttpRequest:
    """How requests are made, repeated and judged."""

    url: Interpolated = field(doc="Address to send to.")
    verb: str = field(default="POST", doc="Method of the request.")
    headers: dict[str, Interpolated] = field(
        default_factory=dict,
        secret=True,  # credentials are what most of them are
        doc="Headers of the request, made from its first message.",
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
    basic_auth: BasicAuth = field(
        default_factory=BasicAuth, advanced=True, doc="User name and password."
    )
    jwt: Jwt = field(default_factory=Jwt, advanced=True, doc="A signed token.")
    tls: ClientTls = field(default_factory=ClientTls, advanced=True, doc="TLS settings.")
    extract_headers: MetadataFilter = field(
        default_factory=MetadataFilter,
        advanced=True,
        doc="Headers of the answer to put into metadata, by their names in lower case.",
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


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came of a request and all its attempts.

    Attributes:
        response: the last answer, None when none came.
        failure: what it means, in the terms of `errors`; None for success.
    """

    response: HttpResponse | None
    failure: Exception | None


class Requester:
    """Makes the requests that a config describes. Use `requester` to open one."""

    def __init__(self, config: HttpRequest, env: Env, client: HttpClient) -> None:
        self._config = config
        self._env = env
        self._client = client
        self._auth = Authorizer(
            env, client, config.basic_auth, config.oauth, config.oauth2, config.jwt
        )
        self._limit = env.rate_limit(config.rate_limit) if config.rate_limit else None
        self._latency = env.metrics.timer("http_request_latency_ns", "Time for one request.")

    async def exchange(
        self, batch: Batch, index: int, body: bytes | None, kind: str = ""
    ) -> Exchange:
        """Send a request for the message at an index, and again while that may help.

        Args:
            kind: content type of the body, if it is not the config's to say.

        Raises:
            MappingFailed: the address or a header cannot be made from the message.
        """
        config = self._config
        url = config.url.resolve(batch, index)
        headers = self._headers(batch, index, kind)
        attempt = 0
        while True:
            attempt += 1
            pause = float(config.retry_period)
            response: HttpResponse | None = None
            try:
                response = await self._once(url, headers, body)
                failure = self._failure(url, response)
            except (Rejected, Paused, Overloaded) as error:
                # Not the peer's word: that of whoever gives out tokens.
                return Exchange(None, error)
            except Retryable as error:
                failure = error
            if failure is None or attempt > config.retries:
                return Exchange(response, failure)
            if response is not None:
                if response.status in config.drop_on:
                    return Exchange(response, failure)
                if response.status in config.backoff_on:
                    pause *= 2 ** (attempt - 1)
                pause = max(min(pause, config.max_retry_backoff), retry_after(response) or 0.0)
            await self._env.sleep(pause * (0.75 + self._env.random() / 2))

    @asynccontextmanager
    async def streamed(
        self, batch: Batch, index: int, body: bytes | None, idle_timeout: float | None
    ) -> AsyncIterator[HttpStream]:
        """Send one request, once; inside the block its body is read as it comes.

        Args:
            idle_timeout: seconds in which nothing comes at all.

        Raises:
            MappingFailed: the address or a header cannot be made from the message.
            Retryable: no answer, or one that says to try later.
            Paused, Rejected: an answer that refuses.
        """
        config = self._config
        url = config.url.resolve(batch, index)
        headers = await self._allowed(url, self._headers(batch, index, ""))
        async with self._client.stream(
            config.verb,
            url,
            headers=headers,
            body=body,
            idle_timeout=idle_timeout,
            follow_redirects=config.follow_redirects,
        ) as stream:
            self._env.metrics.counter(f"http_request_code_{stream.status // 100}xx").add()
            if stream.status == 401:
                self._auth.forget()
            failure = self._failure(url, HttpResponse(stream.status, stream.headers, b""))
            if failure is not None:
                raise failure
            yield stream

    async def _allowed(self, url: str, headers: dict[str, str]) -> dict[str, str]:
        """When it may be sent; the headers with what proves that we may ask."""
        while self._limit is not None and (wait := await self._limit.access()) > 0:
            await self._env.sleep(wait)
        authorization = await self._auth.header(self._config.verb, url)
        return {**headers, "Authorization": authorization} if authorization else headers

    async def _once(self, url: str, headers: dict[str, str], body: bytes | None) -> HttpResponse:
        config = self._config
        headers = await self._allowed(url, headers)
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
                sent_bytes=len(body or b""),
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
        """What an answer means; None for success."""
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


@asynccontextmanager
async def requester(
    config: HttpRequest, env: Env, *, max_connections: int = 64, max_response_bytes: int = 1 << 20
) -> AsyncIterator[Requester]:
    """Open a client for a config. Nothing is sent.

    Raises:
        ConfigError: a file for TLS or a token is missing or wrong, or a library.
    """
    async with env.http(
        tls=config.tls.context(env.node.path + ".tls"),
        max_connections=max_connections,
        max_response_bytes=max_response_bytes,
        proxy=config.proxy_url or None,
    ) as client:
        yield Requester(config, env, client)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""

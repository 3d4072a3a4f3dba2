"""The HTTP client that components are lent. aiohttp, with bounds and with errors that say what to do."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from openmeter_collector.component.env import HttpResponse, HttpStream
from openmeter_collector.errors import Retryable

if TYPE_CHECKING:
    import aiohttp


@asynccontextmanager
async def open_http_client(
    *,
    tls: ssl.SSLContext | None = None,
    max_connections: int = 64,
    max_response_bytes: int = 1 << 20,
    proxy: str | None = None,
) -> AsyncIterator[AiohttpClient]:
    """A client with its own connections; see `component.env.Env.http`."""
    client = AiohttpClient(tls, max_connections, max_response_bytes, proxy)
    try:
        yield client
    finally:
        await client.close()


class AiohttpClient:
    """See `component.env.HttpClient`.

    aiohttp takes a third of the time the whole collector needs to start, so it is imported at the
    first request, beside the event loop; events are taken meanwhile.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        max_connections: int,
        max_response_bytes: int,
        proxy: str | None,
    ) -> None:
        self._tls = tls
        self._connections = max_connections
        self._most = max_response_bytes
        self._proxy = proxy
        self._opening = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def _open(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                lib = await asyncio.to_thread(importlib.import_module, "aiohttp")
                connector = lib.TCPConnector(
                    limit=self._connections,
                    ssl=True if self._tls is None else self._tls,
                    keepalive_timeout=60,
                    ttl_dns_cache=30,
                )
                self._session = lib.ClientSession(
                    connector=connector,
                    cookie_jar=lib.DummyCookieJar(),
                    skip_auto_headers=("User-Agent", "Content-Type"),
                    proxy=self._proxy,
                    # One deadline of our own covers the whole exchange; these would add to it.
                    timeout=lib.ClientTimeout(total=None),
                )
            return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
        follow_redirects: bool = False,
    ) -> HttpResponse:
        session = self._session or await self._open()
        with _told_plainly(method, url, timeout):
            async with (
                asyncio.timeout(timeout),
                session.request(
                    method,
                    url,
                    headers=headers,
                    data=body,
                    allow_redirects=follow_redirects,
                ) as response,
            ):
                content = await _read(response.content, self._most)
                return HttpResponse(response.status, _lower(response.headers), content)
        raise AssertionError

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        idle: float = 60.0,
    ) -> AsyncIterator[HttpStream]:
        session = self._session or await self._open()
        with _told_plainly(method, url, timeout):
            async with asyncio.timeout(timeout):
                response = await session.request(
                    method, url, headers=headers, allow_redirects=False
                )
        try:
            yield AiohttpStream(method, url, response, idle, self._most)
        finally:
            response.close()  # not given back: what is still coming is nobody's


class AiohttpStream:
    """See `component.env.HttpStream`."""

    def __init__(
        self, method: str, url: str, response: aiohttp.ClientResponse, idle: float, most: int
    ) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = _lower(response.headers)
        self._method, self._url = method, url
        self._content = response.content
        self._idle = idle
        self._most = most

    async def lines(self) -> AsyncIterator[bytes]:
        rest = bytearray()
        while True:
            with _told_plainly(self._method, self._url, self._idle):
                async with asyncio.timeout(self._idle):
                    chunk = await self._content.readany()
            if not chunk:
                break
            rest += chunk
            if b"\n" in chunk:
                *lines, last = bytes(rest).split(b"\n")
                rest = bytearray(last)
                for line in lines:
                    yield line
            if len(rest) > self._most:
                raise Retryable(f"{self._method} {self._url}: a line is longer than {self._most}")
        if rest:
            yield bytes(rest)


@contextmanager
def _told_plainly(method: str, url: str, timeout: float) -> Iterator[None]:
    """Failures of the network as `Retryable`, in words."""
    import aiohttp  # noqa: PLC0415 - `_open` has paid for it

    try:
        yield
    except TimeoutError as error:
        raise Retryable(f"{method} {url}: no complete answer within {timeout:g} s") from error
    except aiohttp.InvalidURL as error:
        raise Retryable(f"{method} {url}: not an address; check `url`") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise Retryable(f"{method} {url}: its certificate is not trusted ({error})") from error
    except aiohttp.ClientConnectorDNSError as error:
        raise Retryable(f"{method} {url}: the name of the host is not known") from error
    except aiohttp.ClientError as error:
        raise Retryable(f"{method} {url}: {_reason(error)}") from error
    except OSError as error:
        raise Retryable(f"{method} {url}: {error}") from error


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


async def _read(stream: aiohttp.StreamReader, most: int) -> bytes:
    """Read to the end, so that the connection can be used again, but keep only so much."""
    kept = bytearray()
    async for chunk in stream.iter_any():
        room = most - len(kept)
        if room > 0:
            kept += chunk[:room]
    return bytes(kept)


def _reason(error: Exception) -> str:
    text = str(error)
    return text or type(error).__name__

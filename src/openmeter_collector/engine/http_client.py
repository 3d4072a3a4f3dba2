"""The HTTP client that components are lent. aiohttp, with bounds and with errors that say what to do."""

from __future__ import annotations

import asyncio
import importlib
import os
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
        with _told(method, url):
            try:
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
                    return HttpResponse(response.status, _first_values(response), content)
            except TimeoutError as error:
                raise Retryable(
                    f"{method} {url}: no complete answer within {timeout:g} s"
                ) from error

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        idle_timeout: float | None = None,
        follow_redirects: bool = False,
    ) -> AsyncIterator[HttpStream]:
        session = self._session or await self._open()
        with _told(method, url):
            try:
                async with asyncio.timeout(idle_timeout):
                    response = await session.request(
                        method,
                        url,
                        headers=headers,
                        data=body,
                        allow_redirects=follow_redirects,
                    )
            except TimeoutError as error:
                raise Retryable(f"{method} {url}: no answer within {idle_timeout:g} s") from error
        try:
            chunks = _chunks(response, f"{method} {url}", idle_timeout)
            yield HttpStream(response.status, _first_values(response), chunks)
        finally:
            response.close()


async def _chunks(
    response: aiohttp.ClientResponse, where: str, idle: float | None
) -> AsyncIterator[bytes]:
    with _told(*where.split(" ", 1)):
        while True:
            try:
                async with asyncio.timeout(idle):
                    chunk = await response.content.readany()
            except TimeoutError as error:
                raise Retryable(f"{where}: nothing came for {idle:g} s") from error
            if not chunk:
                return
            yield chunk


def _first_values(response: aiohttp.ClientResponse) -> dict[str, str]:
    first: dict[str, str] = {}
    for name, value in response.headers.items():
        first.setdefault(name.lower(), value)
    return first


@contextmanager
def _told(method: str, url: str) -> Iterator[None]:
    """Say in our words why there is no answer."""
    import aiohttp  # noqa: PLC0415 - whoever opened the session has paid for it

    try:
        yield
    except aiohttp.InvalidURL as error:
        raise Retryable(f"{method} {url}: not an address; check `url`") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise Retryable(f"{method} {url}: its certificate is not trusted ({error})") from error
    except aiohttp.ClientConnectorDNSError as error:
        raise Retryable(f"{method} {url}: the name of the host is not known") from error
    except aiohttp.ClientConnectorError as error:
        raise Retryable(f"{method} {url}: {_unconnected(error)}") from error
    except aiohttp.ClientError as error:
        raise Retryable(f"{method} {url}: {_reason(error)}") from error
    except TimeoutError:
        raise
    except OSError as error:
        raise Retryable(f"{method} {url}: {error}") from error


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


def _unconnected(error: aiohttp.ClientConnectorError) -> str:
    """Who cannot be reached (a proxy, it may be), and why in the words of the operating system."""
    cause = error.os_error
    # The numbers of TLS are no errors of the system.
    number = None if isinstance(cause, ssl.SSLError) else cause.errno
    why = os.strerror(number) if number else str(cause)
    return f"cannot connect to {error.host}:{error.port} ({why})"

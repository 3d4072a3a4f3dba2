"""The HTTP client that components are lent. aiohttp, with bounds and with errors that say what to do."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from openmeter_collector.component.env import HttpResponse
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
        import aiohttp  # noqa: PLC0415 - `_open` has paid for it

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
                return HttpResponse(
                    status=response.status,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=content,
                )
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

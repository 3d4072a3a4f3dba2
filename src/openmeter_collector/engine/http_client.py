"""The HTTP client that components are lent. aiohttp, with bounds and with errors that say what to do."""

from __future__ import annotations

import asyncio
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
    # Imported here: a pipeline without HTTP outputs starts without paying for it.
    import aiohttp  # noqa: PLC0415

    connector = aiohttp.TCPConnector(
        limit=max_connections,
        ssl=True if tls is None else tls,
        keepalive_timeout=60,
        enable_cleanup_closed=False,
        ttl_dns_cache=30,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Content-Type"),
        proxy=proxy,
    ) as session:
        yield AiohttpClient(session, max_response_bytes)


class AiohttpClient:
    """See `component.env.HttpClient`."""

    def __init__(self, session: aiohttp.ClientSession, max_response_bytes: int) -> None:
        import aiohttp  # noqa: PLC0415

        self._session = session
        self._aiohttp = aiohttp
        # One deadline of our own covers the whole exchange; aiohttp's several would add to it.
        self._no_timeout = aiohttp.ClientTimeout(total=None)
        self._most = max_response_bytes

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
        aiohttp = self._aiohttp
        try:
            async with (
                asyncio.timeout(timeout),
                self._session.request(
                    method,
                    url,
                    headers=headers,
                    data=body,
                    allow_redirects=follow_redirects,
                    timeout=self._no_timeout,
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

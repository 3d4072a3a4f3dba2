"""Exports: requests over HTTP and gRPC, and what an answer means for the data."""

from __future__ import annotations

import gzip as gzip_
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from openmeter_collector.api import (
    ClientTls,
    CollectorError,
    ConfigError,
    HttpClient,
    Overloaded,
    Paused,
    Rejected,
    Retryable,
    raise_for_answer,
)
from openmeter_collector.components.otlp import status
from openmeter_collector.components.otlp.library import load_grpc

_OF_THE_DATA: Final = frozenset({"INVALID_ARGUMENT", "FAILED_PRECONDITION", "ALREADY_EXISTS"})
_OF_US: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND"})
_SHOWN: Final = 2_000


Send = Callable[[bytes], Awaitable[bytes]]
"""Sends a request and gives the answer; raises what a refusal stands for."""


def over_http(
    client: HttpClient, url: str, *, headers: Mapping[str, str], gzipped: bool, timeout: float
) -> Send:
    """Requests to an address, as protobuf."""
    sent = {"Content-Type": "application/x-protobuf"} | dict(headers)
    if gzipped:
        sent["Content-Encoding"] = "gzip"

    async def send(request: bytes) -> bytes:
        body = gzip_.compress(request, 3, mtime=0) if gzipped else request
        answer = await client.request("POST", url, headers=sent, body=body, timeout=timeout)
        raise_for_answer(url, answer)
        return answer.body

    return send


class Exporter:
    """One service on an open channel."""

    def __init__(self, grpc: Any, call: Any, address: str, headers: Mapping[str, str]) -> None:
        """`headers` go with every request."""
        self._grpc = grpc
        self._call = call
        self._address = address
        self._headers = tuple((name.lower(), value) for name, value in headers.items())

    async def export(self, request: bytes, timeout: float) -> bytes:
        """Send one request.

        Raises:
            Rejected: the data is refused.
            Paused: we are refused.
            Overloaded, Retryable: later.
        """
        try:
            answer: bytes = await self._call(request, timeout=timeout, metadata=self._headers)
        except self._grpc.aio.AioRpcError as error:
            raise _meaning(self._address, error) from error
        return answer


def _meaning(address: str, error: Any) -> CollectorError:
    """What a failed call stands for. A code says whether it is about the data or about us; all that
    is left may pass, and what is repeated is never lost.
    """
    name = error.code().name
    shown = (error.details() or "")[:_SHOWN]
    text = f"export to {address}: answered {name}: {shown}"
    if name in _OF_THE_DATA:
        return Rejected(text, shown)
    if name in _OF_US:
        return Paused(f"{text}; check the address, the headers and what they may do")
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    wait = status.retry_after(details) if isinstance(details, bytes) else None
    if wait is not None or name == "RESOURCE_EXHAUSTED":
        return Overloaded(text, wait)
    return Retryable(text)


@asynccontextmanager
async def exporting(
    address: str,
    method: str,
    *,
    tls: ClientTls,
    headers: Mapping[str, str],
    gzip: bool,
    where: str,
) -> AsyncIterator[Exporter]:
    """A channel of one's own, closed with the block. Nothing is sent on opening.

    Args:
        method: full name of the method, with slashes.

    Raises:
        ConfigError: a TLS file is not right, or the extra is missing.
    """
    grpc = load_grpc(where)
    compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
    options = [("grpc.max_send_message_length", -1)]
    if tls.enabled:
        made = grpc.aio.secure_channel(
            address, _credentials(grpc, tls, where), options=options, compression=compression
        )
    else:
        made = grpc.aio.insecure_channel(address, options=options, compression=compression)
    async with made as channel:
        yield Exporter(grpc, channel.unary_unary(method), address, headers)


def _credentials(grpc: Any, tls: ClientTls, where: str) -> Any:
    if tls.skip_cert_verify:
        raise ConfigError(
            f"{where}.tls: skip_cert_verify is not possible with gRPC; trust the server's authority "
            "with root_cas_file"
        )
    try:
        roots = tls.root_cas.encode() or _content(tls.root_cas_file)
        key = chain = None
        for shown in tls.client_certs[:1]:
            key = shown.key.encode() or _content(shown.key_file)
            chain = shown.cert.encode() or _content(shown.cert_file)
    except OSError as error:
        raise ConfigError(f"{where}.tls: {error}; check the files") from error
    return grpc.ssl_channel_credentials(roots or None, key or None, chain or None)


def _content(path: str) -> bytes:
    return Path(path).read_bytes() if path else b""

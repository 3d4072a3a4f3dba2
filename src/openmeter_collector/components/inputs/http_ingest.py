"""What inputs that are HTTP servers share: tokens, TLS, bounded bodies, and how they say no.

Every "no" is problem+json (RFC 9457). A "not now" is 503 or 429 with `Retry-After`, and never 408 or
502: the official SDKs give up on those, and the event with them.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson

from openmeter_collector.api import (
    AsgiReceive,
    AsgiSend,
    BatchFailed,
    ConfigError,
    Overloaded,
    Rejected,
    Undeliverable,
    field,
    section,
)
from openmeter_collector.values.bodies import BodyError, open_body


@section
class TlsFiles:
    """A certificate for the listener."""

    cert_file: str = field(
        default="", file=bool, doc="PEM file with the certificate and its chain."
    )
    key_file: str = field(default="", file=bool, doc="PEM file with its private key.")
    client_ca_file: str = field(
        default="",
        file=bool,
        doc="PEM file with the authorities of client certificates. When set, clients without a "
        "certificate of theirs are refused (mTLS).",
    )


NOT_TAKEN: Final = {
    400: "unreadable request",
    401: "no valid token",
    413: "body too large",
    415: "unknown encoding",
}
"""Answers after which a sender gives up, and under which reason the books count them."""


class Refusal(Exception):
    """Ends the handling of a request with an answer that is no success."""

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra or {}
        super().__init__(detail)


def refusal_of(failure: Exception) -> Refusal:
    """What a sender is told when the events did not get into the buffer (or, without one, were not
    delivered). Only a verdict on the data is the sender's to change; the rest is ours, for later.
    """
    if isinstance(failure, BatchFailed):
        # One that may come again speaks before one that may not: giving up would lose the first.
        errors = list(failure.errors.values())
        later = [one for one in errors if not isinstance(one, Rejected | Undeliverable)]
        failure = [*later, *errors, failure][0]
    if isinstance(failure, Rejected | Undeliverable):
        return Refusal(400, str(failure))
    wait = failure.retry_after if isinstance(failure, Overloaded) else None
    return Refusal(503, str(failure), retry_headers(wait))


def retry_headers(seconds: float | None) -> dict[str, str]:
    """`Retry-After`, in whole seconds and never 0, which would mean "at once"."""
    return {"retry-after": str(max(1, round(seconds or 1.0)))}


def too_large(most: int) -> Refusal:
    """The answer to a body over the bound; the rest of it is not read."""
    return Refusal(413, f"the body is larger than {most} bytes", {"connection": "close"})


async def read_body(receive: AsgiReceive, most: int) -> bytes:
    """Read a whole body.

    Raises:
        Refusal: 413 as soon as it is larger than `most`, 400 when it ends early.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the connection ended inside the body")
        if len(body) > most:
            raise too_large(most)
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body"):
        if size > most:
            raise too_large(most)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the connection ended inside the body")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if size > most:
        raise too_large(most)
    return b"".join(parts)


def decompress(body: bytes, encoding: bytes, most: int) -> bytes:
    """Undo a `Content-Encoding`.

    Raises:
        Refusal: 400, 413 or 415.
    """
    try:
        return open_body(body, encoding.decode("latin-1"), most)
    except BodyError as error:
        headers = {"accept-encoding": "gzip, deflate, zstd"} if error.status == 415 else None
        raise Refusal(error.status, str(error), headers) from error


_TITLES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    408: "Request Timeout",
    503: "Service Unavailable",
}


_PHRASES: Final = {one.value: one.phrase for one in HTTPStatus} | _TITLES


async def answer(send: AsgiSend, refusal: Refusal) -> None:
    """Send a refusal as problem+json."""
    body, headers = _problem(refusal)
    await send_whole(send, refusal.status, body, headers)


def whole_answer(refusal: Refusal) -> tuple[bytes, bytes]:
    """A refusal as a head and a body, for `component.env.Respond`."""
    body, headers = _problem(refusal)
    return head_of(refusal.status, headers, len(body)), body


def head_of(status: int, headers: Mapping[str, str], length: int) -> bytes:
    """Status line and headers, for `component.env.Respond`.

    Args:
        length: bytes of the body; not told for a status that has none (RFC 9110 8.6).
    """
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if status not in {204, 304}:
        lines.append(f"content-length: {length}")
    lines.append("")
    return "\r\n".join(lines).encode("latin-1", "replace")


def _problem(refusal: Refusal) -> tuple[bytes, dict[str, str]]:
    problem = {
        "type": "about:blank",
        "title": _TITLES[refusal.status],
        "status": refusal.status,
        "detail": refusal.detail,
        "instance": f"urn:request:{uuid.uuid4()}",
    }
    body = orjson.dumps(problem | dict(refusal.extra))
    return body, {"content-type": "application/problem+json"} | dict(refusal.headers)


async def send_whole(send: AsgiSend, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a whole answer."""
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    if status not in {204, 304}:  # which have no body, so no length either (RFC 9110 8.6)
        pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


class TokenCheck:
    """Compares bearer tokens in constant time."""

    def __init__(self, tokens: Sequence[str], where: str) -> None:
        """Take tokens, or `sha256:` and their hexadecimal SHA-256; empty ones do not count.

        Raises:
            ConfigError: a hash is not one.
        """
        self._digests = [_digest(token, where) for token in tokens if token]

    @property
    def active(self) -> bool:
        """Whether a token is asked for."""
        return bool(self._digests)

    def knows(self, header: bytes) -> bool:
        """Whether the value of `Authorization` is one of the tokens."""
        scheme, _, token = header.partition(b" ")
        given = hashlib.sha256(token.strip()).digest()
        # Every token is compared, whichever fits, so that time tells nothing about them.
        known = [hmac.compare_digest(given, digest) for digest in self._digests]
        return scheme.lower() == b"bearer" and any(known)

    def check(self, header: bytes) -> None:
        """Let pass, or not.

        Args:
            header: the value of `Authorization`.

        Raises:
            Refusal: 401.
        """
        if not self.knows(header):
            raise Refusal(
                401,
                "the bearer token is missing or not known",
                {"www-authenticate": 'Bearer realm="openmeter-collector"'},
            )


def _digest(token: str, where: str) -> bytes:
    if not token.startswith("sha256:"):
        return hashlib.sha256(token.encode()).digest()
    try:
        digest = bytes.fromhex(token.removeprefix("sha256:"))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ConfigError(
            f"{where}.tokens: a token begins with 'sha256:' and is not followed by 64 "
            "hexadecimal digits; write the SHA-256 of the token, or the token itself"
        )
    return digest


def server_tls(files: TlsFiles, where: str) -> ssl.SSLContext | None:
    """The context for a listener; None for plain HTTP.

    Raises:
        ConfigError: a file is missing or they do not fit together.
    """
    if not files.cert_file and not files.key_file:
        if files.client_ca_file:
            raise ConfigError(
                f"{where}.tls: client_ca_file without cert_file; add cert_file and key_file"
            )
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name in (files.cert_file, files.key_file, files.client_ca_file):
        if name and not Path(name).is_file():
            raise ConfigError(f"{where}.tls: {name!r} is not a file; check its path")
    try:
        context.load_cert_chain(files.cert_file, files.key_file or None)
        if files.client_ca_file:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(files.client_ca_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"{where}.tls: the files do not fit: {error}") from error
    return context

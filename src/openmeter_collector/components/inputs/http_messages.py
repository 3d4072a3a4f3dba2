"""Messages made of HTTP requests, and what is known about a request as their metadata."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

from openmeter_collector.api import Batch, Message, Metadata, ResponseStore, Scope
from openmeter_collector.components.inputs.http_ingest import Refusal
from openmeter_collector.values.multipart import boundary_of, split_multipart

_NOT_KEPT: Final = frozenset({"authorization", "proxy-authorization"})


class Headers:
    """Request headers; the first value of each counts."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self.values: dict[str, str] = {}
        for name, value in raw:
            self.values.setdefault(name.decode("latin-1"), value.decode("latin-1"))

    def get(self, name: str) -> str:
        """A value by its lower-case name, empty when it is not there."""
        return self.values.get(name, "")


def messages_of(body: bytes, content_type: str, metadata: Metadata, store: ResponseStore) -> Batch:
    """The whole body as one message, or each part of a multipart one.

    Raises:
        Refusal: 400 when a multipart body is none.
    """
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


def metadata_of(scope: Scope, headers: Headers, parameters: Mapping[str, str]) -> Metadata:
    """What is known about a request. Filled from the least trusted to the most, so that a query
    parameter named like a header, or like our own keys, replaces neither.
    """
    metadata: dict[str, Any] = dict(_cookies(headers.get("cookie")))
    if scope.get("query_string"):
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


@lru_cache(maxsize=1024)
def _canonical(name: str) -> str:
    """`content-type` as `Content-Type`, the form in which mappings ask for headers."""
    return "-".join(part.capitalize() for part in name.split("-"))


def is_plain_path(path: str) -> bool:
    """Whether a path is served at exactly what is written, with nothing below it and nothing in it."""
    return bool(path) and path.isascii() and not path.endswith("/") and not set(path) & set("{}%")


def path_matcher(path: str) -> Callable[[str], dict[str, str] | None] | None:
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

"""Answers that say what is wrong, in the shapes of the two API versions."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson

CONTENT_TYPE = b"application/problem+json"
_KONNECT = {
    400: ("bad-request", "Bad Request"),
    401: ("unauthenticated", "Unauthenticated"),
    403: ("unauthorized", "Forbidden"),
    404: ("not-found", "Not Found"),
    405: ("method-not-allowed", "Method Not Allowed"),
    429: ("rate-limited", "Rate Limited"),
    500: ("internal", "Internal"),
    503: ("unavailable", "Unavailable"),
}


def problem(status: int, detail: str, request_id: str, *, v3: bool = False) -> bytes:
    """A problem body. v1 leaves `detail` out of a 500, as the real one does."""
    instance = f"urn:request:{request_id}"
    if v3:
        name, title = _KONNECT.get(status, ("error", _title(status)))
        body: dict[str, Any] = {
            "type": f"https://kongapi.info/konnect/{name}",
            "status": status,
            "title": title,
            "instance": instance,
            "detail": detail,
        }
    else:
        body = {"type": "about:blank", "title": _title(status), "status": status}
        if detail and status != 500:
            body["detail"] = detail
        body["instance"] = instance
    return orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)


def _title(status: int) -> str:
    # As Go spells them; Python renamed two.
    names = {413: "Request Entity Too Large", 422: "Unprocessable Entity"}
    try:
        return names.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return ""

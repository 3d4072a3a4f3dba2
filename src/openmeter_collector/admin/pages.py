"""What all pages of the collector have in common."""

from __future__ import annotations

from importlib import resources
from typing import Final

from openmeter_collector.component.env import AsgiReceive

MOST_BYTES: Final = 4 << 20
"""Of a request to a page."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
"""No script but our own, nothing from elsewhere, in nobody's frame, and nothing is kept."""


async def body_of(receive: AsgiReceive) -> bytes | None:
    """The body of a request; None when it is larger than it may be."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)


def static(name: str) -> bytes:
    """A file that comes with the package."""
    return (resources.files("openmeter_collector.admin") / "static" / name).read_bytes()

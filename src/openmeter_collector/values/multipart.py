"""Multipart bodies (RFC 2046 5.1), taken apart and put together. Parts keep their bytes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from email.message import Message as HeaderParser


def boundary_of(content_type: str) -> str | None:
    """The boundary of a `multipart/...` content type; None when it is none or has none."""
    header = HeaderParser()
    header["content-type"] = content_type
    if header.get_content_maintype() != "multipart":
        return None
    boundary = header.get_param("boundary")
    return boundary if isinstance(boundary, str) and 0 < len(boundary) <= 70 else None


def split_multipart(body: bytes, boundary: str) -> list[bytes]:
    """The bodies of the parts, without their headers.

    Raises:
        ValueError: the body does not begin or end as a multipart body with this boundary.
    """
    line = b"--" + boundary.encode("latin-1")
    pieces = (b"\r\n" + body).split(b"\r\n" + line)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise ValueError("the multipart body has no closing boundary")
    return [_content(piece) for piece in pieces[1:-1]]


def _content(piece: bytes) -> bytes:
    # After the boundary: padding, a line end, headers, an empty line, the content.
    head, separator, content = piece.lstrip(b" \t").partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"\r\n"):
        if head == b"" and separator:
            return content
        raise ValueError("a part of the multipart body has no headers")
    return content


def join_multipart(parts: Sequence[bytes], kind: str = "form-data") -> tuple[str, bytes]:
    """Put parts together; returns content type and body."""
    boundary = secrets.token_hex(16)
    line = boundary.encode()
    chunks = [
        b"--%s\r\nContent-Type: application/octet-stream\r\n\r\n%s\r\n" % (line, part)
        for part in parts
    ]
    chunks.append(b"--%s--\r\n" % line)
    return f"multipart/{kind}; boundary={boundary}", b"".join(chunks)

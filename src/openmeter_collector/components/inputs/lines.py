"""Reading streams of bytes message by message, for inputs that read files and pipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

_CHUNK = 1 << 16
MOST = 64 << 20
"""Bytes in one message at most; a stream without delimiters must not fill the memory."""


def codec_problem(codec: str) -> str | None:
    """What is wrong with a codec, or None."""
    if codec in {"lines", "all-bytes"} or codec.removeprefix("delim:") not in {codec, ""}:
        return None
    return f"{codec!r} is no codec; use lines, all-bytes or delim: and what stands between messages"


def reader_of(codec: str) -> Callable[[BinaryIO], Iterator[bytes]]:
    """What cuts a stream into messages."""
    if codec == "all-bytes":
        return whole
    between = b"\n" if codec == "lines" else codec.removeprefix("delim:").encode()
    return lambda stream: cut(stream, between)


def whole(stream: BinaryIO) -> Iterator[bytes]:
    """All of it as one message; none when it is empty."""
    data = stream.read(MOST + 1)
    if len(data) > MOST:
        raise ValueError(f"more than {MOST} bytes without an end; use another codec")
    if data:
        yield data


def cut(stream: BinaryIO, between: bytes) -> Iterator[bytes]:
    """Messages with `between` between them; empty ones are left out, a carriage return at the end
    of a line as well.
    """
    rest = b""
    read = getattr(stream, "read1", stream.read)
    while chunk := read(_CHUNK):
        *messages, rest = (rest + chunk).split(between)
        if len(rest) > MOST:
            raise ValueError(f"more than {MOST} bytes without {between!r}")
        yield from (kept for one in messages if (kept := _trimmed(one, between)))
    if kept := _trimmed(rest, between):
        yield kept


def _trimmed(message: bytes, between: bytes) -> bytes:
    return message.removesuffix(b"\r") if between == b"\n" else message

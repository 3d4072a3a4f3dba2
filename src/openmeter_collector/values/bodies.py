"""Request bodies that come compressed, opened with a bound on what they may become."""

from __future__ import annotations

import sys
import zlib
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MOST_PARTS: Final = 16
_WINDOW: Final = zstd.DecompressionParameter.window_log_max
_WINDOW_LOG: Final = 23  # 8 MiB, as RFC 9659 has it: a larger one is memory for the asking
ENCODINGS: Final = ("gzip", "deflate", "zstd")


class BodyError(ValueError):
    """A body that cannot be opened.

    Attributes:
        status: the HTTP status that says so: 400 damaged, 413 too large, 415 unknown encoding.
    """

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


def open_body(body: bytes, encoding: str, most: int) -> bytes:
    """Undo one `Content-Encoding`.

    Args:
        encoding: as in the header; `identity` and the empty text mean none.
        most: bytes the result may have. A few bytes of input can become gigabytes, so this bounds
            the work as well as the memory.

    Raises:
        BodyError: unknown encoding, damaged data, or a result that is too large.
    """
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return body
    try:
        if name in {"gzip", "x-gzip"}:
            opened = _zlib(body, most, 31)
        elif name == "deflate":
            opened = _deflate(body, most)
        elif name == "zstd":
            opened = _zstd(body, most)
        else:
            raise BodyError(
                415,
                f"content encoding {encoding!r} is not known; send {', '.join(ENCODINGS)} or none",
            )
    except (zlib.error, zstd.ZstdError, EOFError) as error:
        raise BodyError(400, f"the body is not valid {name}: {error}") from error
    if len(opened) > most:
        raise BodyError(413, f"the body is larger than {most} bytes when decompressed")
    return opened


def _zlib(body: bytes, most: int, window: int) -> bytes:
    """All members of a gzip body, one zlib stream otherwise."""
    parts: list[bytes] = []
    size = 0
    rest = body
    while rest:
        _bound_parts(parts)
        stream = zlib.decompressobj(window)
        part = stream.decompress(rest, most + 1 - size)
        parts.append(part)
        size += len(part)
        if size > most:
            break
        if not stream.eof:
            raise EOFError("it ends too early")
        rest = stream.unused_data
        if window != 31 and rest:
            raise EOFError("something follows its end")
    return b"".join(parts)


def _deflate(body: bytes, most: int) -> bytes:
    # HTTP's "deflate" is zlib (RFC 9110 8.4.1.2), but old clients send it without the wrapper.
    try:
        return _zlib(body, most, 15)
    except zlib.error:
        return _zlib(body, most, -15)


def _zstd(body: bytes, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    rest = body
    while rest and size <= most:
        _bound_parts(parts)
        stream = zstd.ZstdDecompressor(options={_WINDOW: _WINDOW_LOG})
        parts.append(stream.decompress(rest, max_length=most + 1 - size))
        size += len(parts[-1])
        if size <= most and not stream.eof:
            raise EOFError("it ends too early")
        rest = stream.unused_data
    return b"".join(parts)


def _bound_parts(parts: list[bytes]) -> None:
    # Each part costs a copy of what follows it, so thousands of empty ones would cost minutes.
    if len(parts) >= _MOST_PARTS:
        raise EOFError(f"it has more than {_MOST_PARTS} parts")

"""Streams of compressed bytes, opened piece by piece: whatever is fed, pieces that come out are small."""

from __future__ import annotations

import bz2
import importlib
import sys
import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

import xxhash

from openmeter_collector.api import ConfigError, install_extra

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE: Final = 1 << 18
"""Bytes that come out at a time at most."""
_LARGEST_WINDOW: Final = 27
"""128 MiB: what the zstd command line opens without being told to."""


class Damaged(Exception):
    """The bytes are not what they should be."""


class Opener(Protocol):
    """One stream of compressed bytes."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes of these bytes; take all of it before feeding more.

        Raises:
            Damaged: it cannot be opened.
        """

    def end(self) -> None:
        """No more will come.

        Raises:
            Damaged: it ends too early.
        """


def opener(algorithm: str) -> Opener:
    """Start a stream.

    Raises:
        ConfigError: what the algorithm needs is not installed.
    """
    match algorithm:
        case "gzip" | "pgzip":
            return _Members(lambda: _Zlib(31))
        case "zlib":
            return _Members(lambda: _Zlib(15))
        case "flate":
            return _Members(lambda: _Zlib(-15))
        case "bzip2":
            return _Members(lambda: _Eof(bz2.BZ2Decompressor()))
        case "zstd":
            options = {int(zstd.DecompressionParameter.window_log_max): _LARGEST_WINDOW}
            return _Members(lambda: _Eof(zstd.ZstdDecompressor(options=options)))
        case "snappy":
            return _Snappy()
        case _:
            return _Lz4()


class _Member(Protocol):
    """One compressed stream of possibly several in a row."""

    eof: bool
    unused: bytes

    def open(self, data: bytes) -> bytes:
        """At most `_PIECE` bytes more; empty when `data` and what is held have no more in them."""


class _Zlib:
    def __init__(self, window: int) -> None:
        self._stream = zlib.decompressobj(window)
        self.eof = False
        self.unused = b""

    def open(self, data: bytes) -> bytes:
        made = self._stream.decompress(self._stream.unconsumed_tail + data, _PIECE)
        self.eof, self.unused = self._stream.eof, self._stream.unused_data
        return made


class _Eof:
    """The interface that bz2 and zstd share."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.eof = False
        self.unused = b""

    def open(self, data: bytes) -> bytes:
        if not data and self._stream.needs_input:
            return b""
        made: bytes = self._stream.decompress(data, _PIECE)
        self.eof = self._stream.eof
        self.unused = self._stream.unused_data if self.eof else b""
        return made


class _Members:
    """Streams one after the other, as `cat a.gz b.gz` makes them."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._member: _Member | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            while data or self._member is not None:
                if self._member is None:
                    self._member = self._make()
                assert self._member is not None
                piece = self._member.open(data)
                data = b""
                if piece:
                    yield piece
                if self._member.eof:
                    data, self._member = self._member.unused, None
                elif not piece:
                    return
        except (zlib.error, zstd.ZstdError, OSError, EOFError, ValueError) as error:
            raise Damaged(str(error)) from error

    def end(self) -> None:
        if self._member is not None:
            raise Damaged("it ends too early")


def _cramjam(algorithm: str) -> Any:
    try:
        return getattr(importlib.import_module("cramjam"), algorithm)
    except ImportError:
        raise ConfigError(
            f"decompress: {algorithm} needs a library that is not installed; run: {install_extra('files')}"
        ) from None


class _Framed:
    """Formats whose frames say how long they are and hold little."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._held += data
        while (frame := self._frame()) is not None:
            if frame:
                yield frame

    def end(self) -> None:
        if self._held:
            raise Damaged("it ends too early")

    def _frame(self) -> bytes | None:
        """What the next frame holds, empty when that is nothing; None when it is not whole yet."""
        raise NotImplementedError

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken


class _Snappy(_Framed):
    """The framing format: chunks of a kind, a length and at most 64 KiB of content."""

    _START = b"\xff\x06\x00\x00sNaPpY"

    def __init__(self) -> None:
        super().__init__()
        self._snappy = _cramjam("snappy")
        self._begun = False

    def _frame(self) -> bytes | None:
        if len(self._held) < 4:
            return None
        kind, length = self._held[0], int.from_bytes(self._held[1:4], "little")
        if not self._begun and kind != 0xFF:
            raise Damaged("it does not begin as a framed snappy stream does")
        if length > 76_500:
            raise Damaged(f"a chunk of {length} bytes")
        if len(self._held) < 4 + length:
            return None
        chunk = self._take(4 + length)
        if kind == 0xFF and chunk != self._START:
            raise Damaged("it does not begin as a framed snappy stream does")
        self._begun = True
        if kind >= 0x80:
            return b""
        if kind > 1:
            raise Damaged(f"a chunk of the unknown kind {kind}")
        try:
            return bytes(self._snappy.decompress(self._START + chunk))
        except Exception as error:
            raise Damaged(str(error)) from error


class _Lz4(_Framed):
    """Frames of blocks of at most 4 MiB, each opened by itself."""

    _MAGIC = 0x184D2204

    def __init__(self) -> None:
        super().__init__()
        self._lz4 = _cramjam("lz4")
        self._in_frame = False
        self._block_sum = 0
        self._content_sum: Any = None
        self._size = 0
        self._head = b""

    def end(self) -> None:
        super().end()
        if self._in_frame:
            raise Damaged("it ends too early")

    def _frame(self) -> bytes | None:
        return self._block() if self._in_frame else self._header()

    def _header(self) -> bytes | None:
        held = self._held
        if len(held) < 8:
            return None
        magic = int.from_bytes(held[:4], "little")
        if magic & 0xFFFFFFF0 == 0x184D2A50:  # a frame to pass over
            whole = 8 + int.from_bytes(held[4:8], "little")
            if whole > 1 << 20:
                raise Damaged("a frame to be passed over is larger than 1 MiB")
            if len(held) < whole:
                return None
            self._take(whole)
            return b""
        if magic != self._MAGIC or held[4] >> 6 != 1:
            raise Damaged("it does not begin as an lz4 frame does")
        flags, block = held[4], held[5]
        length = 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
        if len(held) < length:
            return None
        head = self._take(length)
        if (xxhash.xxh32_intdigest(head[4:-1]) >> 8) & 0xFF != head[-1]:
            raise Damaged("the header's checksum is wrong")
        if not flags & 0x20:
            raise Damaged("its blocks depend on each other; write them with independent blocks")
        if flags & 1:
            raise Damaged("it needs a dictionary")
        self._size = 1 << (8 + 2 * ((block >> 4) & 7))
        self._block_sum = 4 if flags & 0x10 else 0
        self._content_sum = xxhash.xxh32() if flags & 4 else None
        descriptor = bytes((0x60, block))
        check = (xxhash.xxh32_intdigest(descriptor) >> 8) & 0xFF
        self._head = head[:4] + descriptor + bytes((check,))
        self._in_frame = True
        return b""

    def _block(self) -> bytes | None:
        held = self._held
        if len(held) < 4:
            return None
        word = int.from_bytes(held[:4], "little")
        if word == 0:
            return self._end_mark()
        length = word & 0x7FFFFFFF
        if length > self._size:
            raise Damaged(f"a block of {length} bytes")
        if len(held) < 4 + length + self._block_sum:
            return None
        block = self._take(4 + length)
        if self._block_sum:
            expected = int.from_bytes(self._take(4), "little")
            if xxhash.xxh32_intdigest(block[4:]) != expected:
                raise Damaged("a block's checksum is wrong")
        made = block[4:] if word >> 31 else self._open(block)
        if self._content_sum is not None:
            self._content_sum.update(made)
        return made

    def _open(self, block: bytes) -> bytes:
        try:
            return bytes(self._lz4.decompress(self._head + block + b"\0\0\0\0"))
        except Exception as error:
            raise Damaged(str(error)) from error

    def _end_mark(self) -> bytes | None:
        if self._content_sum is not None:
            if len(self._held) < 8:
                return None
            if int.from_bytes(self._held[4:8], "little") != self._content_sum.intdigest():
                raise Damaged("the content's checksum is wrong")
            self._take(4)
        self._take(4)
        self._in_frame = False
        return b""

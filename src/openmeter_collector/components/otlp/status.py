"""`google.rpc.Status` with `RetryInfo`: how OTLP says no, and "not now".

Three small messages of a public protocol, written and read here because the package that has them is
not among those an OTLP peer needs otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

OK: Final = 0
INVALID_ARGUMENT: Final = 3
RESOURCE_EXHAUSTED: Final = 8
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

_RETRY_INFO: Final = b"type.googleapis.com/google.rpc.RetryInfo"


def encode(code: int, text: str, retry_after: float | None = None) -> bytes:
    """A `Status`; with `retry_after` seconds it carries a `RetryInfo`."""
    made = _varint_field(1, code) + _bytes_field(2, text.encode("utf-8", "replace"))
    if retry_after is not None:
        seconds = int(retry_after)
        delay = _varint_field(1, seconds) + _varint_field(2, int((retry_after - seconds) * 1e9))
        info = _bytes_field(1, _RETRY_INFO) + _bytes_field(2, _bytes_field(1, delay))
        made += _bytes_field(3, info)
    return made


def retry_after(status: bytes) -> float | None:
    """Seconds that the `RetryInfo` of a `Status` asks for; None when there is none.

    Anything that cannot be read is no wish: the answer's code already says that it may be repeated.
    """
    try:
        for number, detail in _fields(status):
            if number == 3 and isinstance(detail, bytes):
                found = dict(_fields(detail))
                if found.get(1) == _RETRY_INFO and isinstance(found.get(2), bytes):
                    return _delay(found[2])
    except (IndexError, ValueError):
        return None
    return None


def text_of(status: bytes) -> str:
    """The message of a `Status`, "" when it cannot be read."""
    try:
        found = dict(_fields(status)).get(2, b"")
    except (IndexError, ValueError):
        return ""
    return found.decode(errors="replace") if isinstance(found, bytes) else ""


def _delay(info: bytes | int) -> float | None:
    delay = dict(_fields(info)).get(1) if isinstance(info, bytes) else None
    if not isinstance(delay, bytes):
        return None
    parts = dict(_fields(delay))
    seconds, rest = parts.get(1, 0), parts.get(2, 0)
    return seconds + rest / 1e9 if isinstance(seconds, int) and isinstance(rest, int) else None


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value) if value else b""


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 == 0:
            value, at = _read_varint(data, at)
            yield key >> 3, value
        elif key & 7 == 2:
            length, at = _read_varint(data, at)
            if at + length > len(data):
                raise ValueError("it ends too early")
            yield key >> 3, data[at : at + length]
            at += length
        else:
            raise ValueError("a field of another kind")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")

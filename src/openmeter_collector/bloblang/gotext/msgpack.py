"""MessagePack as the engine writes it: computed numbers at the full width of their type."""

from __future__ import annotations

import struct
from typing import Final

from openmeter_collector.bloblang.convert import encode
from openmeter_collector.bloblang.failure import Fail, shown
from openmeter_collector.values.kinds import Float32, Integer, Marker, SourceNumber, Value
from openmeter_collector.values.timestamp import Timestamp

_WIDTHS: Final = {
    "int8": (0xD0, ">b"),
    "int16": (0xD1, ">h"),
    "int32": (0xD2, ">i"),
    "int64": (0xD3, ">q"),
    "uint8": (0xCC, ">B"),
    "uint16": (0xCD, ">H"),
    "uint32": (0xCE, ">I"),
    "uint64": (0xCF, ">Q"),
}
_SCALARS: Final = {None: b"\xc0", False: b"\xc2", True: b"\xc3"}
_MAX_DEPTH: Final = 500


def pack(value: Value) -> bytes:
    """A value as MessagePack; objects with their keys in order.

    Raises:
        Fail: it is nested too deeply.
    """
    out = bytearray()
    _write(value, out, 0)
    return bytes(out)


def _write(value: Value, out: bytearray, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise Fail(f"msgpack: the value is nested more than {_MAX_DEPTH} deep")
    if value is None or value is True or value is False or isinstance(value, Marker):
        out += _SCALARS[None if isinstance(value, Marker) else value]
    elif isinstance(value, dict):
        out += _head(len(value), 0x80, 16, 0xDE)
        for key in sorted(value):
            _write(key, out, depth + 1)
            _write(value[key], out, depth + 1)
    elif isinstance(value, list):
        out += _head(len(value), 0x90, 16, 0xDC)
        for one in value:
            _write(one, out, depth + 1)
    elif isinstance(value, bytes):
        out += _head(len(value), None, 0, 0xC5, 0xC4) + value
    elif isinstance(value, Timestamp):
        out += _moment(value)
    elif isinstance(value, Integer):
        _integer(value, out)
    elif isinstance(value, float) and type(value) not in (float, SourceNumber):
        single = isinstance(value, Float32)
        out += b"\xca" + struct.pack(">f", value) if single else b"\xcb" + struct.pack(">d", value)
    else:  # text; a number of a document travels as its text
        raw = encode(value if isinstance(value, str) else shown(value))
        out += _head(len(raw), 0xA0, 32, 0xDA, 0xD9) + raw


def _integer(value: Integer, out: bytearray) -> None:
    if value.type_name == "int":  # the only kind that is written as short as it can be
        if -32 <= value < 128:
            out += struct.pack(">b", value)
            return
        code, layout = next(
            found
            for found in map(_WIDTHS.__getitem__, ("uint8", "uint16", "uint32", "uint64"))
            if value < 256 ** struct.calcsize(found[1])
        )
    else:
        code, layout = _WIDTHS[value.type_name]
    out.append(code)
    out += struct.pack(layout, value)


def _head(size: int, fixed: int | None, below: int, wide: int, narrow: int | None = None) -> bytes:
    """The start of something with a size: the shortest form there is."""
    if fixed is not None and size < below:
        return bytes([fixed | size])
    if narrow is not None and size < 1 << 8:
        return struct.pack(">BB", narrow, size)
    if size < 1 << 16:
        return struct.pack(">BH", wide, size)
    return struct.pack(">BI", wide + 1, size)


def _moment(value: Timestamp) -> bytes:
    """A time as the extension that the format has for it."""
    seconds, nanos = divmod(value.ns, 1_000_000_000)
    if 0 <= seconds < 1 << 34:
        packed = nanos << 34 | seconds
        if packed < 1 << 32:
            return b"\xd6\xff" + struct.pack(">I", packed)
        return b"\xd7\xff" + struct.pack(">Q", packed)
    return b"\xc7\x0c\xff" + struct.pack(">Iq", nanos, seconds)

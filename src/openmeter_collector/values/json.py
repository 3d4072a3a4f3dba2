"""JSON with the engine's fidelity: numbers keep their text, keys come out sorted.

Common documents go through C both ways. What C cannot do exactly is noticed by it and done again
by the slow, exact code of `json_exact`: a broken document (for the text of its error), text that
is no UTF-8, a number whose text is unusual, an integer beyond 64 bits.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import orjson

from openmeter_collector.values import json_exact
from openmeter_collector.values.json_exact import EncodeError, JSONError
from openmeter_collector.values.kinds import Float64, SourceNumber, Value
from openmeter_collector.values.numbers import json_float

__all__ = ["EncodeError", "JSONError", "dumps", "loads"]

# Where a number can stand; dates and ids have plenty of `-0` where none can. The pattern starts
# with fixed text, which makes looking for it cheap.
_MINUS_ZERO: Final = re.compile(rb"-0(?![.0-9eE])(?<=[:,\[ \t\r\n]-0)")


def _float(text: str) -> float:
    """A number with a fraction or an exponent; plain if writing it gives the same text again."""
    if (
        len(text) < 17
        and "e" not in text
        and "E" not in text
        and (text[-1] != "0" or text[-2] == ".")
        and not text.startswith(("0.0000", "-0.0000"))
    ):
        return float(text)
    return SourceNumber(text)


_decode: Final = msgspec.json.Decoder(float_hook=_float).decode


def loads(data: bytes) -> Value:
    """Parse one JSON document.

    Raises:
        JSONError: `data` is not exactly one document; the text is the engine's.
    """
    if b"-0" in data and (_MINUS_ZERO.search(data) or data.startswith(b"-0")):
        return json_exact.loads(data)
    try:
        return _decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return json_exact.loads(data)


def _default(value: Any) -> Any:
    kind = type(value)
    if kind is Float64:
        if value.is_integer() and -1e15 < value < 1e15 and value:
            return int(value)
        if 1e-4 <= value < 1e15 or -1e15 < value <= -1e-4:
            return float(value)
        if value - value == 0:  # finite
            return orjson.Fragment(json_float(value).encode())
    elif kind is SourceNumber:
        return orjson.Fragment(value.text.encode())
    return json_exact.simple(value)


def dumps(value: Value) -> bytes:
    """Write a value as the engine does: compact, keys sorted by their bytes.

    Raises:
        EncodeError: something in `value` has no JSON form, such as a NaN.
    """
    try:
        out = orjson.dumps(value, _default, orjson.OPT_SORT_KEYS)
    except TypeError:
        return json_exact.dumps(value)
    # Most documents are ASCII, which is told several times faster than the two bytes are looked for.
    if not out.isascii() and b"\xe2\x80" in out:
        return out.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return out

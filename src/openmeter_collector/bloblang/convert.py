"""From one type to another: what is accepted as text, number, bool, time, and what is not.

`get_` takes only what already is of the kind; `to_` also reads text.
"""

from __future__ import annotations

import math
from typing import Any, Final

from openmeter_collector.bloblang.failure import Fail, TypeFail, shown, type_name
from openmeter_collector.bloblang.gotext import strconv
from openmeter_collector.bloblang.gotext.layout import parse_rfc3339
from openmeter_collector.values import json as value_json
from openmeter_collector.values import json_exact
from openmeter_collector.values.kinds import (
    INT64_MAX,
    INT64_MIN,
    UINT64_MAX,
    Float32,
    Float64,
    Int64,
    Integer,
    Marker,
    SourceNumber,
    UInt64,
    Value,
    is_number,
)
from openmeter_collector.values.numbers import text_float
from openmeter_collector.values.timestamp import LOCAL_ZONE, Timestamp

NUMBERS: Final = frozenset({int, float, Int64, Float64, SourceNumber, UInt64})
_GIGA: Final = 1_000_000_000


def decode(data: bytes) -> str:
    """Bytes as text; what is no UTF-8 survives in it."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes of a text."""
    return text.encode("utf-8", "surrogateescape")


def text_or_bytes(value: Value) -> str:
    """The text of a string or bytes; a timestamp is none."""
    if type(value) is str:
        return value
    if isinstance(value, bytes):
        return decode(value)
    raise TypeFail(value, "string")


def get_string(value: Value) -> str:
    """The text of a string, bytes or timestamp."""
    if type(value) is str:
        return value
    if isinstance(value, bytes):
        return decode(value)
    if isinstance(value, Timestamp):
        return value.text()
    raise TypeFail(value, "string")


def get_bytes(value: Value) -> bytes:
    """The bytes of a string, bytes or timestamp."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return encode(value)
    if isinstance(value, Timestamp):
        return value.text().encode()
    raise TypeFail(value, "bytes")


def get_number(value: Value) -> float:
    """Any number as a float."""
    if is_number(value):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    raise TypeFail(value, "number")


def get_int(value: Value) -> int:
    """Any number as an integer of 64 bits; a fraction is cut off."""
    if isinstance(value, int) and value is not True and value is not False:
        if INT64_MIN <= value <= INT64_MAX:
            return value
        return truncated(float(value)) if not isinstance(value, Integer) else _wrapped(value)
    if isinstance(value, float):
        return truncated(value)
    raise TypeFail(value, "number")


def _wrapped(value: int) -> int:
    return (value + INT64_MAX + 1) % (UINT64_MAX + 1) - INT64_MAX - 1


def truncated(value: float) -> int:
    """A float without its fraction; beyond 64 bits it is the smallest integer."""
    if value != value or not -9.223372036854776e18 <= value < 9.223372036854776e18:  # noqa: PLR0124
        return INT64_MIN
    return int(value)


def get_bool(value: Value) -> bool:
    """A bool, or a number that is not zero."""
    if value is True or value is False:
        return value
    if is_number(value):
        return is_nonzero(value)
    raise TypeFail(value, "bool")


def is_nonzero(value: float) -> bool:
    """Whether a number counts as true; a number of a document unless its text is `0`."""
    kind = type(value)
    if kind is float or kind is SourceNumber:
        return True
    return value != 0


def to_bool(value: Value) -> bool:
    """A bool, a number, or the text of a bool."""
    if value is True or value is False:
        return value
    if is_number(value):
        return is_nonzero(value)
    if isinstance(value, (str, bytes)):
        found = strconv.parse_bool(value if isinstance(value, str) else decode(value))
        if found is not None:
            return found
    raise TypeFail(value, "bool")


def to_float(value: Value) -> Float64:
    """A number, or the text of one."""
    kind = type(value)
    if kind is Float64:
        return value  # type: ignore[no-any-return]
    if kind in NUMBERS or is_number(value):
        number = get_number(value)
        if math.isinf(number) and isinstance(value, SourceNumber):
            raise Fail(f'strconv.ParseFloat: parsing "{value.text}": value out of range')
        return Float64(number)
    if isinstance(value, str):
        return Float64(strconv.parse_float(value))
    if isinstance(value, bytes):
        return Float64(strconv.parse_float(decode(value)))
    raise TypeFail(value, "number")


_ROUND_FIRST: Final = (
    "float value contains decimals and therefore cannot be cast as {}, if you intend to round "
    "the value then call `.round()` explicitly before this cast"
)


def to_int(value: Value) -> int:
    """A number without a fraction, or the text of an integer."""
    if isinstance(value, int) and value is not True and value is not False:
        if isinstance(value, Integer):
            if value > INT64_MAX:
                text = "unsigned integer value is too large to be cast as a signed integer"
                raise Fail(text)
            return value
        if INT64_MIN <= value <= INT64_MAX:
            return value
        return strconv.parse_int(str(value), base=10)
    if isinstance(value, float):
        return _float_to_int(value)
    if isinstance(value, str):
        return strconv.parse_int(value)
    if isinstance(value, bytes):
        return strconv.parse_int(decode(value))
    raise TypeFail(value, "number")


def _float_to_int(value: float) -> int:
    if isinstance(value, SourceNumber):
        return strconv.parse_int(value.text, base=10)
    if type(value) is float:
        return strconv.parse_int(repr(value), base=10)
    if math.isinf(value):
        raise Fail("cannot convert +/-INF to an integer")
    if math.isnan(value):
        raise Fail("cannot convert NAN to an integer")
    if value > 9.223372036854775807e18:
        raise Fail("float value is too large to be cast as a signed integer")
    if value < -9.223372036854775808e18:
        raise Fail("float value is too small to be cast as a signed integer")
    if not value.is_integer() or value > INT64_MAX:
        raise Fail(_ROUND_FIRST.format("a signed integer"))
    return truncated(value)


def to_uint(value: Value) -> int:
    """A number that is not negative and has no fraction, or the text of one."""
    if isinstance(value, (str, bytes)):
        text = value if isinstance(value, str) else decode(value)
        return strconv.parse_int(text, unsigned=True)
    if type(value) in (int, float, SourceNumber):
        value = Int64(to_int(value))
    if isinstance(value, int) and value is not True and value is not False:
        if value < 0:
            text = "signed integer value is negative and cannot be cast as an unsigned integer"
            raise Fail(text)
        return value
    if not isinstance(value, float):
        raise TypeFail(value, "number")
    if value < 0:
        raise Fail("float value is negative and cannot be cast as an unsigned integer")
    if math.isinf(value):
        raise Fail("cannot convert +/-INF to an unsigned integer")
    if math.isnan(value):
        raise Fail("cannot convert NAN to an unsigned integer")
    if value > 1.8446744073709552e19:
        raise Fail("float value is too large to be cast as an unsigned integer")
    if not value.is_integer() or value > UINT64_MAX:
        raise Fail(_ROUND_FIRST.format("an unsigned integer"))
    return int(value)


def get_timestamp(value: Value) -> Timestamp:
    """A timestamp, unix seconds, or RFC 3339 text.

    Raises:
        Fail: it is none, or further away than 64 bits of seconds can say.
    """
    if isinstance(value, Timestamp):
        return value
    if isinstance(value, (int, float)) and value is not True and value is not False:
        if isinstance(value, SourceNumber) and math.isinf(value):
            return parse_rfc3339(value.text)
        whole = int(value) if isinstance(value, int) or math.isfinite(value) else INT64_MAX + 1
        if not INT64_MIN <= whole <= INT64_MAX:
            raise Fail(f"{shown(value)} is out of range of the time: it does not fit 64 bits")
        rest = 0 if isinstance(value, int) else int((value - whole) * 1e9)
        return Timestamp(whole * _GIGA + rest, LOCAL_ZONE)
    if isinstance(value, (str, bytes)):
        return parse_rfc3339(value if isinstance(value, str) else decode(value))
    raise TypeFail(value, "number", "string")


def to_string(value: Value) -> str:
    """Any value as text."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, bytes):
        return decode(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, Timestamp):
        return value.text()
    if isinstance(value, Marker):
        return "null"
    return decode(html_json(value))


def _float_text(value: float) -> str:
    if isinstance(value, SourceNumber):
        return value.text
    if isinstance(value, Float64):
        return text_float(value)
    if isinstance(value, Float32):
        return json_exact.dumps(value).decode()
    return repr(value)


def to_bytes(value: Value) -> bytes:
    """Any value as bytes."""
    return value if isinstance(value, bytes) else encode(to_string(value))


def html_json(value: Value) -> bytes:
    """JSON with `<`, `>` and `&` escaped.

    Raises:
        Fail: there is something in `value` that has no JSON form, such as a NaN.
    """
    try:
        out = value_json.dumps(value)
    except value_json.EncodeError as error:
        raise Fail(str(error)) from None
    for char, escape in ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026")):
        if char in out:
            out = out.replace(char, escape)
    return out


def argument(kind: str, value: Value) -> Any:
    """What a parameter of `kind` receives for `value`."""
    if kind == "any" or kind.startswith("query"):
        return value
    if kind == "string":
        if type(value) is str:
            return value
        if isinstance(value, bytes):
            return decode(value)
    elif kind == "integer":
        return get_int(value)
    elif kind == "float":
        return Float64(get_number(value))
    elif kind == "bool":
        return get_bool(value)
    elif kind == "timestamp":
        return get_timestamp(value)
    elif (kind == "array" and isinstance(value, list)) or (
        kind == "object" and isinstance(value, dict)
    ):
        return value
    raise Fail(f"wrong argument type, expected {kind}, got {type_name(value)}")

"""Methods that change or ask for a value's type."""

from __future__ import annotations

import struct

from openmeter_collector.bloblang import convert
from openmeter_collector.bloblang.definition import Case, method
from openmeter_collector.bloblang.failure import Fail, TypeFail, type_name
from openmeter_collector.values.kinds import (
    Float32,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Value,
)
from openmeter_collector.values.timestamp import Timestamp


@method(
    "coercion",
    cases=[
        Case(
            "root = this.map_each(this.string())",
            '[1.50,true,null,{"a":1}]',
            '["1.50","true","null","{\\"a\\":1}"]',
        )
    ],
)
def string(value: Value) -> str:
    """Any value as text: JSON for arrays and objects."""
    return convert.to_string(value)


@method("coercion", cases=[Case("root = this.bytes().length()", '"héllo"', "6")])
def bytes_(value: Value) -> bytes:
    """Any value as bytes."""
    return convert.to_bytes(value)


@method(
    "coercion",
    cases=[
        Case("root = this.map_each(this.number())", '["5","1e3",2.0]', "[5,1000,2]"),
        Case("root = this.number(0)", '"nope"', "0"),
    ],
    params={"default": "What to answer if the value, or computing it, fails."},
)
def number(value: Value, default: float | None = None) -> Value:  # noqa: ARG001 - the emitter deals with it
    """A number, or the text of one, as a float."""
    return convert.to_float(value)


@method(
    "coercion",
    cases=[
        Case("root = this.map_each(this.bool())", '["true","f",1]', "[true,false,true]"),
        Case("root = this.bool(false)", '"nope"', "false"),
    ],
    params={"default": "What to answer if the value, or computing it, fails."},
    name="bool",
)
def bool_(value: Value, default: bool | None = None) -> bool:  # noqa: ARG001 - the emitter deals with it
    """A bool, a number (0 is false) or the text of a bool, as a bool."""
    return convert.to_bool(value)


@method(
    "coercion",
    cases=[Case('root = "2020-08-14T05:54:23Z".timestamp().type()', "", "timestamp")],
    params={"default": "What to answer if the value, or computing it, fails."},
)
def timestamp(value: Value, default: Timestamp | None = None) -> Timestamp:  # noqa: ARG001 - the emitter deals with it
    """RFC 3339 text, or unix seconds, as a timestamp."""
    return convert.get_timestamp(value)


@method(
    "coercion",
    cases=[Case("root = this.array()", '"a"', '["a"]'), Case("root = this.array()", "[1]", "[1]")],
)
def array(value: Value) -> Value:
    """The value in an array of its own, unless it is an array already."""
    return value if isinstance(value, list) else [value]


@method(
    "coercion",
    cases=[
        Case(
            "root = this.map_each(this.type())",
            '["a",1,true,null,[],{}]',
            '["string","number","bool","null","array","object"]',
        )
    ],
)
def type_(value: Value) -> str:
    """The name of the value's type."""
    return type_name(value)


@method(
    "coercion",
    marks=True,
    cases=[
        Case("root = this.a.not_null()", '{"a":1}', "1"),
        Case(
            "root = this.a.not_null()",
            "{}",
            error="failed assignment (line 1): field `this.a`: value is null",
        ),
    ],
)
def not_null(value: Value) -> Value:
    """The value itself; null is an error."""
    if value is None:
        raise Fail("value is null")
    return value


@method(
    "coercion",
    cases=[
        Case("root = this.not_empty()", "[1]", "[1]"),
        Case(
            "root.a = this.not_empty()",
            '""',
            error="failed assignment (line 1): field `this`: string value is empty",
        ),
    ],
)
def not_empty(value: Value) -> Value:
    """The value itself; an empty text, array or object is an error."""
    if type(value) not in (str, list, dict):
        raise TypeFail(value, "string", "array", "object")
    if not value:
        raise Fail(f"{type_name(value)} value is empty")
    return value


def _signed(value: Value, kind: type, bits: int) -> Value:
    if type(value) is kind:
        return value
    found = convert.to_int(value)
    article = "an" if bits == 8 else "a"
    if found >= 2 ** (bits - 1):
        raise Fail(f"value is too large to be cast as {article} {bits}-bit signed integer")
    if found < -(2 ** (bits - 1)):
        raise Fail(f"value is too small to be cast as {article} {bits}-bit signed integer")
    return kind(found)


def _unsigned(value: Value, kind: type, bits: int) -> Value:
    if type(value) is kind:
        return value
    found = convert.to_uint(value)
    if found >= 2**bits:
        article = "an" if bits == 8 else "a"
        raise Fail(f"value is too large to be cast as {article} {bits}-bit unsigned integer")
    return kind(found)


@method(
    "numbers",
    plugin=True,
    cases=[
        Case("root = this.int64()", '"0x1F"', "31"),
        Case(
            "root.a = this.v.int64()",
            '{"v":5.0}',
            error='failed assignment (line 1): strconv.ParseInt: parsing "5.0": invalid syntax',
        ),
    ],
)
def int64(value: Value) -> Value:
    """An integer of 64 bits, from a number without fraction or from text."""
    return value if type(value) is Int64 else Int64(convert.to_int(value))


@method("numbers", plugin=True, cases=[Case("root = this.int32()", '"42"', "42")])
def int32(value: Value) -> Value:
    """An integer of 32 bits."""
    return _signed(value, Int32, 32)


@method("numbers", plugin=True, cases=[Case("root = this.int16()", '"42"', "42")])
def int16(value: Value) -> Value:
    """An integer of 16 bits."""
    return _signed(value, Int16, 16)


@method(
    "numbers",
    plugin=True,
    cases=[
        Case("root = this.int8()", '"42"', "42"),
        Case(
            "root = this.int8()",
            '"200"',
            error="failed assignment (line 1): value is too large to be cast as an 8-bit signed integer",
        ),
    ],
)
def int8(value: Value) -> Value:
    """An integer of 8 bits."""
    return _signed(value, Int8, 8)


@method("numbers", plugin=True, cases=[Case("root = this.uint64()", '"42"', "42")])
def uint64(value: Value) -> Value:
    """An integer of 64 bits that is not negative."""
    return value if type(value) is UInt64 else UInt64(convert.to_uint(value))


@method("numbers", plugin=True, cases=[Case("root = this.uint32()", '"42"', "42")])
def uint32(value: Value) -> Value:
    """An integer of 32 bits that is not negative."""
    return _unsigned(value, UInt32, 32)


@method("numbers", plugin=True, cases=[Case("root = this.uint16()", '"42"', "42")])
def uint16(value: Value) -> Value:
    """An integer of 16 bits that is not negative."""
    return _unsigned(value, UInt16, 16)


@method("numbers", plugin=True, cases=[Case("root = this.uint8()", '"42"', "42")])
def uint8(value: Value) -> Value:
    """An integer of 8 bits that is not negative."""
    return _unsigned(value, UInt8, 8)


@method("numbers", plugin=True, cases=[Case("root = this.float64()", '"1.5"', "1.5")])
def float64(value: Value) -> Value:
    """A float of 64 bits."""
    return convert.to_float(value)


@method("numbers", plugin=True, cases=[Case("root = this.float32()", '"1.5"', "1.5")])
def float32(value: Value) -> Value:
    """A float of 32 bits."""
    if isinstance(value, Float32):
        raise TypeFail(value, "number")
    number = float(convert.to_float(value))
    try:
        return Float32(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        raise Fail(f"{number!r} does not fit a float of 32 bits") from None


ENTRIES = (
    string,
    bytes_,
    number,
    bool_,
    timestamp,
    array,
    type_,
    not_null,
    not_empty,
    int64,
    int32,
    int16,
    int8,
    uint64,
    uint32,
    uint16,
    uint8,
    float64,
    float32,
)

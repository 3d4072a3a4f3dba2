"""Methods of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from openmeter_collector.bloblang.convert import get_int, get_number
from openmeter_collector.bloblang.definition import Case, function, method
from openmeter_collector.bloblang.failure import Fail, TypeFail
from openmeter_collector.bloblang.gotext import trigonometry
from openmeter_collector.values.kinds import (
    INT64_MAX,
    INT64_MIN,
    Float64,
    Int64,
    Integer,
    SourceNumber,
    UInt64,
    Value,
    is_number,
)


def _number(value: Value) -> int | float:
    """A number of the common kinds: an int or a float."""
    kind = type(value)
    if kind is int:
        return value if INT64_MIN <= value <= INT64_MAX else get_number(value)
    if kind in (Int64, UInt64, Float64, float):
        return value  # type: ignore[no-any-return]
    if kind is SourceNumber:
        return float(value)
    raise TypeFail(value, "number")


def _whole(value: float, change: Callable[[float], float]) -> Value:
    """A changed float as an integer, where it fits one."""
    if not math.isfinite(value):
        return Float64(value)
    changed = change(value)
    if INT64_MIN <= changed <= INT64_MAX and float(int(changed)) == changed:
        return Int64(changed) if -(2.0**63) <= changed < 2.0**63 else Float64(changed)
    return Float64(changed)


@method("numbers", cases=[Case("root = this.map_each(this.ceil())", "[1.2,-1.2,5]", "[2,-1,5]")])
def ceil(value: Value) -> Value:
    """The next integer upwards."""
    number = _number(value)
    return value if _is_int(number) else _whole(number, lambda one: float(math.ceil(one)))


@method("numbers", cases=[Case("root = this.map_each(this.floor())", "[1.8,-1.2,5]", "[1,-2,5]")])
def floor(value: Value) -> Value:
    """The next integer downwards."""
    number = _number(value)
    return value if _is_int(number) else _whole(number, lambda one: float(math.floor(one)))


def _is_int(number: float) -> bool:
    return isinstance(number, int)


@method("numbers", cases=[Case("root = this.map_each(this.round())", "[2.5,-2.5,0.4]", "[3,-3,0]")])
def round_(value: Value) -> Value:
    """The nearest integer; halves away from zero."""
    if type(value) is Float64 and -1e15 < value < 1e15:
        return (
            Int64(value + 0.5 if value >= 0 else value - 0.5)
            if abs(value) > 0.5 or abs(value) == 0.5
            else Int64(0)
        )
    number = _number(value)
    return value if _is_int(number) else _whole(number, _half_away)


def _half_away(number: float) -> float:
    whole = math.trunc(number)
    if abs(number - whole) >= 0.5:
        whole += 1 if number > 0 else -1
    return float(whole)


def _logarithm(value: Value, change: Callable[[float], float]) -> Value:
    number = float(_number(value))
    if number <= 0:
        return Float64(-math.inf if number == 0 else math.nan)
    return Float64(change(number))


@method("numbers", cases=[Case("root = this.log().round()", "1000", "7")])
def log(value: Value) -> Value:
    """The natural logarithm."""
    return _logarithm(value, trigonometry.log)


@method("numbers", cases=[Case("root = this.log10()", "1000", "3")])
def log10(value: Value) -> Value:
    """The logarithm to base 10."""
    return _logarithm(value, trigonometry.log10)


def _extreme(value: Value, choose: Callable[[float, float], float]) -> Value:
    if not isinstance(value, list):
        raise TypeFail(value, "array")
    if not value:
        raise Fail("the array was empty")
    best: float | None = None
    for index, one in enumerate(value):
        try:
            number = get_number(one)
        except TypeFail as fail:
            raise fail.under(f"index {index} of array: ") from None
        best = number if best is None else choose(best, number)
    return Float64(best or 0.0)


@method(
    "numbers",
    cases=[
        Case("root = this.max()", "[3,12.5,-1]", "12.5"),
        Case(
            "root.a = this.max()",
            "[]",
            error="failed assignment (line 1): field `this`: the array was empty",
        ),
    ],
)
def max_(value: Value) -> Value:
    """The largest number of an array."""
    return _extreme(value, max)


@method("numbers", cases=[Case("root = this.min()", "[3,12.5,-1]", "-1")])
def min_(value: Value) -> Value:
    """The smallest number of an array."""
    return _extreme(value, min)


def _integer(value: Value) -> int:
    huge = isinstance(value, SourceNumber) and math.isinf(value)
    if huge or not is_number(value):
        raise TypeFail(value, "integer")
    return get_int(value)


@method(
    "numbers",
    cases=[Case("root = this.bitwise_and(6)", "12", "4")],
    params={"value": "The other number."},
)
def bitwise_and(receiver: Value, value: int) -> Value:
    """The bits that both numbers have."""
    return Int64(_integer(receiver) & value)


@method(
    "numbers",
    cases=[Case("root = this.bitwise_or(6)", "12", "14")],
    params={"value": "The other number."},
)
def bitwise_or(receiver: Value, value: int) -> Value:
    """The bits that either number has."""
    return Int64(_integer(receiver) | value)


@method(
    "numbers",
    cases=[Case("root = this.bitwise_xor(6)", "12", "10")],
    params={"value": "The other number."},
)
def bitwise_xor(receiver: Value, value: int) -> Value:
    """The bits that only one of the numbers has."""
    return Int64(_integer(receiver) ^ value)


@method(
    "numbers",
    plugin=True,
    cases=[Case("root = this.map_each(this.abs())", "[5,-5,-1.5]", "[5,5,1.5]")],
)
def abs_(value: Value) -> Value:
    """The number without its sign."""
    if isinstance(value, Integer) and value.type_name in ("int", "int8", "int16", "int32", "int64"):
        if value == INT64_MIN:
            raise Fail("the absolute value does not fit an integer of 64 bits")
        return Int64(abs(int(value)))
    if isinstance(value, Integer):
        raise TypeFail(value, "number", "integer")
    if type(value) is int and INT64_MIN < value <= INT64_MAX:
        return Int64(abs(value))
    if is_number(value):
        return Float64(abs(get_number(value)))
    raise TypeFail(value, "number", "integer")


def _float_method(value: Value, change: Callable[[float], float]) -> Value:
    try:
        return Float64(change(get_number(value)))
    except ValueError:
        return Float64(math.nan)


@method(
    "numbers",
    plugin=True,
    cases=[Case("root = this.pow(10)", "2", "1024")],
    params={"exponent": "The exponent."},
)
def pow_(value: Value, exponent: float) -> Value:
    """The number to a power."""
    base = get_number(value)
    try:
        return Float64(math.pow(base, exponent))
    except OverflowError:
        return Float64(-math.inf if base < 0 and exponent % 2 == 1 else math.inf)
    except ValueError:
        return Float64(math.inf if base == 0 else math.nan)


@method("numbers", plugin=True, cases=[Case("root = (this * pi() / 180).sin()", "90", "1")])
def sin(value: Value) -> Value:
    """The sine of an angle in radians."""
    return _float_method(value, trigonometry.sin)


@method("numbers", plugin=True, cases=[Case("root = (this * pi() / 180).cos()", "0", "1")])
def cos(value: Value) -> Value:
    """The cosine of an angle in radians."""
    return _float_method(value, trigonometry.cos)


@method("numbers", plugin=True, cases=[Case("root = (this * pi() / 180).tan()", "0", "0")])
def tan(value: Value) -> Value:
    """The tangent of an angle in radians."""
    return _float_method(value, trigonometry.tan)


@function("general", static=False, total=True, cases=[Case("root = pi()", "", "3.141592653589793")])
def pi() -> Any:
    """The number pi."""
    return Float64(math.pi)


ENTRIES = (
    ceil,
    floor,
    round_,
    log,
    log10,
    max_,
    min_,
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    abs_,
    pow_,
    sin,
    cos,
    tan,
    pi,
)

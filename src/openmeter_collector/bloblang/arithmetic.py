"""What the operators do.

Numbers: with a float on either side both are floats, else both are integers of 64 bits. Where
the engine would wrap around without a word, `+`, `-` and `*` fail.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final

from openmeter_collector.bloblang.compare import equal
from openmeter_collector.bloblang.convert import get_bool, get_int, get_number, get_string
from openmeter_collector.bloblang.failure import DivideFail, Fail, MismatchFail, bounded
from openmeter_collector.values.kinds import (
    INT64_MAX,
    INT64_MIN,
    UINT64_MAX,
    Float32,
    Float64,
    Int64,
    Integer,
    PlainInt,
    SourceNumber,
    UInt64,
    Value,
    is_number,
)
from openmeter_collector.values.timestamp import Timestamp

# 1: an integer to arithmetic, 2: a float. What is missing takes the slow way.
_RANK: Final[dict[type, int]] = {
    int: 1,
    Int64: 1,
    float: 2,
    Float64: 2,
}
_UNSIGNED: Final = ("uint8", "uint16", "uint32", "uint64")
_rank: Final = _RANK.get


def add(left: Value, right: Value) -> Value:
    """`left + right`: numbers are added, texts joined."""
    first, second = _rank(type(left)), _rank(type(right))
    if first is not None and second is not None:
        if first == 1 == second:
            total = left + right
            if INT64_MIN <= total <= INT64_MAX:
                return Int64(total)
        else:
            return Float64(left + right)
    elif type(left) is str and type(right) is str:
        return bounded(left + right)
    return _add(left, right)


def _add(left: Value, right: Value) -> Value:
    if isinstance(left, (str, bytes)):
        if not isinstance(right, (str, bytes, Timestamp)):
            raise MismatchFail("add", left, right)
        return get_string(left) + get_string(right)
    if not is_number(left) or (
        isinstance(left, (Float32, Integer)) and not isinstance(left, (Int64, UInt64, PlainInt))
    ):
        raise MismatchFail("add", left, right)
    return _numeric("add", operator.add, left, right)


def subtract(left: Value, right: Value) -> Value:
    """`left - right`."""
    first, second = _rank(type(left)), _rank(type(right))
    if first is not None and second is not None:
        if first == 1 == second:
            total = left - right
            if INT64_MIN <= total <= INT64_MAX:
                return Int64(total)
        else:
            return Float64(left - right)
    return _numeric("subtract", operator.sub, left, right)


def multiply(left: Value, right: Value) -> Value:
    """`left * right`."""
    first, second = _rank(type(left)), _rank(type(right))
    if first is not None and second is not None:
        if first == 1 == second:
            total = left * right
            if INT64_MIN <= total <= INT64_MAX:
                return Int64(total)
        else:
            return Float64(left * right)
    return _numeric("multiply", operator.mul, left, right)


def divide(left: Value, right: Value) -> Value:
    """`left / right`, always a float."""
    if type(left) in _RANK and type(right) in _RANK:
        if right:
            return Float64(left / right)
        raise DivideFail
    if not is_number(left) or not is_number(right):
        raise MismatchFail("divide", left, right)
    divisor = get_number(right)
    if divisor == 0:
        raise DivideFail
    return Float64(get_number(left) / divisor)


def modulo(left: Value, right: Value) -> Value:
    """`left % right` on integers; the result has the sign of `left`."""
    if not is_number(left) or not is_number(right):
        raise MismatchFail("modulo", left, right)
    divisor = get_int(right)
    if divisor == 0:
        raise DivideFail
    return (
        Int64(math.fmod(get_int(left), divisor))
        if _small(left, right)
        else _exact_modulo(get_int(left), divisor)
    )


def _small(left: float, right: float) -> bool:
    return -(2**53) < left < 2**53 and -(2**53) < right < 2**53


def _exact_modulo(left: int, right: int) -> Int64:
    rest = abs(left) % abs(right)
    return Int64(-rest if left < 0 else rest)


def _sanitised(value: Value) -> Value:
    """A number as the engine's arithmetic sees it; None for what is no number."""
    if isinstance(value, SourceNumber):
        return Int64(0) if value.text == "-0" else Float64(value)
    if isinstance(value, Integer):
        return UInt64(value) if value.type_name in _UNSIGNED else Int64(value)
    if type(value) is int:
        return Int64(value) if INT64_MIN <= value <= INT64_MAX else Float64(get_number(value))
    if isinstance(value, float):
        return Float64(value)
    return None


def _numeric(
    name: str, operation: Callable[[Any, Any], Any], left: Value, right: Value
) -> Int64 | UInt64 | Float64:
    first, second = _sanitised(left), _sanitised(right)
    if first is None or second is None:
        raise MismatchFail(name, _restricted(left), _restricted(right))
    if isinstance(first, Float64) or isinstance(second, Float64):
        return Float64(operation(float(first), float(second)))
    total = operation(int(first), int(second))
    if isinstance(first, UInt64) and isinstance(second, UInt64):
        if 0 <= total <= UINT64_MAX:
            return UInt64(total)
    elif INT64_MIN <= total <= INT64_MAX:
        return Int64(total)
    raise Fail(
        f"cannot {name} {int(first)} and {int(second)}: the result does not fit 64 bits; "
        "convert with .number() to calculate with floats"
    )


def equals(left: Value, right: Value) -> bool:
    """`left == right`, by the rules of the type on the left."""
    first, second = type(left), type(right)
    if first is str and second is str:
        return bool(left == right)
    if isinstance(left, bool):
        return bool_of(right) is left
    if isinstance(left, (str, bytes, Timestamp)) and isinstance(right, (str, bytes, Timestamp)):
        return get_string(left) == get_string(right)
    if first in _RANK and second in _RANK:
        if _RANK[first] == _RANK[second]:
            return bool(left == right)
        return float(left) == float(right)
    return equal(_restricted(left), _restricted(right))


def bool_of(value: Value) -> bool | None:
    """A value as the bool it is compared as, None if it is not comparable to one."""
    if isinstance(value, (bool, int, float)):
        return get_bool(value)
    return None


def _restricted(value: Value) -> Value:
    return value.text() if isinstance(value, Timestamp) else value


def differs(left: Value, right: Value) -> bool:
    """`left != right`."""
    return not equals(left, right)


def _ordered(symbol: Callable[[Any, Any], bool]) -> Callable[[Value, Value], bool]:
    def compare(left: Value, right: Value) -> bool:
        if type(left) in _RANK and type(right) in _RANK:
            return symbol(left, right)
        if isinstance(left, (str, bytes, Timestamp)) and isinstance(right, (str, bytes, Timestamp)):
            first, second = get_string(left), get_string(right)
            if first.isascii() and second.isascii():
                return symbol(first, second)
            return symbol(_key(first), _key(second))
        if is_number(left) and is_number(right):
            return symbol(left, right)
        if is_number(left):
            right = _restricted(right)
        raise MismatchFail("compare", left, right)

    return compare


def _key(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


less: Final = _ordered(operator.lt)
less_or_equal: Final = _ordered(operator.le)
greater: Final = _ordered(operator.gt)
greater_or_equal: Final = _ordered(operator.ge)

OPERATIONS: Final[dict[str, Callable[[Value, Value], Value]]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": modulo,
    "==": equals,
    "!=": differs,
    "<": less,
    "<=": less_or_equal,
    ">": greater,
    ">=": greater_or_equal,
}

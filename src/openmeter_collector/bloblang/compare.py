"""Equality of values in depth, as `contains`, `find` and the cases of `match` see it."""

from __future__ import annotations

from openmeter_collector.bloblang.convert import get_bool
from openmeter_collector.values.kinds import SourceNumber, Value, is_number
from openmeter_collector.values.timestamp import Timestamp


def equal(left: Value, right: Value) -> bool:
    """Whether two values are equal; `deleted()` and `nothing()` equal nothing."""
    kind = type(left)
    if kind is str:
        if type(right) is str:
            return bool(left == right)
        return bool(_text(right) == left)
    if left is None:
        return right is None
    if left is True or left is False:
        if right is True or right is False or is_number(right):
            return left is get_bool(right)
        return False
    if is_number(left):
        return is_number(right) and _same_number(left, right)
    if isinstance(left, (bytes, Timestamp)):
        return _text(left) == _text(right)
    if kind is list:
        return (
            type(right) is list
            and len(left) == len(right)
            and all(equal(a, b) for a, b in zip(left, right, strict=True))
        )
    if kind is dict:
        return (
            type(right) is dict
            and len(left) == len(right)
            and all(equal(value, right.get(key)) for key, value in left.items())
        )
    return False


def _same_number(left: float, right: float) -> bool:
    if isinstance(left, SourceNumber) or isinstance(right, SourceNumber):
        return float(left) == float(right)
    return left == right


def _text(value: Value) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value.text() if isinstance(value, Timestamp) else None

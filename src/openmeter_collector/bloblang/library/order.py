"""Sorting with an order that may fail, and that sees positions for its errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key
from typing import Final

from openmeter_collector.values.kinds import Value

Less = Callable[[Value, Value, int, int], bool]

_SMALL: Final = 12


def sorted_by(elements: list[Value], less: Less) -> list[Value]:
    """Sort by `less(left, right, i, j)`, where i and j are where the two stand.

    Up to twelve elements are sorted by insertion, as the engine does: equal ones keep their
    order, and an error names the same element.
    """
    if len(elements) <= _SMALL:
        made = list(elements)
        for end in range(1, len(made)):
            at = end
            while at > 0 and less(made[at], made[at - 1], at, at - 1):
                made[at], made[at - 1] = made[at - 1], made[at]
                at -= 1
        return made
    numbered = list(enumerate(elements))

    def compare(left: tuple[int, Value], right: tuple[int, Value]) -> int:
        return -1 if less(left[1], right[1], left[0], right[0]) else 1

    return [one for _, one in sorted(numbered, key=cmp_to_key(compare))]

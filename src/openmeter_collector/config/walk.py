"""Looking through a decoded config."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import TypeVar

from openmeter_collector.component.node import Node

T = TypeVar("T")


def values_below(value: object, wanted: type[T]) -> Iterator[T]:
    """All values of a kind in a config, or in a part of one."""
    if isinstance(value, wanted):
        yield value
    if isinstance(value, Node):
        yield from values_below(value.config, wanted)
        yield from values_below(value.processors, wanted)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from values_below(one, wanted)
    elif isinstance(value, dict):
        yield from values_below(list(value.values()), wanted)
    elif is_dataclass(value):
        for one in fields(value):
            yield from values_below(getattr(value, one.name, None), wanted)

"""What a config value may look like: a small closed algebra that decoder, reference pages, JSON
Schema and forms all walk. Made from annotations by `type_of`.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from openmeter_collector.values.units import ByteSize, Duration


@dataclass(frozen=True, slots=True)
class Scalar:
    """One word of text. `kind`: string, int, float, bool, duration, byte_size, url, interpolated,
    mapping.
    """

    kind: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Optional:
    """A value or nothing: null and, except for strings, the empty text are None."""

    inner: FieldType


@dataclass(frozen=True, slots=True)
class ListOf:
    """A sequence; decoded to a tuple if `frozen`, else to a list."""

    inner: FieldType
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class MapOf:
    """Free names to values of one type."""

    inner: FieldType


@dataclass(frozen=True, slots=True)
class SectionOf:
    """A nested object with fields of its own."""

    cls: type[Any]


@dataclass(frozen=True, slots=True)
class Child:
    """A component of this kind, decoded to a `Node`."""

    kind: str


@dataclass(frozen=True, slots=True)
class Ref:
    """The label of a resource of this kind."""

    kind: str


@dataclass(frozen=True, slots=True)
class AnyValue:
    """Whatever YAML can say, as plain Python values."""


FieldType = Scalar | Choice | Optional | ListOf | MapOf | SectionOf | Child | Ref | AnyValue

_SCALARS: dict[object, FieldType] = {
    str: Scalar("string"),
    int: Scalar("int"),
    float: Scalar("float"),
    bool: Scalar("bool"),
    Duration: Scalar("duration"),
    ByteSize: Scalar("byte_size"),
    Any: AnyValue(),
}


def type_of(annotation: Any) -> FieldType:
    """Read an annotation.

    Raises:
        TypeError: the annotation is nothing a config value can be.
    """
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return next((a for a in args[1:] if isinstance(a, FieldType)), None) or type_of(args[0])
    if origin is Literal:
        return Choice(tuple(str(a) for a in args))
    if origin in (types.UnionType, typing.Union) and len(args) == 2 and args[1] is type(None):
        return Optional(type_of(args[0]))
    if origin is list:
        return ListOf(type_of(args[0]))
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return ListOf(type_of(args[0]), frozen=True)
    if origin is dict and args[0] is str:
        return MapOf(type_of(args[1]))
    if isinstance(annotation, type):
        if isinstance(own := getattr(annotation, "__field_type__", None), FieldType):
            return own
        if hasattr(annotation, "__section__"):
            return SectionOf(annotation)
    raise TypeError(f"{annotation!r} is no type of a config field; see spec.types")

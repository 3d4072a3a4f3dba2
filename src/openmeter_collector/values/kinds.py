"""The kinds of values that mappings and JSON share, beyond what Python has.

A document is made of None, bool, int, float, str, list and dict. Two things need more:

* A JSON number keeps its source text until it is touched. A plain `int` or `float` stands for a
  number of a document whose text is the usual one; `SourceNumber` carries a text that is not
  (`1.0`, `1e3`, thirty digits). Plain documents therefore cost nothing.
* A number that was computed prints differently from one that was read (`6 / 3` is `2`, a read
  `2.0` stays `2.0`), so computed numbers are `Int64` and `Float64`.

All of them are ordinary ints and floats to arithmetic and to comparison. Text is `str`; bytes
that are no UTF-8 travel in it as lone surrogates (Python's `surrogateescape`).
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self, TypeGuard

Value = Any
"""None, bool, int, float, str, bytes, list, dict, Timestamp, or one of the kinds below."""

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
UINT64_MAX: Final = 2**64 - 1


class Integer(int):
    """An integer with the name of its machine type."""

    __slots__ = ()
    type_name: ClassVar[str] = "int"


class Int64(Integer):
    """A computed integer; the common one."""

    __slots__ = ()
    type_name: ClassVar[str] = "int64"


class UInt64(Integer):
    """A computed unsigned integer."""

    __slots__ = ()
    type_name: ClassVar[str] = "uint64"


class Int32(Integer):
    """An integer cast to 32 bits."""

    __slots__ = ()
    type_name: ClassVar[str] = "int32"


class Int16(Integer):
    """An integer cast to 16 bits."""

    __slots__ = ()
    type_name: ClassVar[str] = "int16"


class Int8(Integer):
    """An integer cast to 8 bits."""

    __slots__ = ()
    type_name: ClassVar[str] = "int8"


class UInt32(Integer):
    """An unsigned integer cast to 32 bits."""

    __slots__ = ()
    type_name: ClassVar[str] = "uint32"


class UInt16(Integer):
    """An unsigned integer cast to 16 bits."""

    __slots__ = ()
    type_name: ClassVar[str] = "uint16"


class UInt8(Integer):
    """An unsigned integer cast to 8 bits."""

    __slots__ = ()
    type_name: ClassVar[str] = "uint8"


class PlainInt(Integer):
    """The machine-sized integer that the `find` methods answer with."""

    __slots__ = ()
    type_name: ClassVar[str] = "int"


class Float64(float):
    """A computed float."""

    __slots__ = ()
    type_name: ClassVar[str] = "float64"


class Float32(float):
    """A float cast to 32 bits; its value is already rounded."""

    __slots__ = ()
    type_name: ClassVar[str] = "float32"


class SourceNumber(float):
    """A number of a document whose text must survive as it was written.

    Attributes:
        text: the JSON text of the number.
    """

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __reduce__(self) -> tuple[type[SourceNumber], tuple[str]]:
        return SourceNumber, (self.text,)

    def __repr__(self) -> str:
        return f"SourceNumber({self.text!r})"


class Marker:
    """A value that is an instruction: delete the target, or leave it alone."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __copy__(self) -> Marker:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Marker:
        return self


DELETED: Final = Marker("DELETED")
"""Remove the target; as a message's body: drop the message."""

NOTHING: Final = Marker("NOTHING")
"""Skip the assignment; as a message's body: leave it untouched."""


def is_number(value: Value) -> TypeGuard[int | float]:
    """Whether `value` is a number; a bool is none."""
    return isinstance(value, (int, float)) and value is not True and value is not False

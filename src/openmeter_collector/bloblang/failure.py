"""What goes wrong while a mapping runs.

Code of the library raises `Fail` and its kinds without knowing where it was called. The text that
a user reads names the receiver and the statement; that is added by `blame` once the failure
reaches a place where somebody wants the text, so that success never pays for it.
"""

from __future__ import annotations

from typing import Any, Final

from openmeter_collector.values.json_exact import describe
from openmeter_collector.values.kinds import (
    DELETED,
    NOTHING,
    Integer,
    SourceNumber,
    Value,
    is_number,
)
from openmeter_collector.values.numbers import text_float
from openmeter_collector.values.timestamp import Timestamp

_TYPES: Final[dict[type, str]] = {
    str: "string",
    bytes: "bytes",
    bool: "bool",
    int: "number",
    float: "number",
    list: "array",
    dict: "object",
    Timestamp: "timestamp",
    type(None): "null",
}


def type_name(value: Value) -> str:
    """What the language calls the type of a value."""
    known = _TYPES.get(type(value))
    if known is not None:
        return known
    if is_number(value):
        return "number"
    if value is DELETED:
        return "delete"
    return "nothing" if value is NOTHING else "unknown"


def machine_type(value: Value) -> str:
    """The engine's own name of a value's type, which some of its errors print."""
    if value is None:
        return "<nil>"
    if isinstance(value, Integer):
        return value.type_name
    kind = type(value)
    if kind is int or kind is SourceNumber or kind is float:
        return "json.Number"
    names = {
        str: "string",
        bytes: "[]uint8",
        bool: "bool",
        list: "[]interface {}",
        dict: "map[string]interface {}",
        Timestamp: "time.Time",
    }
    if kind in names:
        return names[kind]
    if value is DELETED:
        return "value.Delete"
    return "value.Nothing" if value is NOTHING else kind.__name__.lower()


def shown(value: Value) -> str:
    """A number or bool as errors print it."""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, SourceNumber):
        return value.text
    if isinstance(value, int):
        return int.__repr__(value)
    if type(value) is float:
        return repr(value)
    if isinstance(value, float):
        return text_float(value)
    return describe(value)


_LONGEST: Final = 64 * 1024 * 1024
_MOST: Final = 8 * 1024 * 1024


def bounded(value: Value) -> Value:
    """A value that was made of itself in a loop, unless it has grown too long.

    Raises:
        Fail: it has; what doubles in each round is soon larger than any memory.
    """
    if isinstance(value, (str, bytes)):
        if len(value) > _LONGEST:
            raise Fail("the text has grown beyond 64 MiB")
    elif isinstance(value, list) and len(value) > _MOST:
        raise Fail(f"the array has grown beyond {_MOST} elements")
    return value


class Fail(Exception):
    """An expression has no value.

    Attributes:
        lead: what was put before the text on its way up.
        attributed: whether the receiver was named already; only the innermost is.
        undefined: the path read from a message that is no document; None if that is not the cause.
        statement: the text from the innermost failed statement of a map on.
        overrun: the text, if maps called each other too often.
        by: the parameter whose query is to blame instead of the receiver.
        by_lead: text to put before, once that query was named.
        closed: the receiver is not to be named by the call that raised this.
        outside: raised by what uses the expression at its place, not by the expression.
    """

    __slots__ = (
        "attributed",
        "body",
        "by",
        "by_lead",
        "closed",
        "lead",
        "outside",
        "overrun",
        "statement",
        "undefined",
        "where",
    )

    def __init__(self, text: str = "", *, by: str = "") -> None:
        super().__init__(text)
        self.lead = ""
        self.body = text
        self.attributed = False
        self.undefined: str | None = None
        self.statement: str | None = None
        self.overrun: str | None = None
        self.by = by
        self.by_lead = ""
        self.closed = False
        self.outside = False
        self.where: tuple[Any, Any] | None = None

    @property
    def direct(self) -> bool:
        """Whether nothing was put before the text yet."""
        return not self.lead

    def text(self) -> str:
        """The message without what was put before it."""
        return self.body

    def __str__(self) -> str:
        return self.lead + self.text()

    def under(self, lead: str) -> Fail:
        """The same failure with more text before it; returns itself, to be raised again."""
        self.lead = lead + self.lead
        return self

    def attribute(self, owner: str) -> None:
        """Name the receiver, unless an inner one was named."""
        if not self.attributed:
            self.attributed = True
            self.lead = f"{owner}: {self.lead}"


class TypeFail(Fail):
    """A value is of a type that is not accepted."""

    __slots__ = ("expected", "origin", "value")

    def __init__(self, value: Value, *expected: str, origin: str = "", by: str = "") -> None:
        super().__init__(by=by)
        self.value = value
        self.expected = expected
        self.origin = origin

    def text(self) -> str:
        """`expected A or B value, got C from ORIGIN (VALUE)`."""
        value = self.value
        *most, last = self.expected
        wanted = f"{', '.join(most)} or {last}" if most else last
        origin = f" from {self.origin}" if self.origin else ""
        kind = type_name(value)
        tail = ""
        if kind == "string":
            tail = f' ("{value}")' if value else ' ("")'
        elif kind in ("bool", "number"):
            tail = f" ({shown(value)})"
        return f"expected {wanted} value, got {kind}{origin}{tail}"

    def attribute(self, owner: str) -> None:
        """Name the receiver as the origin of the value, unless one is named."""
        if self.direct:
            self.origin = self.origin or owner
        else:
            super().attribute(owner)


class MismatchFail(Fail):
    """Two operands do not go together; who they are is filled in later."""

    __slots__ = ("left", "names", "operation", "right")

    def __init__(self, operation: str, left: Value, right: Value) -> None:
        super().__init__()
        self.operation = operation
        self.left = left
        self.right = right
        self.names: tuple[str, str] | None = None

    def text(self) -> str:
        """`cannot add types A (from X) and B (from Y)`."""
        left, right = self.names or ("the left", "the right")
        return (
            f"cannot {self.operation} types {type_name(self.left)} (from {left}) "
            f"and {type_name(self.right)} (from {right})"
        )

    def attribute(self, owner: str) -> None:
        """Operands are named already, as long as nothing was put before the text."""
        if not self.direct:
            super().attribute(owner)


class DivideFail(Fail):
    """A division by zero; the divisor is named later."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("attempted to divide by zero")


class ConditionFail(Fail):
    """A condition is neither true nor false; the condition is named later."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        super().__init__()
        self.value = value
        self.outside = True

    def text(self) -> str:
        """` resolved to a non-boolean value V (T)`, to be put behind the condition's name."""
        value = self.value
        # A structure prints long here; its type says enough for all but scalars.
        from openmeter_collector.bloblang.gotext.sprintf import sprintf  # noqa: PLC0415

        return f" resolved to a non-boolean value {sprintf('%v', [value])} ({machine_type(value)})"


class UndefinedFail(Fail):
    """The message is no document, and a path of it was read."""

    __slots__ = ()

    def __init__(self, path: str, lead: str = "") -> None:
        tail = f", unable to reference `{path}`" if path else ""
        super().__init__(f"{lead}context was undefined{tail}")
        self.undefined = path

"""What a word means for the type of the field that it stands in."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, Final
from urllib.parse import urlsplit

from openmeter_collector.config.tree import Place, Scalar, parse_float, parse_int
from openmeter_collector.spec.fields import Interpolated, MappingText
from openmeter_collector.values.units import ByteSize, Duration


def _string(word: Scalar) -> str:
    return "" if word.is_null else word.text


def _int(word: Scalar) -> int:
    if word.is_null:
        return 0
    number = parse_int(word.text)
    if number is None:
        real = parse_float(word.text)
        if real is None or not real.is_integer():
            raise ValueError(f"{word.text!r} is not a whole number")
        number = int(real)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{word.text!r} does not fit 64 bits")
    return number


def _float(word: Scalar) -> float:
    if word.is_null:
        return 0.0
    whole = parse_int(word.text)
    number = parse_float(word.text) if whole is None else float(whole)
    if number is None:
        raise ValueError(f"{word.text!r} is not a number")
    return number


_BOOLS: Final = {"true": True, "yes": True, "on": True, "y": True} | dict.fromkeys(
    ("false", "no", "off", "n"), False
)


def _bool(word: Scalar) -> bool:
    if word.is_null:
        return False
    value = _BOOLS.get(word.text.lower())
    if value is None:
        raise ValueError(f"{word.text!r} is neither true nor false; write true or false")
    return value


def _duration(word: Scalar) -> Duration:
    return Duration("0s" if word.is_null else word.text)


def _byte_size(word: Scalar) -> ByteSize:
    return ByteSize(0 if word.is_null else word.text)


def _url(word: Scalar) -> str:
    text = _string(word)
    if not text:
        return text
    if "${!" in text:
        return text
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("the address is malformed; write one such as https://host:port") from None
    if not parts.scheme or not (parts.netloc or parts.path):
        raise ValueError("the address has no scheme or no host; write one such as https://host")
    return text


_DECODE: Final[dict[str, Callable[[Scalar], Any]]] = {
    "string": _string,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "duration": _duration,
    "byte_size": _byte_size,
    "url": _url,
}
_CODE: Final[dict[str, type[Interpolated | MappingText]]] = {
    "interpolated": Interpolated,
    "mapping": MappingText,
}
GO_NAME: Final = dict.fromkeys((*_DECODE, *_CODE), "string") | {
    "int": "int",
    "float": "float",
    "bool": "bool",
}
"""How `lint` names the type that was expected."""


def decode(kind: str, word: Scalar, how_to_read_files: str = "") -> Any:
    """The value that a word stands for.

    Args:
        how_to_read_files: what an operator has to do before code may; empty when it may.

    Raises:
        CodeError: it is code, and does not compile.
        ValueError: it is not of this kind.
    """
    if kind in _CODE:
        return _CODE[kind](_string(word), str(word.place), how_to_read_files)
    return _DECODE[kind](word)


def place_in(word: Scalar, line: int, column: int) -> Place:
    """The place in the file of a line and column (from 1) of a word's text."""
    start = word.place
    if word.style == "|":
        return Place(start.file, start.line + line, word.indent + column)
    if word.style == ">" or line > 1:  # the text has other lines than the file
        return start
    return Place(start.file, start.line, start.col + column - (word.style == "plain"))


def lint_place_in(word: Scalar, line: int, column: int) -> tuple[int, int]:
    """The same as `lint` has always counted it."""
    return word.place.line + line - (word.style != "|"), word.place.col + column


def out_of_bounds(value: Any, low: float | None, high: float | None) -> str | None:
    """What is wrong with a number's size or a list's or text's length, if anything."""
    sized = isinstance(value, Sized)
    measure = len(value) if isinstance(value, Sized) else value
    unit = " long" if sized else ""
    if low is not None and measure < low:
        return f"is too {'short' if sized else 'small'}; the least is {low:g}{unit}"
    if high is not None and measure > high:
        return f"is too {'long' if sized else 'large'}; the most is {high:g}{unit}"
    return None

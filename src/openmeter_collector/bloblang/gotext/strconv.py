"""Numbers and bools from text."""

from __future__ import annotations

import math
import re
from typing import Final

from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.gotext.quote import quote
from openmeter_collector.values.kinds import INT64_MAX, INT64_MIN, UINT64_MAX

_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEX_FLOAT: Final = re.compile(
    r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+"
)
_UNDERSCORED: Final = re.compile(r"[+-]?0[xX]_?[0-9a-fA-F_.]*(?:[pP][+-]?[0-9_]+)?")
_SPECIAL: Final = re.compile(r"([+-]?)(inf|infinity|nan)", re.IGNORECASE)
_PREFIXES: Final = {"0x": 16, "0b": 2, "0o": 8}
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_DIGITS: Final = {10: "0123456789", 16: "0123456789abcdefABCDEF", 2: "01", 8: "01234567"}


def parse_float(text: str) -> float:
    """A float: decimal, hexadecimal with an exponent, infinite or not a number."""
    special = _SPECIAL.fullmatch(text)
    if special:
        if special[2].lower() == "nan":
            if special[1]:
                raise _syntax("ParseFloat", text)
            return math.nan
        return -math.inf if special[1] == "-" else math.inf
    if _FLOAT.fullmatch(text):
        value = float(text)
    elif _HEX_FLOAT.fullmatch(text):
        try:
            value = float.fromhex(text)
        except OverflowError:
            value = math.inf
    else:
        raise _syntax("ParseFloat", text)
    if math.isinf(value):
        raise Fail(f"strconv.ParseFloat: parsing {quote(text)}: value out of range")
    return value


def parse_int(text: str, *, base: int = 0, unsigned: bool = False) -> int:
    """An integer of 64 bits; base 0 reads the prefixes 0x, 0b, 0o and 0, and underscores."""
    name = "ParseUint" if unsigned else "ParseInt"
    body = text
    sign = 1
    if not unsigned and body[:1] in ("+", "-"):
        sign = -1 if body[0] == "-" else 1
        body = body[1:]
    digits, radix = _split(body, base)
    allowed = _DIGITS[radix]
    if not digits or any(char not in allowed for char in digits):
        raise _syntax(name, text)
    value = sign * int(digits, radix)
    if value > (UINT64_MAX if unsigned else INT64_MAX) or value < INT64_MIN:
        raise Fail(f"strconv.{name}: parsing {quote(text)}: value out of range")
    return value


def _split(body: str, base: int) -> tuple[str, int]:
    if base:
        return body, base
    radix = _PREFIXES.get(body[:2].lower(), 0)
    if radix:
        digits = body[2:]
    elif body[:1] == "0" and len(body) > 1:
        radix, digits = 8, body[1:]
    else:
        radix, digits = 10, body
    if "_" in digits:
        if "__" in digits or digits.endswith("_") or (radix == 10 and digits.startswith("_")):
            return "", radix
        digits = digits.replace("_", "")
    return digits, radix


def parse_bool(text: str) -> bool | None:
    """A bool, or None if the text is none."""
    if text in _TRUE:
        return True
    return False if text in _FALSE else None


def _syntax(name: str, text: str) -> Fail:
    return Fail(f"strconv.{name}: parsing {quote(text)}: invalid syntax")

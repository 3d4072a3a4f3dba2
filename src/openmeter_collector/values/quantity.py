"""Kubernetes quantities: `500m`, `1.5Gi`, `1e3`, `128974848`.

The text of a result keeps the precision the quantity was written with, as Kubernetes itself
prints it as a decimal: `100m` is `0.100`.
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Decimal, localcontext
from typing import Final

_SHAPE: Final = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(.*)", re.DOTALL)
_EXPONENT: Final = re.compile(r"[eE]([+-]?[0-9]+)")
_DECIMAL: Final = {
    "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_FORM: Final = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_FORM_RE: Final = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
_NANO: Final = Decimal("1E-9")


def parse_quantity(text: str) -> str:
    """A quantity as a decimal text.

    Raises:
        ValueError: `text` is no quantity.
    """
    if not text or not _FORM_RE.fullmatch(text):
        raise ValueError(_FORM)
    match = _SHAPE.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise ValueError("unable to parse numeric part of quantity")
    sign, whole, fraction, suffix = match[1], match[2].lstrip("0"), match[3] or "", match[4]
    if suffix.startswith("."):
        raise ValueError(_FORM)
    minus = "-" if sign == "-" else ""
    digits = len(whole) + len(fraction)
    if suffix in _BINARY:
        power = _BINARY[suffix]
        if not fraction and 15 - len(whole) - power * 3 // 10 - 1 >= 0:
            return minus + str(int(whole or "0") << power) if int(whole or "0") else "0"
        number = Decimal(f"{whole or 0}.{fraction or 0}")
        with localcontext() as context:
            context.prec = 200
            return _rounded(minus, number * 2**power)
    exponent = _decimal_exponent(suffix)
    scale = len(fraction) - exponent
    if digits <= 18 and scale <= 9:
        return _plain(minus, int(whole + fraction or "0"), scale)
    with localcontext() as context:
        context.prec = 200
        return _rounded(minus, Decimal(int(whole + fraction or "0")).scaleb(-scale))


def _decimal_exponent(suffix: str) -> int:
    if suffix in _DECIMAL:
        return _DECIMAL[suffix]
    match = _EXPONENT.fullmatch(suffix)
    if match is None or abs(int(match[1])) > 1000:
        raise ValueError("unable to parse quantity's suffix")
    return int(match[1])


def _plain(minus: str, unscaled: int, scale: int) -> str:
    """`unscaled` with `scale` digits after the point."""
    text = str(unscaled)
    if unscaled == 0:
        minus = ""
    if scale <= 0:
        return minus + (text + "0" * -scale if unscaled else "0")
    text = text.rjust(scale + 1, "0")
    return f"{minus}{text[:-scale]}.{text[-scale:]}"


def _rounded(minus: str, number: Decimal) -> str:
    """Nine digits after the point; what is smaller than the last of them counts as one."""
    with localcontext() as context:
        context.prec = 200
        rounded = number.quantize(_NANO, ROUND_UP)
        return _plain(minus, int(rounded.scaleb(9)), 9)

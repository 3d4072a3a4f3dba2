"""Floats as text, in the two ways the engine prints them."""

from __future__ import annotations

import math


def digits_of(number: float) -> tuple[str, int]:
    """The shortest digits that read back as `number`, and its decimal exponent.

    `number` is finite and not zero; the value is `0.DIGITS * 10**exponent`.
    """
    mantissa, _, exponent = f"{abs(float(number))!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    shift = int(exponent) if exponent else 0
    if fraction == "0":
        fraction = ""
    digits = whole + fraction
    point = len(whole) + shift
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    return stripped.rstrip("0"), point


def plain(digits: str, point: int) -> str:
    """Digits with the decimal point after `point` of them."""
    if point <= 0:
        return "0." + "0" * -point + digits
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return digits[:point] + "." + digits[point:]


def scientific(digits: str, point: int, *, padded: bool) -> str:
    """Digits in exponent form; `padded` writes at least two digits of exponent."""
    exponent = point - 1
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    size = f"{abs(exponent):02d}" if padded else str(abs(exponent))
    return f"{mantissa}e{'-' if exponent < 0 else '+'}{size}"


def special(number: float) -> str | None:
    """The text of a float that has no digits: zero, infinite or not a number."""
    if number == 0:
        return "-0" if math.copysign(1, number) < 0 else "0"
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    return None


def json_float(number: float) -> str:
    """A finite float as it stands in a JSON document: decimal between 1e-6 and 1e21."""
    text = special(number)
    if text is not None:
        return text
    digits, point = digits_of(number)
    sign = "-" if number < 0 else ""
    if -6 < point <= 21:
        return sign + plain(digits, point)
    return sign + scientific(digits, point, padded=False)


def text_float(number: float) -> str:
    """A float as text of its own: exponent form below 1e-4 and from 1e6 on."""
    text = special(number)
    if text is not None:
        return text
    digits, point = digits_of(number)
    sign = "-" if number < 0 else ""
    if -4 < point <= 6:
        return sign + plain(digits, point)
    return sign + scientific(digits, point, padded=True)

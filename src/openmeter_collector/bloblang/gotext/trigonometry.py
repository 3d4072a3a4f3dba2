"""Sine, cosine, tangent and logarithm as the engine's platform computes them.

The last digit of these differs between platforms and is visible in results, so they follow the
classic Cephes approximations instead of the machine's library.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

_SINE: Final = (
    1.58962301576546568060e-10,
    -2.50507477628578072866e-8,
    2.75573136213857245213e-6,
    -1.98412698295895385996e-4,
    8.33333333332211858878e-3,
    -1.66666666666666307295e-1,
)
_COSINE: Final = (
    -1.13585365213876817300e-11,
    2.08757008419747316778e-9,
    -2.75573141792967388112e-7,
    2.48015872888517045348e-5,
    -1.38888888888730564116e-3,
    4.16666666666665929218e-2,
)
_TANGENT_P: Final = (-1.30936939181383734205e4, 1.15351664838587416140e6, -1.79565251976484877988e7)
_TANGENT_Q: Final = (
    1.0,
    1.36812963470692954678e4,
    -1.32089234440210967447e6,
    2.50083801823357915839e7,
    -5.38695755929454629881e7,
)
_QUARTERS: Final = (
    7.85398125648498535156e-1,
    3.77489470793079817668e-8,
    2.69515142907905952645e-15,
)
_LARGE: Final = 1 << 29
_BITS: Final = 1280


def _polynomial(value: float, coefficients: tuple[float, ...]) -> float:
    total = coefficients[0]
    for one in coefficients[1:]:
        total = total * value + one
    return total


def _reduced(size: float) -> tuple[int, float]:
    """The octant of an angle, made even, and the rest of the angle in it."""
    if size >= _LARGE:
        return _reduced_large(size)
    octant = int(size * (4 / math.pi))
    turns = float(octant)
    if octant & 1:
        octant += 1
        turns += 1
    rest = ((size - turns * _QUARTERS[0]) - turns * _QUARTERS[1]) - turns * _QUARTERS[2]
    return octant & 7, rest


@cache
def _four_by_pi() -> int:
    """4/pi as an integer, times two to the power of `_BITS`."""

    def arc_tangent(inverse: int) -> int:
        total = term = (1 << _BITS + 64) // inverse
        square, divisor, sign = inverse * inverse, 3, -1
        while term:
            term //= square
            total += sign * (term // divisor)
            divisor, sign = divisor + 2, -sign
        return total

    quarter = 4 * arc_tangent(5) - arc_tangent(239)
    return (1 << 2 * _BITS + 64) // quarter


def _reduced_large(size: float) -> tuple[int, float]:
    """As `_reduced`, for angles that need more digits of pi than a float has."""
    mantissa, exponent = math.frexp(size)
    product = int(mantissa * 2**53) * _four_by_pi()
    shift = _BITS - (exponent - 53)
    octant = (product >> shift) & 7
    fraction = product & ((1 << shift) - 1)
    spare = max(fraction.bit_length() - 53, 0)
    rest = math.ldexp(fraction >> spare, spare - shift)
    if octant & 1:
        octant, rest = (octant + 1) & 7, rest - 1
    return octant, rest * (math.pi / 4)


def sin(angle: float) -> float:
    """The sine."""
    if angle == 0 or not math.isfinite(angle):
        return math.sin(angle)
    octant, rest = _reduced(abs(angle))
    negative = (angle < 0) != (octant > 3)
    octant %= 4
    square = rest * rest
    if octant in (1, 2):
        value = 1.0 - 0.5 * square + square * square * _polynomial(square, _COSINE)
    else:
        value = rest + rest * square * _polynomial(square, _SINE)
    return -value if negative else value


def cos(angle: float) -> float:
    """The cosine."""
    if not math.isfinite(angle):
        return math.cos(angle)
    octant, rest = _reduced(abs(angle))
    negative = octant > 3
    octant %= 4
    if octant > 1:
        negative = not negative
    square = rest * rest
    if octant in (1, 2):
        value = rest + rest * square * _polynomial(square, _SINE)
    else:
        value = 1.0 - 0.5 * square + square * square * _polynomial(square, _COSINE)
    return -value if negative else value


def tan(angle: float) -> float:
    """The tangent."""
    if angle == 0 or not math.isfinite(angle):
        return math.tan(angle)
    octant, rest = _reduced(abs(angle))
    square = rest * rest
    value = rest
    if square > 1e-14:
        ratio = _polynomial(square, _TANGENT_P) / _polynomial(square, _TANGENT_Q)
        value = rest + rest * (square * ratio)
    if octant & 2:
        value = -1 / value
    return -value if angle < 0 else value


_LOG: Final = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)


def log(value: float) -> float:
    """The natural logarithm of a positive number."""
    if not math.isfinite(value):
        return value
    fraction, exponent = math.frexp(value)
    if fraction < math.sqrt(2) / 2:
        fraction *= 2
        exponent -= 1
    rest = fraction - 1
    ratio = rest / (2 + rest)
    square = ratio * ratio
    fourth = square * square
    odd = square * (_LOG[0] + fourth * (_LOG[2] + fourth * (_LOG[4] + fourth * _LOG[6])))
    even = fourth * (_LOG[1] + fourth * (_LOG[3] + fourth * _LOG[5]))
    half = 0.5 * rest * rest
    low = ratio * (half + (odd + even)) + exponent * 1.90821492927058770002e-10
    return exponent * 6.93147180369123816490e-01 - ((half - low) - rest)


def log10(value: float) -> float:
    """The logarithm to base 10 of a positive number, by way of the natural one."""
    return log(value) * 0.4342944819032518

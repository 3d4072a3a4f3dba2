"""Durations and byte sizes as they are written in configurations.

Durations follow Go's `time.ParseDuration`, because that is what published configs are written
for: `250ms`, `1h30m`, `-1.5h`; no days, no spaces. Byte sizes accept a plain number of bytes or a
number with a unit: `512KiB`, `1GB`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Self

_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_WHOLE = re.compile(r"[+-]?(?:0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_MAX_NS = 2**63 - 1

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTP]?i?B?)", re.IGNORECASE)
_SIZE_UNIT = {"": 1, "b": 1}
for _i, _letter in enumerate("kmgtp", start=1):
    _SIZE_UNIT[_letter] = _SIZE_UNIT[_letter + "b"] = 1000**_i
    _SIZE_UNIT[_letter + "i"] = _SIZE_UNIT[_letter + "ib"] = 1024**_i


def parse_duration(text: str) -> int:
    """Read a Go duration.

    Returns:
        Whole nanoseconds; a fraction below one is cut off, as Go does.

    Raises:
        ValueError: `text` is not a Go duration, or it does not fit 64 bits of nanoseconds.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a duration; write a number and a unit, such as 250ms, 30s or 1h30m"
        )
    total = sum(int(Decimal(number) * _UNIT_NS[unit]) for number, unit in _PART.findall(text))
    if total > _MAX_NS:
        raise ValueError(f"{text!r} is longer than a duration can be (about 292 years)")
    return -total if text.startswith("-") else total


def format_duration(nanoseconds: int) -> str:
    """Write a duration as Go's `Duration.String` does: `1m30s`, `1.5s`, `250ms`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    sign = "-" if nanoseconds < 0 else ""
    left = abs(nanoseconds)
    if left < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if left >= size:
                return f"{sign}{_trim(left, size)}{unit}"
    hours, left = divmod(left, 3_600_000_000_000)
    minutes, left = divmod(left, 60_000_000_000)
    text = f"{_trim(left, 1_000_000_000)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def parse_byte_size(text: str) -> int:
    """Read a number of bytes, with or without a unit (`KB` is 1000, `KiB` is 1024).

    Raises:
        ValueError: `text` is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(
            f"{text!r} is not a size; write a number of bytes, or one with a unit such as 512KiB"
        )
    return int(Decimal(match[1]) * _SIZE_UNIT[match[2].lower()])


def _trim(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0")


class Duration(float):
    """A length of time in seconds, which remembers how it was written."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        made = super().__new__(cls, parse_duration(text) / 1e9)
        made.text = text
        return made

    def __repr__(self) -> str:
        return f"Duration({self.text!r})"


class ByteSize(int):
    """A number of bytes, which remembers how it was written."""

    text: str

    def __new__(cls, text: str | int) -> Self:
        made = super().__new__(cls, parse_byte_size(str(text)))
        made.text = str(text)
        return made

    def __repr__(self) -> str:
        return f"ByteSize({self.text!r})"

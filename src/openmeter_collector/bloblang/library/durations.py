"""Methods of durations, and of moving times by them."""

from __future__ import annotations

import re
from typing import Any, Final

from openmeter_collector.bloblang.convert import get_timestamp
from openmeter_collector.bloblang.definition import Case, method
from openmeter_collector.bloblang.failure import Fail, TypeFail
from openmeter_collector.bloblang.gotext.duration import parse_duration as parse_go_duration
from openmeter_collector.bloblang.library.times import time_text
from openmeter_collector.values.kinds import INT64_MAX, Int64, Value
from openmeter_collector.values.timestamp import Timestamp, from_wall

_ORDER: Final = "YMWDHMS"


def _iso(text: str) -> dict[str, float]:
    """The parts of an ISO 8601 duration, by designator; months and minutes are told apart."""
    if not text:
        raise Fail("cannot parse a blank string as a period")
    if text in ("P", "PT"):
        raise Fail(f"{text}: expected 'Y', 'M', 'W', 'D', 'H', 'M', or 'S' designator")
    body = text[1:] if text[0] in "+-" else text
    sign = -1 if text[0] == "-" else 1
    if not body.startswith("P"):
        raise Fail(f"{text}: expected 'P' period mark at the start")
    made: dict[str, float] = {}
    pos, clock, fraction = 1, False, ""
    names = {"Y": "y", "W": "w", "D": "d", "H": "h", "S": "s"}
    while pos < len(body):
        if body[pos] == "T":
            if clock:
                raise Fail(f"{text}: 'T' designator cannot occur more than once")
            clock, pos = True, pos + 1
            continue
        match = re.compile(r"-?[0-9]+(?:[.,][0-9]*)?").match(body, pos)
        if match is None and body[pos] in "+-":
            raise Fail(f"{text}: number invalid or out of range")
        if match is None:
            raise Fail(f"{text}: expected a number but found '{body[pos]}'")
        if match.end() >= len(body):
            raise Fail(f"{text}: missing designator at the end")
        letter = body[match.end()]
        if letter not in _ORDER:
            raise Fail(f"{text}: expected a designator Y, M, W, D, H, or S not '{letter}'")
        if fraction:
            pair = f"'{fraction}' & '{letter}'"
            raise Fail(f"{text}: {pair} only the last field can have a fraction")
        if not match[0].lstrip("-").isdigit():
            fraction = letter
        if clock != (letter in "HS" or (letter == "M" and clock)):
            raise Fail(f"{text}: '{letter}' designator cannot occur here")
        name = ("m" if clock else "mo") if letter == "M" else names[letter]
        if name in made:
            raise Fail(f"{text}: '{letter}' designator cannot occur more than once")
        made[name] = sign * float(match[0].replace(",", "."))
        pos = match.end() + 1
    if not made:
        raise Fail(f"{text}: expected 'Y', 'M', 'W', 'D', 'H', 'M', or 'S' designator")
    return made


_CALENDAR: Final = ("y", "mo", "w", "d")
_SECONDS: Final = {
    "y": 31_556_952, "mo": 2_629_746, "w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1,
}  # fmt: skip
"""How long a part is; a year has 365.2425 days and a month a twelfth of it."""


def _shift(value: Value, parts: dict[str, float], sign: int) -> Value:
    moment = get_timestamp(value)
    if not all(parts.get(name, 0.0).is_integer() for name in _CALENDAR):
        # A part of a year or a month has no place in a calendar: all of it counts as a length.
        return Timestamp(moment.ns + sign * _length(parts), moment.zone)
    year, month, day, hour, minute, second, nanos = moment.wall()
    years, months, weeks, days = (int(parts.get(name, 0.0)) for name in _CALENDAR)
    moved = from_wall(
        (year + sign * years, month + sign * months, day + sign * (days + 7 * weeks)),
        (hour, minute, second, nanos),
        moment.zone,
    )
    exact = _length({name: one for name, one in parts.items() if name not in _CALENDAR})
    return Timestamp(moved.ns + sign * exact, moment.zone)


def _length(parts: dict[str, float]) -> int:
    """A duration in nanoseconds."""
    return sum(_ns(number * _SECONDS[name]) for name, number in parts.items())


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


@method(
    "time",
    plugin=True,
    static=True,
    prepared=True,
    status="beta",
    cases=[
        Case(
            'root = this.ts_add_iso8601("P1DT30M")',
            '"2020-08-14T05:54:23Z"',
            '"2020-08-15T06:24:23Z"',
        ),
        Case(
            'root = this.ts_add_iso8601("P1M")', '"2020-01-31T00:00:00Z"', '"2020-03-02T00:00:00Z"'
        ),
    ],
    params={"duration": "An ISO 8601 duration."},
)
def ts_add_iso8601(duration: str) -> Any:
    """Add a duration such as `P3DT12H`; days that a month does not have run into the next."""
    parts = _iso(duration)
    return lambda value: _shift(value, parts, 1)


@method(
    "time",
    plugin=True,
    static=True,
    prepared=True,
    status="beta",
    cases=[
        Case(
            'root = this.ts_sub_iso8601("P3D")', '"2020-08-14T05:54:23Z"', '"2020-08-11T05:54:23Z"'
        )
    ],
    params={"duration": "An ISO 8601 duration."},
)
def ts_sub_iso8601(duration: str) -> Any:
    """Subtract a duration such as `P3DT12H`."""
    parts = _iso(duration)
    return lambda value: _shift(value, parts, -1)


@method(
    "time",
    plugin=True,
    static=True,
    cases=[Case("root = this.parse_duration()", '"1m30s"', "90000000000")],
)
def parse_duration(value: Value) -> Value:
    """A duration such as `50us`, `1.5s` or `1h30m` in nanoseconds."""
    return Int64(parse_go_duration(time_text(value)))


@method(
    "time",
    plugin=True,
    static=True,
    status="beta",
    cases=[Case("root = this.parse_duration_iso8601()", '"P1DT2H"', "93600000000000")],
)
def parse_duration_iso8601(value: Value) -> Value:
    """An ISO 8601 duration in nanoseconds; years have 365.2425 days and months a twelfth."""
    if not isinstance(value, (str, bytes, Timestamp)):
        raise TypeFail(value, "string")
    total = _length(_iso(time_text(value)))
    if total > INT64_MAX:
        raise Fail("the duration does not fit 64 bits of nanoseconds")
    return Int64(total)


ENTRIES = (ts_add_iso8601, ts_sub_iso8601, parse_duration, parse_duration_iso8601)

"""Methods of durations, and of moving times by them."""

from __future__ import annotations

import re
from typing import Final

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
    if body == "0":
        return {}
    if not body.startswith("P"):
        raise Fail(f"{text}: expected 'P' period mark at the start")
    made: dict[str, float] = {}
    pos, clock = 1, False
    names = {"Y": "y", "W": "w", "D": "d", "H": "h", "S": "s"}
    while pos < len(body):
        if body[pos] == "T":
            if clock:
                raise Fail(f"{text}: 'T' designator cannot occur more than once")
            clock, pos = True, pos + 1
            continue
        match = re.compile(r"-?[0-9]+(?:[.,][0-9]*)?").match(body, pos)
        if match is None:
            raise Fail(f"{text}: expected a number but found '{body[pos]}'")
        if match.end() >= len(body):
            raise Fail(f"{text}: missing designator at the end")
        letter = body[match.end()]
        if letter not in _ORDER:
            raise Fail(f"expected a designator Y, M, W, D, H, or S not '{letter}'")
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


_SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}


def _shift(value: Value, text: str, sign: int) -> Value:
    parts = _iso(text)
    moment = get_timestamp(value)
    year, month, day, hour, minute, second, nanos = moment.wall()
    years, months = parts.pop("y", 0.0), parts.pop("mo", 0.0)
    days = parts.pop("d", 0.0) + 7 * parts.pop("w", 0.0)
    exact = sum(_ns(number * _SECONDS[key]) for key, number in parts.items())
    whole_years, whole_months, whole_days = int(years), int(months), int(days)
    exact += _ns((years - whole_years) * 31_556_952)
    exact += _ns((months - whole_months) * 2_629_746)
    exact += _ns((days - whole_days) * 86_400)
    moved = from_wall(
        (year + sign * whole_years, month + sign * whole_months, day + sign * whole_days),
        (hour, minute, second, nanos),
        moment.zone,
    )
    return Timestamp(moved.ns + sign * exact, moment.zone)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


@method(
    "time",
    plugin=True,
    static=True,
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
def ts_add_iso8601(value: Value, duration: str) -> Value:
    """Add a duration such as `P3DT12H`; days that a month does not have run into the next."""
    return _shift(value, duration, 1)


@method(
    "time",
    plugin=True,
    static=True,
    status="beta",
    cases=[
        Case(
            'root = this.ts_sub_iso8601("P3D")', '"2020-08-14T05:54:23Z"', '"2020-08-11T05:54:23Z"'
        )
    ],
    params={"duration": "An ISO 8601 duration."},
)
def ts_sub_iso8601(value: Value, duration: str) -> Value:
    """Subtract a duration such as `P3DT12H`."""
    return _shift(value, duration, -1)


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
    parts = _iso(time_text(value))
    sizes = {"y": 31_556_952, "mo": 2_629_746, **_SECONDS}
    total = sum(_ns(number * sizes[key]) for key, number in parts.items())
    if total > INT64_MAX:
        raise Fail("the duration does not fit 64 bits of nanoseconds")
    return Int64(total)


ENTRIES = (ts_add_iso8601, ts_sub_iso8601, parse_duration, parse_duration_iso8601)

"""Times by layouts that show a reference time: `2006-01-02T15:04:05.999999999Z07:00`."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.values.timestamp import (
    LOCAL_ZONE,
    UTC_ZONE,
    Timestamp,
    Zone,
    days_of,
    from_wall,
)

RFC3339: Final = "2006-01-02T15:04:05Z07:00"
RFC3339_NANO: Final = "2006-01-02T15:04:05.999999999Z07:00"

MONTHS: Final = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
DAYS: Final = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

_TOKEN: Final = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|002|01|02|03|04|05|06|2006|15|__2|_2(?!006)|PM|pm"
    r"|-07:00:00|-070000|-07:00|-0700|-07|Z07:00:00|Z070000|Z07:00|Z0700|Z07"
    r"|[.,](?:0+|9+)(?![0-9])|1|2|3|4|5"
)
_ZONES: Final = re.compile(r"[-Z]07.*")
_STEP: Final = re.compile(r"_2006")
_FRACTION: Final = re.compile(r"[.,][0-9]+")
_RFC3339_TEXT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
_GIGA: Final = 1_000_000_000


@lru_cache(maxsize=256)
def _tokens(layout: str) -> tuple[tuple[str, str], ...]:
    """The layout as pairs of literal text and the element after it."""
    found: list[tuple[str, str]] = []
    last = pos = 0
    while pos < len(layout):
        if layout.startswith("_2006", pos):
            # An underscore is no padding for a year.
            found.append((layout[last : pos + 1], "2006"))
            pos += 5
            last = pos
            continue
        match = _TOKEN.match(layout, pos)
        if match is None:
            pos += 1
            continue
        token = match[0]
        found.append((layout[last:pos], token))
        pos = last = match.end()
    found.append((layout[last:], ""))
    return tuple(found)


def format_time(time: Timestamp, layout: str) -> str:
    """Write a time by a layout."""
    year, month, day, hour, minute, second, nanos = time.wall()
    offset, zone = time.offset()
    weekday = (days_of(year, month, day) + 4) % 7
    parts: list[str] = []
    for literal, token in _tokens(layout):
        parts.append(literal)
        match token:
            case "":
                pass
            case "2006":
                parts.append(f"{year:04d}")
            case "06":
                parts.append(f"{year % 100:02d}")
            case "January":
                parts.append(MONTHS[month - 1])
            case "Jan":
                parts.append(MONTHS[month - 1][:3])
            case "01":
                parts.append(f"{month:02d}")
            case "1":
                parts.append(str(month))
            case "Monday":
                parts.append(DAYS[weekday])
            case "Mon":
                parts.append(DAYS[weekday][:3])
            case "02":
                parts.append(f"{day:02d}")
            case "_2":
                parts.append(f"{day:2d}")
            case "2":
                parts.append(str(day))
            case "002":
                parts.append(f"{_day_of_year(year, month, day):03d}")
            case "__2":
                parts.append(f"{_day_of_year(year, month, day):3d}")
            case "15":
                parts.append(f"{hour:02d}")
            case "03":
                parts.append(f"{hour % 12 or 12:02d}")
            case "3":
                parts.append(str(hour % 12 or 12))
            case "04":
                parts.append(f"{minute:02d}")
            case "4":
                parts.append(str(minute))
            case "05":
                parts.append(f"{second:02d}")
            case "5":
                parts.append(str(second))
            case "PM":
                parts.append("PM" if hour >= 12 else "AM")
            case "pm":
                parts.append("pm" if hour >= 12 else "am")
            case "MST":
                parts.append(zone or _offset(offset, "-0700" if offset % 3600 else "-07"))
            case _ if _ZONES.fullmatch(token):
                parts.append(_offset(offset, token))
            case _:
                parts.append(_fraction(nanos, token))
    return "".join(parts)


def _day_of_year(year: int, month: int, day: int) -> int:
    return days_of(year, month, day) - days_of(year, 1, 1) + 1


def _offset(offset: int, token: str) -> str:
    if token[0] == "Z" and offset == 0:
        return "Z"
    sign = "-" if offset < 0 else "+"
    hours, rest = divmod(abs(offset), 3600)
    minutes, seconds = divmod(rest, 60)
    colon = ":" if ":" in token else ""
    text = f"{sign}{hours:02d}"
    if len(token) > 3:
        text += f"{colon}{minutes:02d}"
    if len(token) > 6:
        text += f"{colon}{seconds:02d}"
    return text


def _fraction(nanos: int, token: str) -> str:
    digits = f"{nanos:09d}"[: len(token) - 1].ljust(len(token) - 1, "0")
    if token[1] == "9":
        digits = digits.rstrip("0")
        return token[0] + digits if digits else ""
    return token[0] + digits


def quote(text: str) -> str:
    """Quote as the engine's times do: byte by byte, and all but ASCII escaped."""
    made = []
    for byte in text.encode("utf-8", "surrogateescape"):
        if byte in b'"\\':
            made.append("\\" + chr(byte))
        elif byte < 0x20 or byte >= 0x80:
            made.append(f"\\x{byte:02x}")
        else:
            made.append(chr(byte))
    return '"' + "".join(made) + '"'


@dataclass
class _Reading:
    """What was read so far."""

    layout: str
    text: str
    rest: str
    values: dict[str, int] = field(default_factory=dict)
    zone: Zone | None = None
    abbreviation: str = ""

    def fail(self, element: str, rest: str | None = None, why: str = "") -> Fail:
        layout, text = quote(self.layout), quote(self.text)
        if why:
            return Fail(f"parsing time {text}{why}")
        left = quote(self.rest if rest is None else rest)
        return Fail(f"parsing time {text} as {layout}: cannot parse {left} as {quote(element)}")


def parse_time(text: str, layout: str) -> Timestamp:
    """Read a time by a layout; a fraction of a second is accepted wherever a second stands."""
    reading = _Reading(layout, text, text)
    tokens = _tokens(layout)
    for index, (literal, token) in enumerate(tokens):
        _literal(reading, literal)
        if not token:
            if reading.rest:
                raise reading.fail("", why=f": extra text: {quote(reading.rest)}")
            break
        _element(reading, token, _follows_fraction(tokens, index))
    return _made(reading)


def _follows_fraction(tokens: tuple[tuple[str, str], ...], index: int) -> bool:
    literal, token = tokens[index + 1]
    return not literal and token[:1] in (".", ",")


def _literal(reading: _Reading, literal: str) -> None:
    """Skip the layout's own text; spaces in it match any number of them."""
    rest = reading.rest
    for char in literal:
        if char == " ":
            if rest and rest[0] != " ":
                raise reading.fail(literal, rest)
            rest = rest.lstrip(" ")
            continue
        if not rest or rest[0] != char:
            raise reading.fail(literal, rest)
        rest = rest[1:]
    reading.rest = rest


def _number(reading: _Reading, token: str, width: int, *, fixed: bool) -> int:
    rest = reading.rest
    digits = re.match(rf"[0-9]{{1,{width}}}", rest, re.ASCII)
    if digits is None or (fixed and len(digits[0]) < width):
        raise reading.fail(token)
    reading.rest = rest[digits.end() :]
    return int(digits[0])


def _range(reading: _Reading, name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise reading.fail("", why=f": {name} out of range")


def _element(reading: _Reading, token: str, fraction_follows: bool) -> None:
    values = reading.values
    rest = reading.rest
    match token:
        case "2006":
            if not re.match(r"[0-9]{4}", rest, re.ASCII):
                raise reading.fail(token)
            values["year"] = int(rest[:4])
            reading.rest = rest[4:]
        case "06":
            short = _number(reading, token, 2, fixed=True)
            values["year"] = short + (1900 if short >= 69 else 2000)
        case "January" | "Jan":
            values["month"] = _name(reading, token, MONTHS) + 1
        case "Monday" | "Mon":
            _name(reading, token, DAYS)
        case "01" | "1":
            values["month"] = _number(reading, token, 2, fixed=len(token) == 2)
            _range(reading, "month", values["month"], 1, 12)
        case "02" | "_2" | "2":
            if token[0] == "_" and len(token) == 2 and rest[:1] == " ":
                reading.rest = rest[1:]
            values["day"] = _number(reading, token, 2, fixed=token[0] == "0")
        case "002" | "__2":
            if token[0] == "_":
                reading.rest = rest[min(len(rest) - len(rest.lstrip(" ")), 2) :]
            values["yday"] = _number(reading, token, 3, fixed=token[0] == "0")
        case "15":
            values["hour"] = _number(reading, token, 2, fixed=False)
            _range(reading, "hour", values["hour"], 0, 23)
        case "03" | "3":
            values["hour12"] = _number(reading, token, 2, fixed=len(token) == 2)
            _range(reading, "hour", values["hour12"], 0, 12)
        case "04" | "4":
            values["minute"] = _number(reading, token, 2, fixed=len(token) == 2)
            _range(reading, "minute", values["minute"], 0, 59)
        case "05" | "5":
            values["second"] = _number(reading, token, 2, fixed=len(token) == 2)
            _range(reading, "second", values["second"], 0, 59)
            found = _FRACTION.match(reading.rest)
            if found and not fraction_follows:
                _nanos(reading, found[0])
                reading.rest = reading.rest[found.end() :]
        case "PM" | "pm":
            _half(reading, token)
        case "MST":
            _abbreviation(reading)
        case _ if _ZONES.fullmatch(token):
            _zone(reading, token)
        case _:
            _digits(reading, token)


def _name(reading: _Reading, token: str, names: list[str]) -> int:
    for index, name in enumerate(names):
        wanted = name if len(token) > 3 else name[:3]
        if reading.rest[: len(wanted)].lower() == wanted.lower():
            reading.rest = reading.rest[len(wanted) :]
            return index
    raise reading.fail(token)


def _half(reading: _Reading, token: str) -> None:
    half = reading.rest[:2]
    wanted = ("AM", "PM") if token.isupper() else ("am", "pm")
    if half not in wanted:
        raise reading.fail(token)
    reading.values["half"] = wanted.index(half)
    reading.rest = reading.rest[2:]


def _nanos(reading: _Reading, text: str) -> None:
    reading.values["nanos"] = int(text[1:10].ljust(9, "0"))


def _digits(reading: _Reading, token: str) -> None:
    if token[1] == "0":
        found = re.match(rf"[.,][0-9]{{{len(token) - 1}}}", reading.rest, re.ASCII)
        if found is None:
            raise reading.fail(token)
    else:
        found = _FRACTION.match(reading.rest)
        if found is None:
            return
    _nanos(reading, found[0])
    reading.rest = reading.rest[found.end() :]


# An offset takes the place of a name where there is none; it has at most 23 hours.
_ABBREVIATION: Final = re.compile(
    r"ChST|MeST|(?:GMT)?[+-]0*(?:1?[0-9]|2[0-3])(?![0-9])|GMT"
    r"|(?:[A-Z]{4}T|WITA|[A-Z]{3}T|[A-Z]{3})(?![A-Z])"
)


def _abbreviation(reading: _Reading) -> None:
    if reading.rest.startswith("UTC"):
        reading.zone = UTC_ZONE
        reading.rest = reading.rest[3:]
        return
    found = _ABBREVIATION.match(reading.rest)
    if found is None:
        raise reading.fail("MST")
    reading.abbreviation = found[0]
    reading.rest = reading.rest[found.end() :]


def _zone(reading: _Reading, token: str) -> None:
    if token[0] == "Z" and reading.rest.startswith("Z"):
        reading.zone = UTC_ZONE
        reading.rest = reading.rest[1:]
        return
    colon = ":" if ":" in token else ""
    groups = r"([+-])([0-9]{2})"
    if len(token) > 3:
        groups += colon + r"([0-9]{2})"
    if len(token) > 6:
        groups += colon + r"([0-9]{2})"
    found = re.match(groups, reading.rest, re.ASCII)
    if found is None:
        raise reading.fail(token)
    numbers = [int(part) for part in found.groups()[1:]]
    numbers += [0] * (3 - len(numbers))
    _range(reading, "time zone offset hour", numbers[0], 0, 24)
    _range(reading, "time zone offset minute", numbers[1], 0, 60)
    seconds = numbers[0] * 3600 + numbers[1] * 60 + numbers[2]
    reading.zone = fixed(-seconds if found[1] == "-" else seconds)
    reading.rest = reading.rest[found.end() :]


def fixed(offset: int) -> Zone:
    """A zone that is an offset; the local zone if it is the same by chance is not looked for."""
    return UTC_ZONE if offset == 0 else Zone("", fixed=offset)


def _made(reading: _Reading) -> Timestamp:
    values = reading.values
    hour = values.get("hour", 0)
    if "hour12" in values:
        hour = values["hour12"]
    if "half" in values:
        if values["half"] == 1 and hour < 12:
            hour += 12
        elif values["half"] == 0 and hour == 12:
            hour = 0
    year = values.get("year", 0)
    month, day = values.get("month", 1), values.get("day", 1)
    if "yday" in values:
        last = 366 if calendar.isleap(year) else 365
        _range(reading, "day-of-year", values["yday"], 1, last)
        month, day = 1, values["yday"]
    elif not 1 <= day <= _days_in(year, month):
        raise reading.fail("", why=": day out of range")
    clock = (hour, values.get("minute", 0), values.get("second", 0), values.get("nanos", 0))
    zone = reading.zone
    if zone is None:
        zone = _named(reading.abbreviation) if reading.abbreviation else UTC_ZONE
    return from_wall((year, month, day), clock, zone)


def _named(name: str) -> Zone:
    """A zone known by an abbreviation only: UTC in effect, unless it is local or GMT+n."""
    if name.startswith("GMT") and len(name) > 3:
        return Zone(name, fixed=int(name[3:]) * 3600)
    return Zone(name, fixed=0)


def _days_in(year: int, month: int) -> int:
    return days_of(year, month + 1, 1) - days_of(year, month, 1)


def parse_rfc3339(text: str) -> Timestamp:
    """Read an RFC 3339 time, with or without a fraction."""
    found = _RFC3339_TEXT.fullmatch(text)
    if found is None:
        return parse_time(text, RFC3339_NANO)
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    sane = 1 <= month <= 12 and hour < 24 and minute < 60 and second < 60
    sane = sane and not (found[8] and (int(found[9]) > 23 or int(found[10]) > 59))
    if not sane or not 1 <= day <= _days_in(year, month):
        return parse_time(text, RFC3339_NANO)
    nanos = int(found[7].ljust(9, "0")) if found[7] else 0
    offset = 0
    if found[8]:
        offset = (int(found[9]) * 3600 + int(found[10]) * 60) * (-1 if found[8] == "-" else 1)
    wall = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
    return Timestamp((wall - offset) * _GIGA + nanos, fixed(offset))


__all__ = [
    "LOCAL_ZONE",
    "RFC3339",
    "RFC3339_NANO",
    "fixed",
    "format_time",
    "parse_rfc3339",
    "parse_time",
]

"""Times by the codes of strftime and strptime."""

from __future__ import annotations

import re
from typing import Final

from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.gotext.layout import DAYS, MONTHS, fixed
from openmeter_collector.bloblang.gotext.quote import quote
from openmeter_collector.values.timestamp import UTC_ZONE, Timestamp, Zone, days_of, from_wall

_CODE: Final = re.compile(r"%([-_0^#]*)([0-9]*)(:{0,2}.)?", re.DOTALL)
_EXPANDED: Final = {
    "D": "%m/%d/%y",
    "x": "%m/%d/%y",
    "F": "%Y-%m-%d",
    "T": "%H:%M:%S",
    "X": "%H:%M:%S",
    "R": "%H:%M",
    "r": "%I:%M:%S %p",
    "c": "%a %b %e %H:%M:%S %Y",
    "v": "%e-%b-%Y",
    "+": "%a %b %e %H:%M:%S %Z %Y",
}


def strftime(time: Timestamp, text: str) -> str:
    """Write a time by codes."""

    def code(match: re.Match[str]) -> str:
        flags, width, letter = match[1], match[2], match[3]
        if letter is None:
            return match[0]
        shown, pad, size = _written(time, letter)
        if shown is None:
            return match[0]
        if "-" in flags:
            return shown
        if "^" in flags:
            shown = shown.upper()
        if "#" in flags:
            shown = shown.swapcase() if shown != shown.upper() else shown.lower()
        if "_" in flags:
            pad = " "
        if "0" in flags:
            pad = "0"
        return shown.rjust(int(width) if width else size, pad)

    return _CODE.sub(code, text)


def _written(time: Timestamp, letter: str) -> tuple[str | None, str, int]:
    """The text of a code, and how to pad it."""
    year, month, day, hour, minute, second, nanos = time.wall()
    offset, zone = time.offset()
    days = days_of(year, month, day)
    weekday = (days + 4) % 7
    day_of_year = days - days_of(year, 1, 1) + 1
    numbers = {
        "Y": (year, "0", 4),
        "C": (year // 100, "0", 2),
        "y": (year % 100, "0", 2),
        "m": (month, "0", 2),
        "d": (day, "0", 2),
        "e": (day, " ", 2),
        "j": (day_of_year, "0", 3),
        "H": (hour, "0", 2),
        "I": (hour % 12 or 12, "0", 2),
        "k": (hour, " ", 2),
        "l": (hour % 12 or 12, " ", 2),
        "M": (minute, "0", 2),
        "S": (second, "0", 2),
        "L": (nanos // 1_000_000, "0", 3),
        "f": (nanos // 1000, "0", 6),
        "N": (nanos, "0", 9),
        "u": (weekday or 7, "0", 1),
        "w": (weekday, "0", 1),
        "U": ((day_of_year + 6 - weekday) // 7, "0", 2),
        "W": ((day_of_year + 6 - (weekday - 1) % 7) // 7, "0", 2),
        "s": (time.ns // 1_000_000_000, "0", 1),
    }
    if letter in numbers:
        value, pad, size = numbers[letter]
        return str(value), pad, size
    if letter in ("G", "g", "V"):
        return _iso_week(days, letter)
    words = {
        "B": MONTHS[month - 1],
        "b": MONTHS[month - 1][:3],
        "h": MONTHS[month - 1][:3],
        "A": DAYS[weekday],
        "a": DAYS[weekday][:3],
        "p": "PM" if hour >= 12 else "AM",
        "P": "pm" if hour >= 12 else "am",
        "Z": zone or _offset(offset, ""),
        "z": _offset(offset, ""),
        ":z": _offset(offset, ":"),
        "::z": _offset(offset, ":") + f":{abs(offset) % 60:02d}",
        "n": "\n",
        "t": "\t",
        "%": "%",
    }
    if letter in words:
        return words[letter], " ", 0
    if letter in _EXPANDED:
        return strftime(time, _EXPANDED[letter]), " ", 0
    return None, "", 0


def _iso_week(days: int, letter: str) -> tuple[str, str, int]:
    from openmeter_collector.values.timestamp import civil  # noqa: PLC0415 - rare codes

    thursday = days + 3 - (days + 3) % 7
    year = civil(thursday)[0]
    if letter == "G":
        return str(year), "0", 4
    if letter == "g":
        return str(year % 100), "0", 2
    return str((thursday - days_of(year, 1, 1)) // 7 + 1), "0", 2


def _offset(offset: int, colon: str) -> str:
    sign = "-" if offset < 0 else "+"
    return f"{sign}{abs(offset) // 3600:02d}{colon}{abs(offset) % 3600 // 60:02d}"


_FIELDS: Final = {
    "Y": (1, 4),
    "m": (1, 2),
    "d": (1, 2),
    "e": (1, 2),
    "H": (1, 2),
    "k": (1, 2),
    "I": (1, 2),
    "l": (1, 2),
    "M": (1, 2),
    "S": (1, 2),
    "j": (1, 3),
    "y": (1, 2),
    "f": (1, 6),
    "L": (1, 3),
    "N": (1, 9),
    "C": (1, 2),
    "u": (1, 1),
    "w": (1, 1),
    "U": (1, 2),
    "W": (1, 2),
    "V": (1, 2),
}


def strptime(text: str, codes: str) -> Timestamp:
    """Read a time by codes."""
    values: dict[str, int] = {}
    zone: list[Zone] = []
    pos = _read(text, codes, 0, values, zone)
    if pos < len(text):
        raise Fail(
            f"failed to parse {quote(text)} with {quote(codes)}: unparsed string {quote(text[pos:])}"
        )
    if "s" in values:
        return Timestamp(values["s"] * 1_000_000_000, zone[0] if zone else UTC_ZONE)
    hour = values.get("H", 0)
    if "I" in values:
        hour = values["I"] % 12 + 12 * values.get("p", 0)
    elif values.get("p") == 1 and hour < 12:
        hour += 12
    month, day = values.get("m", 1), values.get("d", 1)
    if "j" in values:
        month, day = 1, values["j"]
    return from_wall(
        (values.get("Y", 1900), month, day),
        (hour, values.get("M", 0), values.get("S", 0), values.get("f", 0)),
        zone[0] if zone else UTC_ZONE,
    )


def _read(text: str, codes: str, pos: int, values: dict[str, int], zone: list[Zone]) -> int:
    whole = codes
    at = 0
    while at < len(codes):
        char = codes[at]
        if char != "%":
            if pos >= len(text) or text[pos] != char:
                raise _mismatch(
                    text,
                    whole,
                    f"expected '{char}'",
                )
            pos += 1
            at += 1
            continue
        letter = codes[at + 1 : at + 2]
        at += 2
        if letter == ":":
            letter, at = codes[at : at + 1], at + 1
        pos = _one(text, whole, pos, letter, values, zone)
    return pos


def _mismatch(text: str, codes: str, why: str) -> Fail:
    return Fail(f"failed to parse {quote(text)} with {quote(codes)}: {why}")


def _one(
    text: str, codes: str, pos: int, letter: str, values: dict[str, int], zone: list[Zone]
) -> int:
    if letter in _EXPANDED:
        return _read(text, _EXPANDED[letter], pos, values, zone)
    if letter in _FIELDS:
        return _field(text, codes, pos, letter, values)
    if letter in ("B", "b", "h", "A", "a"):
        names = MONTHS if letter in "Bbh" else DAYS
        for short in (False, True):
            for index, name in enumerate(names):
                wanted = name[:3] if short else name
                if text[pos : pos + len(wanted)].lower() == wanted.lower():
                    if names is MONTHS:
                        values["m"] = index + 1
                    return pos + len(wanted)
        raise _mismatch(text, codes, f'cannot parse "%{letter}"')
    if letter in ("p", "P"):
        half = text[pos : pos + 2].upper()
        if half not in ("AM", "PM"):
            raise _mismatch(text, codes, f'cannot parse "%{letter}"')
        values["p"] = int(half == "PM")
        return pos + 2
    if letter == "z":
        return _zone(text, codes, pos, zone)
    if letter == "Z":
        found = re.compile(r"[A-Z]+").match(text, pos)
        if found is None:
            raise _mismatch(text, codes, 'cannot parse "%Z"')
        zone.append(UTC_ZONE if found[0] in ("UTC", "GMT") else Zone(found[0], fixed=0))
        return found.end()
    if letter == "s":
        found = re.compile(r"-?[0-9]+").match(text, pos)
        if found is None:
            raise _mismatch(text, codes, 'cannot parse "%s"')
        values["s"] = int(found[0])
        return found.end()
    if letter in ("n", "t", "%"):
        wanted = {"n": "\n", "t": "\t", "%": "%"}[letter]
        if text[pos : pos + 1] != wanted:
            raise _mismatch(text, codes, f"expected '{wanted}'")
        return pos + 1
    raise _mismatch(text, codes, f'unexpected format: "%{letter}"')


def _field(text: str, codes: str, pos: int, letter: str, values: dict[str, int]) -> int:
    low, high = _FIELDS[letter]
    if letter in "ekl" and text[pos : pos + 1] == " ":
        pos += 1
    found = re.compile(rf"[0-9]{{{low},{high}}}", re.ASCII).match(text, pos)
    if found is None:
        raise _mismatch(text, codes, f'cannot parse "%{letter}"')
    number = int(found[0])
    limits = {
        "m": (1, 12),
        "d": (1, 31),
        "e": (1, 31),
        "H": (0, 23),
        "I": (1, 12),
        "M": (0, 59),
        "S": (0, 60),
        "j": (1, 366),
    }
    lowest, highest = limits.get(letter, (0, 10**9))
    if not lowest <= number <= highest:
        raise _mismatch(text, codes, f'cannot parse "%{letter}"')
    if letter == "y":
        letter, number = "Y", number + (1900 if number >= 69 else 2000)
    if letter in "fLN":
        letter, number = "f", int(found[0].ljust(9, "0"))
    values[{"e": "d", "k": "H", "l": "I"}.get(letter, letter)] = number
    return found.end()


def _zone(text: str, codes: str, pos: int, zone: list[Zone]) -> int:
    if text[pos : pos + 1] == "Z":
        zone.append(UTC_ZONE)
        return pos + 1
    found = re.compile(r"([+-])([0-9]{2}):?([0-9]{2})(?::?([0-9]{2}))?", re.ASCII).match(text, pos)
    if found is None:
        raise _mismatch(text, codes, 'cannot parse "%z"')
    offset = int(found[2]) * 3600 + int(found[3]) * 60 + int(found[4] or 0)
    zone.append(fixed(-offset if found[1] == "-" else offset))
    return found.end()

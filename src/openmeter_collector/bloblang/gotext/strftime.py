"""Times by the codes of strftime and strptime."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.gotext.layout import DAYS, MONTHS, fixed
from openmeter_collector.bloblang.gotext.quote import quote
from openmeter_collector.values.timestamp import (
    LOCAL_ZONE,
    UTC_ZONE,
    Timestamp,
    Zone,
    civil,
    days_of,
    from_wall,
)

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
            return match[0][:-1].rjust(int(width or 1) - 1) + letter[-1]
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
        "f": (nanos // 1000, "0", 6),
        "u": (weekday or 7, "0", 1),
        "w": (weekday, "0", 1),
        "U": ((day_of_year + 6 - weekday) // 7, "0", 2),
        "W": ((day_of_year + 6 - (weekday - 1) % 7) // 7, "0", 2),
        "s": (time.ns // 1_000_000_000, " ", 1),
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


_NUMBERS: Final = {
    "Y": (4, 0, 9999), "G": (4, 0, 9999), "y": (2, 0, 99), "g": (2, 0, 99), "C": (2, 0, 99),
    "m": (2, 1, 12), "d": (2, 1, 31), "e": (2, 1, 31), "j": (3, 1, 366),
    "H": (2, 0, 23), "k": (2, 0, 23), "I": (2, 1, 12), "l": (2, 1, 12),
    "M": (2, 0, 59), "S": (2, 0, 60), "f": (6, 0, 999_999),
    "w": (1, 0, 6), "u": (1, 1, 7), "V": (2, 1, 53), "U": (2, 0, 53), "W": (2, 0, 53),
}  # fmt: skip
"""How many digits a code may have, and from where to where its number may go."""

_NAMES: Final = {
    "B": MONTHS, "b": [name[:3] for name in MONTHS], "h": [name[:3] for name in MONTHS],
    "A": DAYS, "a": [name[:3] for name in DAYS], "p": ["AM", "PM"], "P": ["AM", "PM"],
}  # fmt: skip
_SPACE: Final = re.compile(r"[ \t\n\v\f\r]+")
_ABBREVIATION: Final = re.compile(r"[A-Z]{3}|[A-Z]{3}T|WITA|[A-Z]{4}T")
_OFFSETS: Final = {
    0: re.compile(r"([+-])([0-9]{2})(?::([0-9]{2})(?::([0-9]{2}))?|([0-9]{2}))?", re.ASCII),
    1: re.compile(r"([+-])([0-9]{2}):([0-9]{2})()()", re.ASCII),
    2: re.compile(r"([+-])([0-9]{2}):([0-9]{2}):([0-9]{2})()", re.ASCII),
    3: re.compile(r"([+-])([0-9]{2})(?::([0-9]{2})(?::([0-9]{2}))?)?()", re.ASCII),
}
"""How `%z` is written, by the number of colons before the letter."""


def strptime(text: str, codes: str) -> Timestamp:
    """Read a time by codes.

    Raises:
        Fail: the text is not as the codes say.
    """
    reading = _Reading(text)
    try:
        reading.read(codes)
        reading.end()
        return reading.time()
    except _Unreadable as error:
        raise Fail(f"failed to parse {quote(text)} with {quote(codes)}: {error}") from None


class _Unreadable(Exception):
    """The text is not as the codes say."""


@dataclass
class _Reading:
    """A text, and what was read of it so far."""

    text: str
    pos: int = 0
    values: dict[str, int] = field(default_factory=dict)
    name: str | None = None
    offset: int | None = None
    week: str = ""
    weekday: int | None = None

    def read(self, codes: str) -> None:
        """Read by several codes and the text between them."""
        at = 0
        while at < len(codes):
            char = codes[at]
            at += 1
            if char != "%":
                self.expect(char)
                continue
            code = codes[at : at + 1]
            while code.endswith(":") and len(code) <= 3:
                code += codes[at + len(code) : at + len(code) + 1] or " "
            at += len(code)
            if not code:
                raise _Unreadable('stray "%"')
            if code[0] == ":" and code[-1] != "z":
                raise _Unreadable(f"expected 'z' after \"%{code[:-1]}\"")
            self.one(code)

    def end(self) -> None:
        """There is nothing left to read."""
        if self.pos < len(self.text):
            raise _Unreadable(f"unparsed string {quote(self.text[self.pos :])}")

    def expect(self, char: str) -> None:
        """Read one character as it is."""
        if self.text[self.pos : self.pos + 1] != char:
            raise _Unreadable(f"expected {quote(char, chr(39))}")
        self.pos += 1

    def one(self, code: str) -> None:
        """Read by one code."""
        if code in _EXPANDED:
            self.read(_EXPANDED[code])
        elif code in _NUMBERS:
            self.number(code)
        elif code in _NAMES:
            self.word(code)
        elif code[-1] == "z":
            self.zone_offset(code)
        elif code == "Z":
            self.zone_name()
        elif code == "s":
            self.unix()
        elif code in ("n", "t"):
            found = _SPACE.match(self.text, self.pos)
            if found is None:
                raise _Unreadable(f'expected a space for "%{code}"')
            self.pos = found.end()
        elif code == "%":
            self.expect("%")
        else:
            raise _Unreadable(f'unexpected format "%{code}"')

    def number(self, code: str) -> None:
        """Read a number of a date or a time."""
        size, low, high = _NUMBERS[code]
        if code in "ekl" and self.text.startswith(" ", self.pos):
            self.pos += 1
        sign = 1
        if code in "YGC" and self.text.startswith("-", self.pos):
            if code == "C":
                raise _Unreadable('negative century is not supported for "%C"')
            sign, self.pos = -1, self.pos + 1
        found = re.compile(rf"[0-9]{{1,{size}}}", re.ASCII).match(self.text, self.pos)
        if found is None or not low <= int(found[0]) <= high:
            raise _Unreadable(f'cannot parse "%{code}"')
        self.pos = found.end()
        self.keep(code, sign * int(found[0]), found[0])

    def keep(self, code: str, number: int, digits: str) -> None:
        """Note what a number stands for."""
        if code in "Gg":
            self.values["iso"] = 1
        if code in "yg":
            number += 2000 if number < 69 else 1900
        elif code == "f":
            number = int(digits.ljust(6, "0")) * 1000
        elif code in "Il":
            number %= 12
        if code in "wu":
            self.weekday = number % 7
        elif code in "VUW":
            self.week = code
            self.values["week"] = number
        else:
            same = {"G": "Y", "y": "Y", "g": "Y", "e": "d", "k": "H", "I": "H", "l": "H"}
            self.values[same.get(code, code)] = number

    def word(self, code: str) -> None:
        """Read the name of a month, a day or a half of the day."""
        for index, name in enumerate(_NAMES[code]):
            if self.text[self.pos : self.pos + len(name)].lower() == name.lower():
                self.pos += len(name)
                if code in "pP":
                    self.values["p"] = index
                elif code in "Aa":
                    self.weekday = index
                else:
                    self.values["m"] = index + 1
                return
        raise _Unreadable(f'cannot parse "%{code}"')

    def zone_offset(self, code: str) -> None:
        """Read how far the zone is from UTC."""
        if self.text.startswith("Z", self.pos):
            self.offset, self.pos = 0, self.pos + 1
            return
        found = _OFFSETS[len(code) - 1].match(self.text, self.pos)
        if found is None or int(found[2]) > 23 or int(found[3] or found[5] or 0) > 59:
            raise _Unreadable(f'cannot parse "%{code}"')
        minutes = int(found[2]) * 60 + int(found[3] or found[5] or 0)
        size = minutes * 60 + int(found[4] or 0)
        self.offset = -size if found[1] == "-" else size
        self.pos = found.end()

    def zone_name(self) -> None:
        """Read the abbreviation of a zone."""
        found = re.compile(r"[A-Z]*").match(self.text, self.pos)
        name = found[0] if found else ""
        if not _ABBREVIATION.fullmatch(name):
            raise _Unreadable(f'cannot parse {quote(name)} with "%Z"')
        self.name = name
        self.pos += len(name)

    def unix(self) -> None:
        """Read unix seconds; they stand for a date and a time in UTC."""
        found = re.compile(r"(-?)([0-9]{1,19})", re.ASCII).match(self.text, self.pos)
        if found is None:
            raise _Unreadable('cannot parse "%s"')
        self.pos = found.end()
        days, seconds = divmod(int(found[1] + found[2]), 86_400)
        year, month, day = civil(days)
        hour, minute = divmod(seconds // 60, 60)
        self.values.update(Y=year, m=month, d=day, H=hour, M=minute, S=seconds % 60)

    def time(self) -> Timestamp:
        """The time that was read."""
        values = self.values
        year = values.get("Y", 1900)
        if "C" in values:
            year = values["C"] * 100 + year % 100
        clock = (
            values.get("H", 0) + 12 * values.get("p", 0),
            values.get("M", 0),
            values.get("S", 0),
            values.get("f", 0),
        )
        if "d" in values:
            date = (year, values.get("m", 1), values["d"])
        elif "j" in values:
            if "iso" in values:
                raise _Unreadable('use "%Y" to parse non-ISO year for "%j"')
            date = (year, 1, values["j"])
        elif self.week:
            date = self.day_of_week(year)
        else:
            date = (year, values.get("m", 1), 1)
        return from_wall(date, clock, self.zone())

    def day_of_week(self, year: int) -> tuple[int, int, int]:
        """The date of a week with its day."""
        iso = "iso" in self.values
        if self.week == "V" and not iso:
            raise _Unreadable('use "%G" to parse ISO year for "%V"')
        if self.week != "V" and iso:
            raise _Unreadable('use "%Y" to parse non-ISO year for "%U" or "%W"')
        first = {"U": 0, "W": 1, "V": 4}[self.week]
        weekday = (0 if self.week == "U" else 1) if self.weekday is None else self.weekday
        week = self.values["week"] + (self.week != "U" and weekday == 0)
        start = days_of(year, 1, 1) - 1 - first
        return civil(start + week * 7 - (start + 4) % 7 + weekday)

    def zone(self) -> Zone:
        """The zone that was read; UTC if there was none."""
        if self.offset is not None:
            if self.name is None:
                return fixed(self.offset) if self.offset else UTC_ZONE
            return Zone(self.name, fixed=self.offset)
        if self.name in (None, "UTC"):
            return UTC_ZONE
        if LOCAL_ZONE.at(0)[1] == self.name:
            return LOCAL_ZONE
        return Zone(self.name or "", fixed=0)

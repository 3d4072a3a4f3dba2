"""The two forms of syslog lines: RFC 5424 and what RFC 3164 found in use."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

_PRIORITY: Final = re.compile(r"<(0|[1-9][0-9]{0,2})>")
_VERSION: Final = re.compile(r"([1-9][0-9]{0,2}) ")
_RFC3339: Final = re.compile(
    r"([0-9]{4})-(0[1-9]|1[0-2])-([0-2][0-9]|3[01])T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])"
    r"(?:\.([0-9]{1,6}))?(Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_STAMP: Final = re.compile(
    r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) ( [1-9]|[0-2][0-9]|3[01]) "
    r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])"
)
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"
_HEADER: Final = (("hostname", 255), ("appname", 48), ("procid", 128), ("msgid", 32))
_NAME: Final = re.compile(r"[!#-<>-\\^-~]{1,32}")
_PARAMETER: Final = re.compile(r' ([!#-<>-\\^-~]{1,32})="((?:[^"\\\]]|\\.)*)"', re.DOTALL)
_ESCAPED: Final = re.compile(r'\\(["\\\]])')
_HOST: Final = re.compile(r"([!-~]{1,255}) ")
_TAG: Final = re.compile(r"([!-9;-Z\\^-~]{1,32})(?:\[([!-Z\\^-~]{1,128})\])?: ?")


class BadLine(ValueError):
    """A line that is not of the form it should have."""


Fields = dict[str, Any]


def parse_rfc5424(line: str, *, best_effort: bool) -> Fields:
    """Read a line.

    Raises:
        BadLine: where and what was expected; with `best_effort` only without priority and version.
    """
    found: Fields = {}
    try:
        _read_rfc5424(line, found)
    except BadLine:
        if not best_effort or "version" not in found:
            raise
    return found


def _read_rfc5424(line: str, found: Fields) -> None:
    at = _priority(line, found)
    version = _expect(_VERSION, line, at, "a version and a space")
    found["version"] = int(version[1])
    at = version.end()
    if line.startswith("- ", at):
        at += 2
    else:
        stamp = _expect(_RFC3339, line, at, "a time as in RFC 3339, or -")
        found["timestamp"] = _moment(stamp, at)
        at = _space(line, stamp.end())
    for name, longest in _HEADER:
        end = line.find(" ", at)
        word = line[at:end] if end >= 0 else ""
        if not word or len(word) > longest or not (word.isascii() and word.isprintable()):
            raise BadLine(f"expected {name} of at most {longest} characters [col {at}]")
        if word != "-":
            found[name] = word
        at = end + 1
    at = _structured(line, at, found)
    if at == len(line):
        return
    message = line[_space(line, at) :]
    if message:
        found["message"] = message


def _priority(line: str, found: Fields) -> int:
    match = _expect(_PRIORITY, line, 0, "a priority within angle brackets")
    priority = int(match[1])
    if priority > 191:
        raise BadLine("expected a priority value from 0 to 191 [col 1]")
    found |= {"priority": priority, "facility": priority // 8, "severity": priority % 8}
    return match.end()


def _expect(pattern: re.Pattern[str], line: str, at: int, what: str) -> re.Match[str]:
    match = pattern.match(line, at)
    if match is None:
        raise BadLine(f"expected {what} [col {at}]")
    return match


def _space(line: str, at: int) -> int:
    if not line.startswith(" ", at):
        raise BadLine(f"expected a space [col {at}]")
    return at + 1


def _moment(stamp: re.Match[str], at: int) -> str:
    """A time of RFC 3339, checked and without zeros that say nothing."""
    year, month, day, hour, minute, second = (int(stamp[part]) for part in range(1, 7))
    try:
        datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise BadLine(f"expected a day that there is [col {at}]") from error
    fraction = (stamp[7] or "").rstrip("0")
    whole = stamp[0][:19] + (f".{fraction}" if fraction else "")
    return whole + ("Z" if stamp[8] in {"Z", "+00:00"} else stamp[8])


def _structured(line: str, at: int, found: Fields) -> int:
    if line.startswith("-", at):
        return at + 1
    elements: dict[str, dict[str, str]] = {}
    while line.startswith("[", at):
        name = _expect(_NAME, line, at + 1, "the name of a structured data element")
        if name[0] in elements:
            raise BadLine(f"the structured data element {name[0]!r} comes twice [col {at}]")
        element = elements.setdefault(name[0], {})
        at = name.end()
        while (parameter := _PARAMETER.match(line, at)) is not None:
            element[parameter[1]] = _ESCAPED.sub(r"\1", parameter[2])
            at = parameter.end()
        if not line.startswith("]", at):
            raise BadLine(f"expected a parameter or the end of structured data [col {at}]")
        at += 1
    if not elements:
        raise BadLine(f"expected structured data, or - [col {at}]")
    found["structureddata"] = elements
    return at


@dataclass(frozen=True, slots=True)
class Syslog3164:
    """Lines as RFC 3164 describes them.

    Attributes:
        year: the year of a time that has none; 0 for none.
        zone: its time zone.
        rfc3339: times may be as in RFC 3339.
        best_effort: what could be read before a fault is enough.
    """

    year: Callable[[], int]
    zone: tzinfo
    rfc3339: bool
    best_effort: bool

    def parse(self, line: str) -> Fields:
        """Read a line.

        Raises:
            BadLine: where and what was expected; with `best_effort` only without a priority.
        """
        found: Fields = {}
        try:
            self._read(line.rstrip("\r\n"), found)
        except BadLine:
            if not self.best_effort or "priority" not in found:
                raise
        return found

    def _read(self, line: str, found: Fields) -> None:
        at = _priority(line, found)
        if self.rfc3339 and (stamp := _RFC3339.match(line, at)) is not None:
            found["timestamp"] = _moment(stamp, at)
        else:
            stamp = _expect(_STAMP, line, at, "a time such as 'Oct 11 22:14:15'")
            found["timestamp"] = self._moment(stamp, at)
        at = _space(line, stamp.end())
        host = _expect(_HOST, line, at, "a hostname and a space")
        found["hostname"] = host[1]
        at = host.end()
        if (tag := _TAG.match(line, at)) is not None:
            found["appname"] = tag[1]
            if tag[2]:
                found["procid"] = tag[2]
            at = tag.end()
        if line[at:]:
            found["message"] = line[at:]

    def _moment(self, stamp: re.Match[str], at: int) -> str:
        month = _MONTHS.index(stamp[1]) // 3 + 1
        day, hour, minute, second = (int(stamp[part]) for part in range(2, 6))
        year = self.year()
        try:
            # The year 0 was a leap year, as 4 is; Python begins with 1.
            moment = datetime(year or 4, month, day, hour, minute, second, tzinfo=self.zone)
        except ValueError as error:
            raise BadLine(f"expected a day that there is in {year} [col {at}]") from error
        text = moment.isoformat().removesuffix("+00:00")
        return f"{year:04d}{text[4:]}" + ("Z" if moment.isoformat().endswith("+00:00") else "")

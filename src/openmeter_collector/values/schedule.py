"""When something happens again: a duration, a cron expression, or `@every`, `@hourly` and the like.

Cron expressions have five fields, or six with seconds first; `?` is `*`; names of months and days are
understood. `TZ=Europe/Budapest` (or `CRON_TZ=`) before them gives the zone; without it, UTC. When both the day of
the month and the day of the week are limited, either is enough, as cron has always done it. A local
time that a clock change skips happens at none; one that it repeats happens once.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from openmeter_collector.values.units import parse_duration

_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS: Final = {name.lower(): at for at, name in enumerate(calendar.month_abbr) if name}
_DAYS: Final = {
    name: at for at, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
}
_NO_NAMES: Final[dict[str, int]] = {}
_FIELDS: Final = (
    ("second", 0, 59, _NO_NAMES),
    ("minute", 0, 59, _NO_NAMES),
    ("hour", 0, 23, _NO_NAMES),
    ("day of the month", 1, 31, _NO_NAMES),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_YEARS_TO_LOOK: Final = 8  # a 29 February can be eight years away


class Schedule(Protocol):
    """Moments, as Unix seconds."""

    @property
    def every(self) -> float:
        """Seconds between two of them, 0 when that varies."""

    def first(self, now: float) -> float:
        """The first moment, when it is `now`."""

    def after(self, moment: float) -> float:
        """The next one after a moment."""


@dataclass(frozen=True, slots=True)
class Every:
    """The same time between any two."""

    every: float

    def first(self, now: float) -> float:
        return now

    def after(self, moment: float) -> float:
        return moment + self.every


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression.

    Attributes:
        fields: seconds, minutes, hours, days, months, days of the week that are allowed.
        either_day: both kinds of day are limited, and one is enough.
    """

    fields: tuple[frozenset[int], ...]
    either_day: bool
    zone: tzinfo

    @property
    def every(self) -> float:
        return 0.0

    def first(self, now: float) -> float:
        return self.after(now)

    def after(self, moment: float) -> float:
        """The next moment; raises ValueError when there is none (a 30 February)."""
        at = datetime.fromtimestamp(int(moment) + 1, self.zone).replace(tzinfo=None, fold=0)
        last_year = at.year + _YEARS_TO_LOOK
        while at.year <= last_year:
            found, at = self._step(at)
            if found:
                aware = at.replace(tzinfo=self.zone)
                seconds = aware.timestamp()
                real = datetime.fromtimestamp(seconds, self.zone).replace(tzinfo=None)
                if real == at and seconds > moment:
                    return seconds
                at += timedelta(seconds=1)
        raise ValueError("the schedule has no time in the years to come")

    def _step(self, at: datetime) -> tuple[bool, datetime]:
        """Whether a local time fits, else the earliest that can."""
        seconds, minutes, hours, _, months, _ = self.fields
        if at.month not in months:
            year, month = (at.year + 1, 1) if at.month == 12 else (at.year, at.month + 1)
            return False, at.replace(year=year, month=month, day=1, hour=0, minute=0, second=0)
        if not self._day_fits(at):
            return False, at.replace(hour=0, minute=0, second=0) + timedelta(days=1)
        if at.hour not in hours:
            return False, at.replace(minute=0, second=0) + timedelta(hours=1)
        if at.minute not in minutes:
            return False, at.replace(second=0) + timedelta(minutes=1)
        if at.second not in seconds:
            return False, at + timedelta(seconds=1)
        return True, at

    def _day_fits(self, at: datetime) -> bool:
        by_month = at.day in self.fields[3]
        by_week = (at.weekday() + 1) % 7 in self.fields[5]
        return (by_month or by_week) if self.either_day else (by_month and by_week)


def parse_schedule(text: str) -> Schedule | None:
    """Read an interval or a cron expression; None for the empty text, which is no schedule.

    Raises:
        ValueError: it is neither; the text says why.
    """
    text = text.strip()
    if not text:
        return None
    if text.startswith("@every "):
        return _every(text.removeprefix("@every ").strip())
    zone: tzinfo = UTC
    if text.startswith(("TZ=", "CRON_TZ=")):
        name, _, text = text.partition("=")[2].partition(" ")
        try:
            zone = ZoneInfo(name)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"there is no time zone {name!r}; use a name such as UTC") from error
        text = text.strip()
    text = _MACROS.get(text, text)
    parts = text.split()
    if len(parts) == 1 and not text.startswith("@") and zone is UTC:
        return _every(text)
    return _cron(text, parts, zone)


def _every(text: str) -> Every:
    length = parse_duration(text) / 1e9
    if length <= 0:
        raise ValueError(f"{text!r} is no interval; use more than 0, such as 1s")
    return Every(length)


def _cron(text: str, parts: Sequence[str], zone: tzinfo) -> Cron:
    if len(parts) == 5:
        parts = ["0", *parts]
    if len(parts) != 6:
        raise ValueError(
            f"{text!r} is no schedule; use a duration such as 30s, or a cron expression of five "
            "fields, or six with seconds first"
        )
    fields = [_field(part, *about) for part, about in zip(parts, _FIELDS, strict=True)]
    fields[5] = frozenset(day % 7 for day in fields[5])
    either = parts[3] not in {"*", "?"} and parts[5] not in {"*", "?"}
    made = Cron(tuple(fields), either, zone)
    made.after(0)
    return made


def _field(text: str, name: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    allowed: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = int(step_text) if step_text.isdecimal() else 0
        if slash and not step:
            raise ValueError(f"{part!r} is no step of the {name}; write for example */5")
        first, dash, last = span.partition("-")
        if span in {"*", "?"}:
            start, end = low, high
        else:
            start = _number(first, name, low, high, names)
            end = _number(last, name, low, high, names) if dash else start
            if slash and not dash:
                end = high
        if start > end:
            raise ValueError(f"{part!r}: the {name} ends before it begins")
        allowed.update(range(start, end + 1, step or 1))
    return frozenset(allowed)


def _number(text: str, name: str, low: int, high: int, names: dict[str, int]) -> int:
    value = int(text) if text.isdecimal() else names.get(text.lower(), -1)
    if not low <= value <= high:
        raise ValueError(f"{text!r} is no {name}; use {low} to {high}")
    return value

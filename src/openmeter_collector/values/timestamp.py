"""A point in time with nanoseconds and a zone."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from datetime import timezone as fixed_zone
from typing import Final
from zoneinfo import ZoneInfo

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = 86_400
_GIGA: Final = 1_000_000_000


class Zone:
    """Where a timestamp's wall clock stands.

    Attributes:
        name: the zone's name, "" for a bare offset.
    """

    __slots__ = ("_fixed", "_info", "name")

    def __init__(
        self, name: str, *, fixed: int | None = None, info: ZoneInfo | None = None
    ) -> None:
        """A fixed offset in seconds, or a zone of the database; with neither, local time."""
        self.name = name
        self._fixed = fixed
        self._info = info

    def at(self, seconds: int) -> tuple[int, str]:
        """The offset from UTC in seconds and its abbreviation, at a unix time."""
        if self._fixed is not None:
            return self._fixed, self.name
        clipped = min(max(seconds, -62135596800 + _DAY), 253402300799 - _DAY)
        if self._info is not None:
            moment = (_EPOCH + timedelta(seconds=clipped)).astimezone(self._info)
            offset = moment.utcoffset() or timedelta()
            return int(offset.total_seconds()), moment.tzname() or ""
        local = time.localtime(clipped)
        return local.tm_gmtoff, local.tm_zone

    def offset_of_wall(self, wall: int) -> tuple[int, str]:
        """The offset in force when the wall clock shows `wall` (seconds as if it were UTC)."""
        offset, name = self.at(wall)
        # A time that the clock skips counts by the offset from before the change.
        return self.at(wall - offset) if offset else (offset, name)


UTC_ZONE: Final = Zone("UTC", fixed=0)
LOCAL_ZONE: Final = Zone("Local")


def load_zone(name: str) -> Zone:
    """A zone by its database name; "" and "UTC" are UTC, "Local" is this machine's.

    Raises:
        ValueError: there is no such zone.
    """
    if name in ("", "UTC"):
        return UTC_ZONE
    if name == "Local":
        return LOCAL_ZONE
    if ".." in name or name[0] in "/\\":
        raise ValueError("time: invalid location name")
    try:
        return Zone(name, info=ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name}") from None


class Timestamp:
    """An instant, kept as nanoseconds since 1970 UTC, and the zone it is shown in."""

    __slots__ = ("ns", "zone")

    def __init__(self, ns: int, zone: Zone = UTC_ZONE) -> None:
        self.ns = ns
        self.zone = zone

    def offset(self) -> tuple[int, str]:
        """Seconds east of UTC at this instant, and the zone's abbreviation."""
        return self.zone.at(self.ns // _GIGA)

    def wall(self) -> tuple[int, int, int, int, int, int, int]:
        """Year, month, day, hour, minute, second and nanosecond on the zone's clock."""
        seconds, nanos = divmod(self.ns, _GIGA)
        days, rest = divmod(seconds + self.offset()[0], _DAY)
        year, month, day = civil(days)
        return year, month, day, rest // 3600, rest % 3600 // 60, rest % 60, nanos

    def in_zone(self, zone: Zone) -> Timestamp:
        """The same instant on another clock."""
        return Timestamp(self.ns, zone)

    def datetime(self) -> datetime:
        """As Python's datetime; nanoseconds are cut to microseconds."""
        moment = _EPOCH + timedelta(microseconds=self.ns // 1000)
        return moment.astimezone(fixed_zone(timedelta(seconds=self.offset()[0])))

    def text(self) -> str:
        """RFC 3339, with as many digits of a second as there are."""
        year, month, day, hour, minute, second, nanos = self.wall()
        fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
        offset = self.offset()[0]
        if offset:
            sign = "-" if offset < 0 else "+"
            hours, minutes = divmod(abs(offset) // 60, 60)
            zone = f"{sign}{hours:02d}:{minutes:02d}"
        else:
            zone = "Z"
        return (
            f"{_year(year)}-{month:02d}-{day:02d}"
            f"T{hour:02d}:{minute:02d}:{second:02d}{fraction}{zone}"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and self.text() == other.text()

    def __hash__(self) -> int:
        return hash(self.ns)

    def __repr__(self) -> str:
        return f"Timestamp({self.text()!r})"


def _year(year: int) -> str:
    return f"{year:04d}" if year >= 0 else f"-{-year:04d}"


def civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, day


def days_of(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a date; months and days beyond their range carry over."""
    extra, index = divmod(month - 1, 12)
    year += extra
    month = index + 1
    shifted_year = year - (month <= 2)
    era, year_of_era = divmod(shifted_year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468 + day - 1


def from_wall(
    date: tuple[int, int, int], clock: tuple[int, int, int, int], zone: Zone
) -> Timestamp:
    """The instant at which the clock of `zone` shows a date and a time of day."""
    wall = days_of(*date) * _DAY + clock[0] * 3600 + clock[1] * 60 + clock[2]
    offset, _ = zone.offset_of_wall(wall)
    return Timestamp((wall - offset) * _GIGA + clock[3], zone)

"""Functions and methods of time."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any, Final

from openmeter_collector.bloblang.convert import get_string, get_timestamp
from openmeter_collector.bloblang.definition import Case, function, method
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.gotext.layout import format_time, parse_time
from openmeter_collector.bloblang.gotext.strftime import strftime, strptime
from openmeter_collector.values.kinds import INT64_MAX, INT64_MIN, Int64, Value
from openmeter_collector.values.timestamp import (
    LOCAL_ZONE,
    Timestamp,
    Zone,
    load_zone,
)

_NANO: Final = "2006-01-02T15:04:05.999999999Z07:00"
_ZERO_NS: Final = -62135596800 * 1_000_000_000
_FORMAT_DOC: Final = (
    "How to write the time, shown with the reference time `2006-01-02T15:04:05Z07:00`."
)
_TZ_DOC: Final = "The time zone to show it in, such as `UTC` or `Europe/Berlin`."


@function("time", unstable="clock", cases=[Case("root = now().type()", "", "string")])
def now() -> Value:
    """The current time as RFC 3339 text in the local zone."""
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    start, zone = _second(seconds)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{start}{fraction}{zone}"


@lru_cache(maxsize=2)
def _second(seconds: int) -> tuple[str, str]:
    """The text of a second, and of its zone; asked for many times in a row."""
    text = Timestamp(seconds * 1_000_000_000, LOCAL_ZONE).text()
    return text[:19], text[19:]


@function(
    "time", unstable="clock", cases=[Case("root = timestamp_unix() > 1700000000", "", "true")]
)
def timestamp_unix() -> Value:
    """The current unix time in seconds."""
    return Int64(time.time())


@function(
    "time",
    unstable="clock",
    cases=[Case("root = timestamp_unix_milli() > 1700000000000", "", "true")],
)
def timestamp_unix_milli() -> Value:
    """The current unix time in milliseconds."""
    return Int64(time.time_ns() // 1_000_000)


@function(
    "time",
    unstable="clock",
    cases=[Case("root = timestamp_unix_micro() > 1700000000000000", "", "true")],
)
def timestamp_unix_micro() -> Value:
    """The current unix time in microseconds."""
    return Int64(time.time_ns() // 1000)


@function(
    "time",
    unstable="clock",
    cases=[Case("root = timestamp_unix_nano() > 1700000000000000000", "", "true")],
)
def timestamp_unix_nano() -> Value:
    """The current unix time in nanoseconds."""
    return Int64(time.time_ns())


def _in_zone(value: Value, tz: str | None) -> Timestamp:
    moment = get_timestamp(value)
    if tz is None:
        return moment
    return moment.in_zone(_zone(tz))


def _zone(name: str) -> Zone:
    try:
        return load_zone(name)
    except ValueError as error:
        raise Fail(f"failed to parse timezone location name: {error}") from None


@method(
    "time",
    plugin=True,
    static=True,
    prepared=True,
    status="beta",
    cases=[Case('root = this.ts_parse("2006-Jan-02")', '"2020-Aug-14"', '"2020-08-14T00:00:00Z"')],
    params={"format": _FORMAT_DOC},
)
def ts_parse(format: str) -> Any:  # noqa: A002 - the name users write
    """Read a time by a layout; without a zone in it, UTC."""
    return lambda value: parse_time(time_text(value), format)


def time_text(value: Value) -> str:
    """A time or text as text."""
    if isinstance(value, Timestamp):
        return value.text()
    return get_string(value)


@method(
    "time",
    plugin=True,
    static=True,
    prepared=True,
    status="deprecated",
    cases=[
        Case('root = this.parse_timestamp("2006-Jan-02")', '"2020-Aug-14"', "2020-08-14T00:00:00Z")
    ],
    params={"format": _FORMAT_DOC},
)
def parse_timestamp(format: str) -> Any:  # noqa: A002
    """Read a time by a layout; `ts_parse` is the newer name."""
    read = ts_parse.call(format)
    return lambda value: read(value).text()


@method(
    "time",
    plugin=True,
    static=True,
    prepared=True,
    status="beta",
    cases=[Case('root = this.ts_format("2006-01-02", "UTC")', "1597405526", "2020-08-14")],
    params={"format": _FORMAT_DOC, "tz": _TZ_DOC},
)
def ts_format(format: str = _NANO, tz: str | None = None) -> Any:  # noqa: A002
    """Write a time by a layout."""
    zone = None if tz is None else _zone(tz)

    def run(value: Value) -> Value:
        moment = get_timestamp(value)
        return format_time(moment if zone is None else moment.in_zone(zone), format)

    return run


@method(
    "time",
    plugin=True,
    static=True,
    prepared=True,
    status="deprecated",
    cases=[Case('root = this.format_timestamp("2006-01-02", "UTC")', "1597405526", "2020-08-14")],
    params={"format": _FORMAT_DOC, "tz": _TZ_DOC},
)
def format_timestamp(format: str = _NANO, tz: str | None = None) -> Any:  # noqa: A002
    """Write a time by a layout; `ts_format` is the newer name."""
    return ts_format.call(format, tz)


@method(
    "time",
    plugin=True,
    static=True,
    prepared=True,
    status="beta",
    cases=[Case('root = this.ts_strptime("%Y-%b-%d")', '"2020-Aug-14"', '"2020-08-14T00:00:00Z"')],
    params={"format": "How the time is written, in the codes of strptime."},
)
def ts_strptime(format: str) -> Any:  # noqa: A002
    """Read a time by codes such as `%Y-%m-%d`."""
    return lambda value: strptime(time_text(value), format)


@method(
    "time",
    plugin=True,
    static=True,
    prepared=True,
    status="deprecated",
    cases=[
        Case(
            'root = this.parse_timestamp_strptime("%Y-%b-%d")',
            '"2020-Aug-14"',
            "2020-08-14T00:00:00Z",
        )
    ],
    params={"format": "How the time is written, in the codes of strptime."},
)
def parse_timestamp_strptime(format: str) -> Any:  # noqa: A002
    """Read a time by codes; `ts_strptime` is the newer name."""
    read = ts_strptime.call(format)
    return lambda value: read(value).text()


@method(
    "time",
    plugin=True,
    static=True,
    prepared=True,
    status="beta",
    cases=[Case('root = this.ts_strftime("%Y-%b-%d", "UTC")', "1597405526", "2020-Aug-14")],
    params={"format": "How to write the time, in the codes of strftime.", "tz": _TZ_DOC},
)
def ts_strftime(format: str, tz: str | None = None) -> Any:  # noqa: A002
    """Write a time by codes such as `%Y-%m-%d`."""
    zone = None if tz is None else _zone(tz)

    def run(value: Value) -> Value:
        moment = get_timestamp(value)
        return strftime(moment if zone is None else moment.in_zone(zone), format)

    return run


@method(
    "time",
    plugin=True,
    static=True,
    prepared=True,
    status="deprecated",
    cases=[
        Case(
            'root = this.format_timestamp_strftime("%Y-%b-%d", "UTC")', "1597405526", "2020-Aug-14"
        )
    ],
    params={"format": "How to write the time, in the codes of strftime.", "tz": _TZ_DOC},
)
def format_timestamp_strftime(format: str, tz: str | None = None) -> Any:  # noqa: A002
    """Write a time by codes; `ts_strftime` is the newer name."""
    return ts_strftime.call(format, tz)


def _unix(value: Value, unit: int) -> Value:
    found = get_timestamp(value).ns // unit
    if not INT64_MIN <= found <= INT64_MAX:
        raise Fail("the time does not fit 64 bits of this unit")
    return Int64(found)


@method(
    "time",
    plugin=True,
    static=True,
    status="beta",
    cases=[Case("root = this.ts_unix()", '"2009-11-10T23:00:00Z"', "1257894000")],
)
def ts_unix(value: Value) -> Value:
    """A time as unix seconds."""
    return _unix(value, 1_000_000_000)


@method(
    "time",
    plugin=True,
    static=True,
    status="beta",
    cases=[Case("root = this.ts_unix_milli()", '"2009-11-10T23:00:00Z"', "1257894000000")],
)
def ts_unix_milli(value: Value) -> Value:
    """A time as unix milliseconds."""
    return _unix(value, 1_000_000)


@method(
    "time",
    plugin=True,
    static=True,
    status="beta",
    cases=[Case("root = this.ts_unix_micro()", '"2009-11-10T23:00:00Z"', "1257894000000000")],
)
def ts_unix_micro(value: Value) -> Value:
    """A time as unix microseconds."""
    return _unix(value, 1000)


@method(
    "time",
    plugin=True,
    static=True,
    status="beta",
    cases=[Case("root = this.ts_unix_nano()", '"2009-11-10T23:00:00Z"', "1257894000000000000")],
)
def ts_unix_nano(value: Value) -> Value:
    """A time as unix nanoseconds; one that does not fit 64 bits is an error."""
    return _unix(value, 1)


@method(
    "time",
    plugin=True,
    static=True,
    status="deprecated",
    cases=[Case("root = this.format_timestamp_unix()", '"2009-11-10T23:00:00Z"', "1257894000")],
)
def format_timestamp_unix(value: Value) -> Value:
    """A time as unix seconds; `ts_unix` is the newer name."""
    return _unix(value, 1_000_000_000)


@method(
    "time",
    plugin=True,
    static=True,
    status="deprecated",
    cases=[
        Case("root = this.format_timestamp_unix_milli()", '"2009-11-10T23:00:00Z"', "1257894000000")
    ],
)
def format_timestamp_unix_milli(value: Value) -> Value:
    """A time as unix milliseconds; `ts_unix_milli` is the newer name."""
    return _unix(value, 1_000_000)


@method(
    "time",
    plugin=True,
    static=True,
    status="deprecated",
    cases=[
        Case(
            "root = this.format_timestamp_unix_micro()",
            '"2009-11-10T23:00:00Z"',
            "1257894000000000",
        )
    ],
)
def format_timestamp_unix_micro(value: Value) -> Value:
    """A time as unix microseconds; `ts_unix_micro` is the newer name."""
    return _unix(value, 1000)


@method(
    "time",
    plugin=True,
    static=True,
    status="deprecated",
    cases=[
        Case(
            "root = this.format_timestamp_unix_nano()",
            '"2009-11-10T23:00:00Z"',
            "1257894000000000000",
        )
    ],
)
def format_timestamp_unix_nano(value: Value) -> Value:
    """A time as unix nanoseconds; `ts_unix_nano` is the newer name."""
    return _unix(value, 1)


@method(
    "time",
    plugin=True,
    static=True,
    status="beta",
    cases=[
        Case(
            'root = this.ts_round("1h".parse_duration())',
            '"2020-08-14T05:54:23Z"',
            '"2020-08-14T06:00:00Z"',
        )
    ],
    params={"duration": "What to round to, in nanoseconds."},
)
def ts_round(value: Value, duration: int) -> Value:
    """Round a time to a multiple of a duration, counted from the year 1; halves up."""
    moment = get_timestamp(value)
    if duration <= 0:
        return moment
    past = (moment.ns - _ZERO_NS) % duration
    down = moment.ns - past
    return Timestamp(down if past + past < duration else down + duration, moment.zone)


@method(
    "time",
    plugin=True,
    static=True,
    status="beta",
    cases=[
        Case(
            'root = this.ts_tz("Europe/Berlin")',
            '"2020-08-14T05:54:23Z"',
            '"2020-08-14T07:54:23+02:00"',
        )
    ],
    params={"tz": _TZ_DOC},
    prepared=True,
)
def ts_tz(tz: str) -> Any:
    """The same instant in another time zone."""
    zone = _zone(tz)
    return lambda value: get_timestamp(value).in_zone(zone)


@method(
    "time",
    plugin=True,
    static=True,
    status="beta",
    cases=[
        Case(
            "root = this.a.ts_sub(this.b)",
            '{"a":"2020-08-14T05:54:24Z","b":"2020-08-14T05:54:23Z"}',
            "1000000000",
        )
    ],
    params={"t2": "The earlier time."},
)
def ts_sub(value: Value, t2: Timestamp) -> Value:
    """The time between two times in nanoseconds; more than 292 years are an error."""
    between = get_timestamp(value).ns - t2.ns
    if not INT64_MIN <= between <= INT64_MAX:
        raise Fail("the times are further apart than 64 bits of nanoseconds can say")
    return Int64(between)


ENTRIES = (
    now,
    timestamp_unix,
    timestamp_unix_milli,
    timestamp_unix_micro,
    timestamp_unix_nano,
    ts_parse,
    parse_timestamp,
    ts_format,
    format_timestamp,
    ts_strptime,
    parse_timestamp_strptime,
    ts_strftime,
    format_timestamp_strftime,
    ts_unix,
    ts_unix_milli,
    ts_unix_micro,
    ts_unix_nano,
    format_timestamp_unix,
    format_timestamp_unix_milli,
    format_timestamp_unix_micro,
    format_timestamp_unix_nano,
    ts_round,
    ts_tz,
    ts_sub,
)

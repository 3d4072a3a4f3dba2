"""Values between databases and JSON: times as RFC 3339, numbers with all their digits, bytes as text."""

from __future__ import annotations

import base64
import math
import re
from typing import Final

from openmeter_collector.api import Value
from openmeter_collector.values import json
from openmeter_collector.values.kinds import Float64, Int64, SourceNumber, UInt64
from openmeter_collector.values.timestamp import UTC_ZONE, Timestamp, Zone, days_of

_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def rfc3339(text: str, zone: str = "Z") -> str:
    """A date, or a time of a day, as databases write it; what is neither (`infinity`) stays.

    A fraction loses its trailing zeros, as it does where times are made for JSON everywhere else.
    """
    if text[10:11] == " " and text[4] == "-" and text[-1] != "C":  # of "BC"
        if text[-1] == "0" and text[19:20] == ".":
            text = text.rstrip("0").rstrip(".")
        return f"{text[:10]}T{text[11:]}{zone}"
    if len(text) == 10 and text[4] == "-" == text[7]:
        return f"{text}T00:00:00Z"
    return text


def moment_of(text: Value) -> Timestamp | None:
    """The moment that a text in the form of `rfc3339` is; None for anything else."""
    found = _MOMENT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    day, clock, fraction, offset = found.groups()
    year, month, date = (int(part) for part in day.split("-"))
    hour, minute, second = (int(part) for part in clock.split(":"))
    seconds = days_of(year, month, date) * 86_400 + hour * 3600 + minute * 60 + second
    if offset != "Z":
        away = int(offset[1:3]) * 3600 + int(offset[4:6]) * 60
        seconds += away if offset[0] == "-" else -away
    return Timestamp(seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0")))


def wall_clock(moment: Timestamp, zone: Zone = UTC_ZONE) -> str:
    """A moment as `2026-01-01 00:00:00.5`, for databases whose times have no zone."""
    text = moment.in_zone(zone).text()
    return f"{text[:10]} {text[11:-1] if text[-1] == 'Z' else text[11:-6]}"


def number(text: str) -> Value:
    """A decimal as a JSON number with the digits it has; `NaN` and infinities stay text."""
    try:
        made: Value = json.loads(text.encode())
    except ValueError:
        return text
    return made


def integer(value: int | str | bytes) -> Value:
    """An integer, as mappings know those that were not read from JSON (`"%d".format(this.id)`)."""
    made = int(value)
    return Int64(made) if -(2**63) <= made < 2**63 else UInt64(made) if 0 < made < 2**64 else made


def number_of_float(value: float) -> Value:
    """A float as JSON can say it; `NaN` and infinities as text."""
    if math.isfinite(value):
        return Float64(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def text_of_bytes(data: bytes | bytearray | memoryview) -> str:
    """Bytes as text; what is no UTF-8 is replaced."""
    return bytes(data).decode("utf-8", "replace")


def base64_of(data: bytes | bytearray | memoryview) -> str:
    """Bytes as base64, from which they can be had again."""
    return base64.b64encode(data).decode()


def as_text(value: Value) -> str | None:
    """An argument as text a server can read in any type that fits it; None for NULL."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, bytes):
        return text_of_bytes(value)
    if isinstance(value, Timestamp):
        return value.text()
    if isinstance(value, SourceNumber):
        return value.text
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float):
        return str(int(value)) if isinstance(value, int) else repr(float(value))
    return json.dumps(value).decode()


def simple(value: Value) -> Value:
    """An argument as None, bool, int, float or str: what every library takes."""
    if value is None or isinstance(value, bool | bytes):
        return value
    if isinstance(value, SourceNumber):
        return float(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e15 else float(value)
    return as_text(value)

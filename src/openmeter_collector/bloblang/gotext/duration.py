"""Durations such as `1h30m`, with the engine's error texts."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.values import units
from openmeter_collector.values.kinds import INT64_MAX

_PART: Final = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]*)", re.DOTALL)
_UNITS: Final = frozenset({"ns", "us", "µs", "μs", "ms", "s", "m", "h"})


@lru_cache(maxsize=1024)
def parse_duration(text: str) -> int:
    """Nanoseconds; the few texts that a configuration repeats are remembered."""
    try:
        return units.parse_duration(text)
    except ValueError:
        raise Fail(_reason(text)) from None


def _quote(text: str) -> str:
    """Text in quotes, with every byte escaped that is no printable ASCII."""
    parts = []
    for byte in text.encode("utf-8", "surrogateescape"):
        char = chr(byte)
        if char in '"\\':
            parts.append("\\" + char)
        else:
            parts.append(char if 0x20 <= byte < 0x7F else f"\\x{byte:02x}")
    return '"' + "".join(parts) + '"'


def _reason(text: str) -> str:
    shown = _quote(text)
    rest = text[1:] if text[:1] in ("+", "-") else text
    while rest:
        match = _PART.match(rest)
        if match is None or not (match[1] or len(match[2] or "") > 1):
            return f"time: invalid duration {shown}"
        if not match[3]:
            return f"time: missing unit in duration {shown}"
        if match[3] not in _UNITS:
            return f"time: unknown unit {_quote(match[3])} in duration {shown}"
        if match[1] and int(match[1]) > INT64_MAX:
            break
        rest = rest[match.end() :]
    return f"time: invalid duration {shown}"

"""Moments as numbers, as text."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Final

_SECOND: Final = 1_000_000_000


def nanoseconds_text(nanoseconds: int) -> str:
    """Unix nanoseconds as RFC 3339 in UTC, with as many digits as needed."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    text = _whole_second(seconds)
    return f"{text}.{rest:09d}".rstrip("0") + "Z" if rest else text + "Z"


@functools.lru_cache(64)
def _whole_second(seconds: int) -> str:
    """Records that come together are of few seconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]

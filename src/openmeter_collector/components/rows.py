"""Values of typed rows (Parquet, Avro) as JSON has them, without loss."""

from __future__ import annotations

import base64
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from openmeter_collector.values.kinds import SourceNumber


def plain(value: Any) -> Any:
    """A value as a document has it.

    Decimals are exact numbers, moments RFC 3339 (without a zone: in UTC), dates and times ISO 8601,
    lengths of time microseconds, bytes base64. Numbers that JSON has none for are text.
    """
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is float:
        return value if math.isfinite(value) else _odd(value)
    if kind is dict:
        return {str(key): plain(one) for key, one in value.items()}
    if kind is list or kind is tuple:
        if value and all(type(one) is tuple and len(one) == 2 for one in value):
            return {str(plain(key)): plain(one) for key, one in value}
        return [plain(one) for one in value]
    return _other(value)


_AS_THEY_ARE = frozenset({str, int, bool, type(None)})


def _other(value: Any) -> Any:
    if isinstance(value, Decimal):
        return SourceNumber(format(value, "f")) if value.is_finite() else str(value)
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat().replace("+00:00", "Z")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, dict):
        return plain(dict(value))
    return str(value)


def _odd(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"

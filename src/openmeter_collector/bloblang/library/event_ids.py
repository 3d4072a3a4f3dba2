"""Ids that are made of what an event stands for, so that the same fact has the same id everywhere."""

from __future__ import annotations

import hashlib
import uuid
from decimal import Decimal
from typing import Any, Final

from openmeter_collector.bloblang.convert import encode
from openmeter_collector.bloblang.definition import Case, function
from openmeter_collector.bloblang.failure import Fail, type_name
from openmeter_collector.values.json_exact import str_float32
from openmeter_collector.values.kinds import DELETED, NOTHING, Float32, SourceNumber, Value
from openmeter_collector.values.timestamp import UTC_ZONE, Timestamp

_DOMAIN: Final = b"openmeter-collector event_id 1\n"
"""What the first bytes under the hash are; another number here would be another kind of id."""

_MAX_DEPTH: Final = 64


@function(
    "ids",
    static=True,
    ours=True,
    cases=[
        Case(
            'root.id = event_id("kubernetes", this.pod.uid, this.window, "cpu")',
            '{"pod":{"uid":"7c9e6679"},"window":"2024-01-01T00:00:00Z"}',
            '{"id":"b212fdbb-06f3-8143-9342-1ab25267e2ca"}',
        ),
        Case(
            'root = event_id("a", "bc") == event_id("ab", "c")',
            "{}",
            "false",
            note="Where one part ends and the next begins is part of the id.",
        ),
        Case(
            "root = event_id(this.a, this.b) == event_id(5, 1.5)",
            '{"a":5.0,"b":1.50}',
            "true",
            note="A number is what it is worth, however it is written.",
        ),
        Case(
            "root = event_id(this.at.ts_parse(this.layout)) == event_id(this.utc)",
            '{"at":"2024-01-01T02:00:00+02:00","layout":"2006-01-02T15:04:05Z07:00",'
            '"utc":"2024-01-01T00:00:00Z"}',
            "true",
            note="A time is the instant, in any zone; text is text.",
        ),
        Case(
            "root.id = event_id(this.source, this.id)",
            '{"source":"a"}',
            error="failed assignment (line 1): event_id: part 2 is null; with a part missing, "
            'different events would get the same id. If it may be missing, give it `.or("")`',
        ),
    ],
)
def event_id(*parts: Any) -> str:
    """A stable id, the same for the same parts on every replica, after a restart and in a catch-up.

    For sources that are asked on a schedule: name what makes the event the one it is, such as
    source, object, window and meter. The result is a UUID (version 8, from SHA-256). The parts may
    be of any type: text and bytes of the same content are the same, and so are a number and the
    same number written otherwise, and a time and the same instant in UTC as RFC 3339 text. Arrays and
    objects count with all that is in them, objects whatever the order of their fields.
    """
    if not parts:
        raise Fail("event_id: there is nothing to make the id of; give it at least one part")
    out = [_DOMAIN]
    for number, part in enumerate(parts, 1):
        if part is None or part is DELETED or part is NOTHING:
            raise Fail(
                f"event_id: part {number} is {type_name(part)}; with a part missing, different "
                'events would get the same id. If it may be missing, give it `.or("")`'
            )
        _write(part, out, number, 0)
    digest = bytearray(hashlib.sha256(b"".join(out)).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


def _write(value: Value, out: list[bytes], part: int, depth: int) -> None:
    """A value as bytes that no other value has: a letter for its kind, its size, itself."""
    if depth > _MAX_DEPTH:
        raise Fail(f"event_id: part {part} is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        out.append(b"o%d:" % len(value))
        for key in sorted(value, key=encode):
            _write(key, out, part, depth + 1)
            _write(value[key], out, part, depth + 1)
    elif isinstance(value, list):
        out.append(b"l%d:" % len(value))
        for one in value:
            _write(one, out, part, depth + 1)
    else:
        kind, payload = _scalar(value, part)
        out.append(b"%b%d:%b" % (kind, len(payload), payload))


def _scalar(value: Value, part: int) -> tuple[bytes, bytes]:
    if isinstance(value, str):
        return b"s", encode(value)
    if isinstance(value, bytes):
        return b"s", value
    if value is None or value is DELETED or value is NOTHING:
        return b"z", b""
    if value is True or value is False:
        return b"b", b"1" if value else b"0"
    if isinstance(value, Timestamp):
        return b"s", value.in_zone(UTC_ZONE).text().encode()
    return b"n", _number(value, part).encode()


def _number(value: float, part: int) -> str:
    """The digits of a number and the power of ten they stand for: one text for one worth."""
    if isinstance(value, int):
        exact = Decimal(int(value))
    elif isinstance(value, SourceNumber):
        exact = Decimal(value.text)
    elif value - value != 0:
        raise Fail(f"event_id: part {part} is no number that can be written: {float(value)!r}")
    else:
        exact = Decimal(str_float32(value) if isinstance(value, Float32) else repr(float(value)))
    sign, digits, exponent = exact.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    shorter = text.rstrip("0")
    if not shorter:
        return "0"
    return f"{'-' if sign else ''}{shorter}e{int(exponent) + len(text) - len(shorter)}"


ENTRIES = (event_id,)

"""What the real ingest API accepts, and what it says of the rest.

Two checks stand behind each other there, and so they do here: the schema of the API description,
then the CloudEvents reader. One bad event refuses the whole body, and only the first fault is told.
A batch in which nothing is unusual passes through one compiled decoder; anything else is looked at
again, event by event, by the plain rules, which alone decide what is wrong.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime
from email.message import Message
from typing import Annotated, Any, Final, Literal

import msgspec

SINGLE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
JSON: Final = "application/json"
CONTENT_TYPES: Final = (SINGLE, BATCH, JSON)

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Object(msgspec.Struct, gc=False):
    """Any JSON object; nothing of it is kept."""


class Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What is read of a usage event. Its exact bytes are kept elsewhere."""

    id: _Text
    source: _Text
    type: _Text
    subject: _Text
    specversion: Literal["1.0", "0.3"]
    time: str | None = None
    data: _Object | None = None
    datacontenttype: Literal["application/json"] | None = None
    dataschema: _Text | None = None


class Refused(Exception):
    """The body cannot be taken; the text is the answer's `detail`."""


_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_RAW = msgspec.json.Decoder(msgspec.Raw)
_EVENTS = msgspec.json.Decoder(list[Event])
_EVENT = msgspec.json.Decoder(Event)
_TIME = re.compile(
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]"
    r":([0-5][0-9]|60)(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_PLAIN_SOURCE = re.compile(r"[A-Za-z0-9._~/@+-]+")
_checked_sources: set[str] = set()
"""Sources that need no second look; a cache, and no more than that."""
_BODY = "request body has an error: "
_REQUIRED = ("id", "source", "specversion", "type", "subject")
_KNOWN = frozenset({*_REQUIRED, "time", "data", "datacontenttype", "dataschema", "data_base64"})


def media_type(content_type: str, *, exact: bool) -> str:
    """Which of the three content types this is.

    Args:
        exact: compare the whole string, as v1 does; v3 reads the parameters properly.

    Raises:
        Refused: it is none of them.
    """
    if content_type in CONTENT_TYPES:
        return content_type
    header = Message()
    header["content-type"] = content_type
    bare = header.get_content_type() if content_type else ""
    if bare not in CONTENT_TYPES:
        # The API description is asked first, and it ignores parameters.
        raise Refused(f'{_BODY}header Content-Type has unexpected value "{content_type}"')
    if exact:
        raise Refused(f"invalid content type: {content_type}")
    return bare


def read_events(body: bytes, kind: str, *, raws: bool) -> tuple[list[Event], Sequence[bytes]]:
    """The events of a body, and with `raws` the exact bytes of each.

    Raises:
        Refused: the body or one of its events breaks a rule.
    """
    if not body:
        raise Refused(f"{_BODY}value is required but missing")
    is_array = body.lstrip()[:1] == b"["
    if kind == SINGLE and is_array:
        raise Refused(f"{_BODY}doesn't match schema: value must be an object")
    if kind == BATCH and not is_array:
        raise Refused(f"{_BODY}doesn't match schema: value must be an array")
    try:
        events = _EVENTS.decode(body) if is_array else [_EVENT.decode(body)]
        usual = all(map(_is_usual, events))
    except msgspec.DecodeError:  # also ValidationError, which is one
        usual, events = False, []
    if not usual:
        events = _read_slowly(body, kind, is_array=is_array)
    if not events and kind == JSON:
        raise Refused("invalid event: no events found")
    if not raws:
        return events, ()
    return events, [bytes(raw) for raw in _RAWS.decode(body)] if is_array else [body.strip()]


def seen_in(body: bytes) -> list[dict[str, str]]:
    """The identity of whatever events can be made out, without judging; for fault predicates."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    entries = value if isinstance(value, list) else [value]
    return [
        {key: text for key, text in entry.items() if isinstance(text, str)}
        for entry in entries
        if isinstance(entry, dict)
    ]


def _is_usual(event: Event) -> bool:
    if event.time is not None and not _is_time(event.time):
        return False
    if event.source not in _checked_sources:
        if _PLAIN_SOURCE.fullmatch(event.source) is None or len(_checked_sources) > 10_000:
            return False
        _checked_sources.add(event.source)
    return True


def _is_time(text: str) -> bool:
    if _TIME.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _read_slowly(body: bytes, kind: str, *, is_array: bool) -> list[Event]:
    """Every rule in plain words, event by event.

    Raises:
        Refused: naming the first fault.
    """
    try:
        parts = _RAWS.decode(body) if is_array else [_RAW.decode(body)]
        values = [msgspec.json.decode(part) for part in parts]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{_BODY}failed to decode request body: {error}") from None
    for index, value in enumerate(values):
        fault = schema_fault(value)
        if fault is not None:
            place, text = fault
            pointer = (f"/{index}" if is_array else "") + place
            at = f'Error at "{pointer}": ' if pointer else ""
            raise Refused(f"{_BODY}doesn't match schema: {at}{text}")
    events = []
    for index, value in enumerate(values):
        refusal = reader_fault(value)
        if refusal is not None and kind == JSON:
            # The real server tries both readings of such a body and reports neither fault.
            raise Refused("invalid event: no events found")
        if refusal is not None:
            raise Refused(f"invalid event: {f'[{index}] ' if is_array else ''}{refusal}")
        events.append(_event(value))
    return events


def _event(value: dict[str, Any]) -> Event:
    return Event(
        id=value["id"],
        source=value["source"],
        type=value["type"],
        subject=value["subject"],
        specversion=value["specversion"],
        time=value.get("time"),
    )


def schema_fault(value: Any) -> tuple[str, str] | None:
    """The first rule of the API description that an event breaks: (place, what is wrong)."""
    if not isinstance(value, dict):
        return "", "value must be an object"
    for key in _REQUIRED:
        if key not in value:
            return f"/{key}", f'property "{key}" is missing'
    for key in (*_REQUIRED, "dataschema"):
        found = value.get(key)
        if found is None and key == "dataschema":
            continue
        if found is None:
            return f"/{key}", "Value is not nullable"
        if not isinstance(found, str):
            return f"/{key}", "value must be a string"
        if not found:
            return f"/{key}", "minimum string length is 1"
    content_type = value.get("datacontenttype")
    if content_type not in (None, "application/json"):
        return "/datacontenttype", 'value is not one of the allowed values ["application/json"]'
    time = value.get("time")
    if time is not None and not isinstance(time, str):
        return "/time", "value must be a string"
    if time is not None and _TIME.fullmatch(time) is None:
        return "/time", 'string doesn\'t match the format "date-time"'
    data = value.get("data")
    if data is not None and not isinstance(data, dict):
        return "/data", "value must be an object"
    return None


def reader_fault(value: dict[str, Any]) -> str | None:
    """What the CloudEvents reader behind the schema says against an event that passed it."""
    if value["specversion"] not in ("1.0", "0.3"):
        return f"specversion: unknown value: {value['specversion']}"
    time = value.get("time")
    if time is not None and not _is_time(time):
        return f"cannot convert {time!r} to time.Time: not in RFC3339 format"
    if not is_uri_reference(value["source"]):
        return f"cannot parse uri ref: {value['source']}"
    if not _is_base64(value.get("data_base64")):
        return "illegal base64 data in data_base64"
    for key, extension in value.items():
        if key in _KNOWN:
            continue
        if not (key.isascii() and key.isalnum()):
            return (
                "bad key, CloudEvents attribute names MUST consist of lower-case letters "
                "('a' to 'z'), upper-case letters ('A' to 'Z') or digits ('0' to '9') "
                "from the ASCII character set"
            )
        if key.lower() in _KNOWN:
            return (
                f'bad key "{key}": CloudEvents spec attribute MUST NOT be overwritten by extension'
            )
        if isinstance(extension, (dict, list)):
            return f"invalid CloudEvents value: {extension}"
        if isinstance(extension, (int, float)) and not -(2**31) <= extension < 2**31:
            return f"cannot convert {extension} to int32: out of range"
    return None


def _is_base64(value: Any) -> bool:
    if value is None:
        return True
    try:
        b64decode(value, validate=True)
    except (ValueError, TypeError):
        return False
    return True


def is_uri_reference(text: str) -> bool:
    """Whether Go's `url.Parse`, which the real server uses, takes this text. It is lenient:
    spaces and non-ASCII pass; control characters, broken escapes and stray colons do not.
    """
    if any(c < " " or c == "\x7f" for c in text):
        return False
    rest, _, fragment = text.partition("#")
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", rest)
    rest = rest[scheme.end() :] if scheme else rest
    path, _, _ = rest.partition("?")
    if scheme is None and ":" in path.split("/", 1)[0]:
        return False
    if path.startswith("//"):
        authority = path[2:].split("/", 1)[0]
        host = authority.rpartition("@")[2]
        if not re.fullmatch(
            r"(\[[0-9A-Fa-f:.%A-Za-z0-9]*\]|[^\[\]:<>\"\\^`{|} ]*)(:[0-9]*)?", host
        ):
            return False
    if scheme and path and not path.startswith("/"):
        return True  # opaque: not unescaped
    return all(
        re.fullmatch(r"[0-9A-Fa-f]{2}.*", piece, re.DOTALL) is not None
        for part in (path, fragment)
        for piece in part.split("%")[1:]
    )

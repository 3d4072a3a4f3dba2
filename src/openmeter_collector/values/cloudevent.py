"""CloudEvents in their JSON format: splitting a body into events, and the rules each must keep.

The rules are those of the schema that ships with the collector (`cloudevents.spec.json`), which is
the CloudEvents 1.0 schema with these of OpenMeter's own: `subject` has to be there (a string or
null), `data` is an object or null. Extensions are allowed.

Events keep the sender's bytes. The common case costs one pass of a typed decoder; only an event that
it refuses is looked at again, slowly, to say everything that is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Object(msgspec.Struct, gc=False):
    """Any JSON object; the decoder checks it and keeps nothing of it."""


class _Event(msgspec.Struct, gc=False):
    id: _Text
    source: _Text
    specversion: _Text
    type: _Text
    subject: _Text | None
    time: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data: _Object | msgspec.UnsetType | None = msgspec.UNSET
    datacontenttype: _Text | msgspec.UnsetType | None = msgspec.UNSET
    dataschema: _Text | msgspec.UnsetType | None = msgspec.UNSET
    data_base64: _Text | msgspec.UnsetType | None = msgspec.UNSET


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_events = msgspec.json.Decoder(list[_Event]).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

# The times that need no calendar: those that nearly all events have. Decoding them as dates would
# be as quick, and let through a space in place of the T, which the receiver does not.
_PLAIN_TIME: Final = re.compile(
    rb'"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])[Tt](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d'
    rb'(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"'
)
_NULL: Final = msgspec.Raw(b"null")
_MANY: Final = 1_000_000
_MOST_FAULTS: Final = 1_000
_WHITE: Final = b" \t\r\n"
_REQUIRED: Final = ("id", "source", "specversion", "type", "subject")

# RFC 3986 appendix A, by its alphabet: what no URI reference may contain is caught, its parts are
# not picked apart. A percent sign has to begin an escape; "[" only opens an IP literal.
_URI: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?#@!$&'()*+,;=\[\]]|%[0-9A-Fa-f]{2})*")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|[+-](\d\d):(\d\d))", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        index: which event of the body; None when the body as a whole is wrong.
        field: the attribute; empty when the event as a whole is wrong.
        text: what was found and what was expected.
    """

    index: int | None
    field: str
    text: str
    single: bool = False

    def __str__(self) -> str:
        if self.index is None:
            return self.text
        place = "event" if self.single else f"events[{self.index}]"
        return f"{place}.{self.field}: {self.text}" if self.field else f"{place}: {self.text}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """The events of a body that keep the rules, and what is wrong with the others."""

    events: list[bytes]
    faults: list[Fault]
    count: int
    """How many events the body had, good and bad."""
    bad: list[bytes] = field(default_factory=list)
    """The events that broke a rule."""


def is_plain(body: bytes) -> bool:
    """Whether a body is one event that keeps all rules and has a time, found out quickly.

    False says nothing: the event may be right all the same, and `parse_single` knows.
    """
    if not body.isascii():
        return False
    try:
        event = _decode_event(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    # The decoder lets white space stand around an event; such a one is trimmed elsewhere.
    return body[:1] == b"{" and body[-1:] == b"}" and _all_plain([event])


def _all_plain(events: Iterable[_Event]) -> bool:
    """Whether all of them keep the rules that the types do not state, and have a time."""
    good = ""
    plain_time = _PLAIN_TIME.fullmatch
    for event in events:
        source, time, schema = event.source, event.time, event.dataschema
        # Events of one request tend to have one source.
        if source != good and not _is_uri_reference(source):
            return False
        good = source
        if time is msgspec.UNSET or not plain_time(time):
            return False
        if schema is not msgspec.UNSET and schema is not None:
            return False
    return True


def parse_single(body: bytes, stamp: Callable[[], str]) -> Parsed:
    """Read a body that has to be one event.

    Args:
        stamp: gives the time of receipt, RFC 3339, for events that carry none.
    """
    wrong = _not_text(body)
    if wrong:
        return wrong
    if not body.lstrip(_WHITE).startswith(b"{"):
        return _whole("the body is not a JSON object; one event is expected")
    return _check_all([body.strip(_WHITE)], stamp, single=True)


def parse_array(body: bytes, stamp: Callable[[], str]) -> Parsed:
    """Read a body that has to be an array of events; an empty one is an array as well."""
    wrong = _not_text(body)
    if wrong:
        return wrong
    if body.count(b",") > _MANY:
        # As many values may be tiny and wrong, and cost far more memory than the body has bytes.
        try:
            _decode_events(body)
        except (msgspec.DecodeError, RecursionError):
            return _whole(
                "some event breaks the rules, and there is too much to say which; split it"
            )
    try:
        parts = _decode_array(body)
    except msgspec.ValidationError:
        return _whole("the body is not a JSON array; an array of events is expected")
    except msgspec.DecodeError as error:
        return _whole(f"the body is not JSON: {_reason(error)}")
    except RecursionError:
        return _whole("the body is nested too deeply")
    events = [bytes(part).strip(_WHITE) for part in parts]
    with suppress(msgspec.DecodeError, RecursionError):  # said in full below
        if _all_plain(_decode_events(body)):
            return Parsed(events, [], len(events))
    return _check_all(events, stamp, single=False)


def _not_text(body: bytes) -> Parsed | None:
    # The decoder skips over `data` without looking at its encoding; the receiver would not.
    if body.isascii():
        return None
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return _whole(f"the body is not UTF-8 (byte {error.start})")
    return None


def _whole(text: str) -> Parsed:
    return Parsed([], [Fault(None, "", text)], 0)


def _check_all(parts: Sequence[bytes], stamp: Callable[[], str], *, single: bool) -> Parsed:
    events: list[bytes] = []
    faults: list[Fault] = []
    bad: list[bytes] = []
    for index, part in enumerate(parts):
        event = None
        with suppress(msgspec.DecodeError, RecursionError):  # said in full below
            event = _decode_event(part)
        if event is None or not _is_clean(event):
            found = _faults(part)
            if found:
                faults += [Fault(index, name, text, single) for name, text in found]
                bad.append(part)
                if len(faults) > _MOST_FAULTS:
                    rest = "there are more faults than are listed; the rest was not looked at"
                    return Parsed([], [*faults, Fault(None, "", rest)], len(parts), list(parts))
                continue
            # The fast path is stricter with times (leap seconds, ends of months); the rules decide.
            events.append(_stamped(part, stamp) if _has_no_time(part) else part)
        elif event.time is msgspec.UNSET or event.time == _NULL:
            events.append(_stamped(part, stamp))
        else:
            events.append(part)
    return Parsed(events, faults, len(parts), bad)


def _is_clean(event: _Event) -> bool:
    """The rules that the decoder's types do not state."""
    if not _is_uri_reference(event.source):
        return False
    time = event.time
    if isinstance(time, msgspec.Raw) and time != _NULL and not _PLAIN_TIME.fullmatch(time):
        return False
    schema = event.dataschema
    return schema is None or schema is msgspec.UNSET or _is_uri(str(schema))


def _is_uri_reference(text: str) -> bool:
    # Only short ones are remembered, or strangers decide how much memory that takes.
    return _known_reference(text) if len(text) <= 256 else _matches_reference(text)


@lru_cache(maxsize=4096)
def _known_reference(text: str) -> bool:
    return _matches_reference(text)


def _matches_reference(text: str) -> bool:
    return _URI.fullmatch(text) is not None and text.count("#") <= 1


def _is_uri(text: str) -> bool:
    return _SCHEME.match(text) is not None and _is_uri_reference(text)


def _stamped(part: bytes, stamp: Callable[[], str]) -> bytes:
    """The event with the time of receipt. Everything else keeps its bytes."""
    fields = _decode_fields(part)
    if "time" not in fields:
        return part[:-1] + b',"time":"' + stamp().encode() + b'"}'
    fields["time"] = msgspec.Raw(b'"' + stamp().encode() + b'"')
    return _encode(fields)


def _has_no_time(part: bytes) -> bool:
    time = _decode_fields(part).get("time")
    return time is None or time == _NULL


# ---- saying what is wrong -----------------------------------------------------------------


def _faults(part: bytes) -> list[tuple[str, str]]:
    """Everything that is wrong with one event, in the order of the rules; empty when it is right."""
    try:
        event = msgspec.json.decode(part)
    except msgspec.DecodeError as error:
        return [("", f"is not JSON: {_reason(error)}")]
    except RecursionError:
        return [("", "is nested too deeply")]
    if not isinstance(event, dict):
        return [("", f"is {_kind(event)}; an object is expected")]
    found = [(name, "is missing; it is required") for name in _REQUIRED if name not in event]
    for name, check in _CHECKS.items():
        text = check(event[name]) if name in event else None
        if text:
            found.append((name, text))
    return found


def _required_text(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"is {_kind(value)}; a string is expected"
    return None if value else "is empty; at least one character is expected"


def _optional_text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        return f"is {_kind(value)}; a string or null is expected"
    return None if value else "is empty; at least one character, or null, is expected"


def _source(value: Any) -> str | None:
    wrong = _required_text(value)
    if wrong or _is_uri_reference(value):
        return wrong
    return f"{_shown(value)} is not a URI reference; escape what RFC 3986 does not allow"


def _dataschema(value: Any) -> str | None:
    wrong = _optional_text(value)
    if wrong or value is None or _is_uri(value):
        return wrong
    return f"{_shown(value)} is not an absolute URI; write one such as https://example.com/schema"


def _time(value: Any) -> str | None:
    wrong = _optional_text(value)
    if wrong or value is None or is_rfc3339(value):
        return wrong
    return f"{_shown(value)} is not an RFC 3339 time; write one such as 2026-02-01T16:41:37Z"


def _data(value: Any) -> str | None:
    if value is None or isinstance(value, dict):
        return None
    return f"is {_kind(value)}; an object or null is expected"


_CHECKS: Final[Mapping[str, Callable[[Any], str | None]]] = {
    "id": _required_text,
    "source": _source,
    "specversion": _required_text,
    "type": _required_text,
    "subject": _optional_text,
    "time": _time,
    "datacontenttype": _optional_text,
    "dataschema": _dataschema,
    "data": _data,
    "data_base64": _optional_text,
}


def is_rfc3339(text: str) -> bool:
    """Whether a time keeps RFC 3339, leap seconds included."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return False
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    zone_hour, zone_minute = int(match[7] or 0), int(match[8] or 0)
    if second > 60 or zone_hour > 23 or zone_minute > 59:
        return False
    try:
        datetime(year, month, day, hour, minute, min(second, 59))  # noqa: DTZ001 - only a check
    except ValueError:
        return False
    return True


def _kind(value: Any) -> str:
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
    }
    return "null" if value is None else names.get(type(value), "an object")


def _shown(value: str) -> str:
    return repr(value if len(value) <= 80 else value[:77] + "...")


def _reason(error: Exception) -> str:
    return str(error).removeprefix("JSON is malformed: ").lower()

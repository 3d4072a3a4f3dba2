"""The lists of ingested events, in the shapes of v1, v2 and v3.

As in the real server: stored times have whole seconds, lists go from the newest event time to the
oldest, `to` is exclusive whatever its description says, `id` matches a part and `subject` the whole,
extensions are not kept, and a cursor is `<time>,<row>` in base64.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from openmeter_collector.testing.sandbox.rules import Refused
from openmeter_collector.testing.sandbox.store import StoredEvent

_MAXIMUM = 100
_REACH = 32 * 24 * 3600.0


def list_v1(events: Iterable[StoredEvent], query: bytes, now: float) -> bytes:
    """`GET /api/v1/events`: an array.

    Raises:
        Refused: a parameter is wrong.
    """
    given = dict(parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True))
    limit = _limit(given.get("limit"), "limit")
    since = _time(given, "from", now - _REACH + 1)
    until = _time(given, "to", None)
    received_since = _time(given, "ingestedAtFrom", None)
    received_until = _time(given, "ingestedAtTo", None)
    assert since is not None
    if since < now - _REACH:
        raise Refused(f"validate input: from date is too old: {given['from']}")
    if until is not None and until < since:
        raise Refused("validate input: to date is before from date")
    part, subject = given.get("id"), given.get("subject")
    if given.get("customerId"):
        return b"[]"  # there are no customers here
    found = [
        event
        for event in events
        if (at := _seconds(event.time)) >= int(since)
        and (until is None or at < int(until))
        and (received_since is None or event.received_at >= int(received_since))
        and (received_until is None or event.received_at < int(received_until))
        and (part is None or part in event.id)
        and (subject is None or subject == event.subject)
    ]
    found.sort(key=_newest_first)
    return msgspec.json.encode([_ingested(event) for event in found[:limit]])


def list_v2(events: Iterable[StoredEvent], query: bytes) -> bytes:
    """`GET /api/v2/events`: a page, and the cursor of the next when this one is full.

    Raises:
        Refused: a parameter is wrong.
    """
    given = dict(parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True))
    limit = _limit(given.get("limit"), "limit")
    try:
        wanted = msgspec.json.decode(given.get("filter") or "{}", type=dict[str, dict[str, Any]])
    except msgspec.DecodeError as error:
        raise Refused(f'parameter "filter" in query has an error: {error}') from None
    accepts = [_accepts(key, condition) for key, condition in wanted.items() if condition]
    found = [event for event in events if all(test(event) for test in accepts)]
    page, following = _page(found, given.get("cursor"), limit)
    answer: dict[str, Any] = {"items": [_ingested(event) for event in page]}
    if following is not None:
        answer["nextCursor"] = following
    return msgspec.json.encode(answer)


def list_v3(events: Iterable[StoredEvent], query: bytes) -> bytes:
    """`GET /api/v3/openmeter/events`: data and page; filters `filter[field][operator]`.

    Raises:
        Refused: a parameter is wrong.
    """
    given = dict(parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True))
    limit = _limit(given.get("page[size]"), "page[size]", 20)
    accepts = []
    for key, value in given.items():
        match = re.fullmatch(r"filter\[(\w+)\](?:\[(\w+)\])?", key)
        if match:
            name = {"ingested_at": "ingestedAt", "stored_at": "storedAt"}.get(match[1], match[1])
            accepts.append(_accepts(name, {f"${match[2] or 'eq'}": value}))
    found = [event for event in events if all(test(event) for test in accepts)]
    page, following = _page(found, given.get("page[after]"), limit)
    meta: dict[str, Any] = {"next": following, "previous": None, "size": limit}
    if page:
        meta = {"first": _cursor(page[0]), "last": _cursor(page[-1]), **meta}
    data = [
        {
            "event": _cloud_event(event),
            "ingested_at": _instant(event.received_at),
            "stored_at": _instant(event.received_at),
        }
        for event in page
    ]
    return msgspec.json.encode({"data": data, "meta": {"page": meta}})


def _page(
    found: list[StoredEvent], cursor: str | None, limit: int
) -> tuple[list[StoredEvent], str | None]:
    found.sort(key=_newest_first)
    if cursor:
        start = _read_cursor(cursor)
        found = [event for event in found if _newest_first(event) > start]
    page = found[:limit]
    return page, _cursor(page[-1]) if len(page) == limit else None


def _newest_first(event: StoredEvent) -> tuple[int, int]:
    return -_seconds(event.time), -event.number


def _cursor(event: StoredEvent) -> str:
    return b64encode(f"{_whole(event.time)},{event.number:026}".encode()).decode()


def _read_cursor(text: str) -> tuple[int, int]:
    try:
        at, _, row = b64decode(text, validate=True).decode().partition(",")
        return -_seconds(at), -int(row)
    except (Base64Error, ValueError) as error:
        raise Refused(f"decode cursor: {error}") from None


def _ingested(event: StoredEvent) -> dict[str, Any]:
    received = _instant(event.received_at)
    return {"event": _cloud_event(event), "ingestedAt": received, "storedAt": received}


def _cloud_event(event: StoredEvent) -> dict[str, Any]:
    data = msgspec.json.decode(event.raw, type=dict[str, msgspec.Raw]).get("data")
    listed: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": _whole(event.time),
    }
    if data is not None and bytes(data) != b"null":
        listed |= {"datacontenttype": "application/json", "data": data}
    return listed


def _accepts(key: str, condition: Mapping[str, Any]) -> Callable[[StoredEvent], bool]:
    fields: dict[str, Callable[[StoredEvent], Any]] = {
        "id": lambda event: event.id,
        "source": lambda event: event.source,
        "subject": lambda event: event.subject,
        "type": lambda event: event.type,
        "time": lambda event: _seconds(event.time),
        "ingestedAt": lambda event: int(event.received_at),
        "storedAt": lambda event: int(event.received_at),
    }
    if key in ("customerId", "customer_id"):
        return lambda _: False
    if key not in fields:
        raise Refused(f'parameter "filter" in query has an error: property "{key}" is unsupported')
    read = fields[key]
    is_time = key in ("time", "ingestedAt", "storedAt")
    tests = [_test(operator, value, is_time=is_time) for operator, value in condition.items()]
    return lambda event: all(test(read(event)) for test in tests)


def _test(operator: str, value: Any, *, is_time: bool) -> Callable[[Any], bool]:
    if operator in ("$and", "$or"):
        inner = [
            [_test(name, wanted, is_time=is_time) for name, wanted in condition.items()]
            for condition in value
        ]
        join = all if operator == "$and" else any
        return lambda found: join(all(test(found) for test in tests) for tests in inner)
    if operator in ("$like", "$nlike", "$ilike", "$nilike"):
        flags = re.IGNORECASE | re.DOTALL if "i" in operator.replace("like", "") else re.DOTALL
        pattern = re.compile(_like(str(value)), flags)
        negated = operator.startswith("$n")
        return lambda found: (pattern.fullmatch(found) is None) == negated
    if operator in ("$in", "$nin"):
        return lambda found: (found in value) == (operator == "$in")
    bound = _parse_time(str(value), "filter") if is_time else value
    tests: dict[str, Callable[[Any], bool]] = {
        "$eq": lambda found: found == bound,
        "$ne": lambda found: found != bound,
        "$gt": lambda found: found > bound,
        "$gte": lambda found: found >= bound,
        "$lt": lambda found: found < bound,
        "$lte": lambda found: found <= bound,
    }
    if operator not in tests:
        raise Refused(f'parameter "filter" in query has an error: "{operator}" is unsupported')
    return tests[operator]


def _like(text: str) -> str:
    return "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in text)


def _limit(text: str | None, name: str, default: int = _MAXIMUM) -> int:
    if text is None:
        return default
    try:
        limit = int(text)
    except ValueError:
        raise Refused(
            f'parameter "{name}" in query has an error: value {text}: an invalid integer'
        ) from None
    if limit < 1:
        raise Refused(f'parameter "{name}" in query has an error: number must be at least 1')
    if limit > _MAXIMUM:
        raise Refused(f'parameter "{name}" in query has an error: number must be at most 100')
    return limit


def _time(given: Mapping[str, str], key: str, default: float | None) -> float | None:
    return default if key not in given else _parse_time(given[key], key)


def _parse_time(text: str, key: str) -> float:
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # a bare + in a query is a space
    except ValueError:
        raise Refused(
            f'parameter "{key}" in query has an error: string doesn\'t match the format "date-time"'
        ) from None
    return at.timestamp() if at.tzinfo else at.replace(tzinfo=UTC).timestamp()


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() // 1)


def _whole(text: str) -> str:
    at = datetime.fromisoformat(text).astimezone(UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"


def _instant(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}Z"

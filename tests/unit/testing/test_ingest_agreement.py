"""Where our ingest and OpenMeter's disagree about an event.

What we take and OpenMeter refuses was acknowledged and ends as a dead letter; what we refuse and
OpenMeter takes is a sender that works without us and not with us. Each difference is listed here,
so that it is a decision; a new one fails, and so does one that is gone.
"""

import json

import pytest

from openmeter_collector.testing.sandbox.rules import SINGLE, Refused, read_events
from openmeter_collector.values.cloudevent import parse_single

GOOD = {"specversion": "1.0", "id": "1", "source": "svc", "type": "request", "subject": "c-1"}
TAKEN_AND_THEN_DEAD = {
    ("specversion", "2.0"),
    ("source", ":a"),
    ("source", "1a:b"),
    ("source", "http://host:port/"),
    ("source", "http://[::1/"),
    ("subject", None),
    ("datacontenttype", "text/plain"),
    ("time", "2026-01-01t00:00:00z"),
    ("time", "2026-01-01T23:59:60Z"),
    ("my_extension", "x"),
    ("Source", "x"),
    ("extension", '{"a": 1}'),
    ("extension", "[1]"),
    ("extension", 2**31),
}
REFUSED_THOUGH_FINE = {
    ("source", "a b"),
    ("source", "größe"),
    ("dataschema", "no-uri"),
    ("data_base64", ""),
}
AGREED = {
    *((key, "") for key in ("id", "source", "type", "subject", "specversion", "dataschema")),
    *((key, None) for key in ("id", "source", "type", "specversion", "time", "data")),
    *((key, 7) for key in ("id", "source", "type", "subject", "specversion", "time", "data")),
    ("specversion", "0.3"),
    ("source", "https://example.com/a?b=c#d"),
    ("source", "urn:uuid:1"),
    ("source", "%zz"),
    ("source", "a\nb"),
    ("time", "2026-01-01T00:00:00.123456789+02:00"),
    ("time", "2026-02-30T00:00:00Z"),
    ("time", "2026-01-01"),
    ("time", "2026-01-01 00:00:00Z"),
    ("data", "[1]"),
    ("data", '{"a": 1}'),
    ("datacontenttype", "application/json"),
    ("dataschema", "https://example.com/schema"),
    ("extension", "x"),
    ("extension", True),
    ("extension", None),
    ("extension", 7),
}


def verdicts(key, value):
    if isinstance(value, str) and value[:1] in ("{", "["):
        value = json.loads(value)
    body = json.dumps({**GOOD, key: value}).encode()
    ours = parse_single(body, lambda: "2026-01-01T00:00:00Z")
    try:
        read_events(ours.events[0] if ours.events else body, SINGLE, raws=False)
    except Refused:
        return not ours.faults, False
    return not ours.faults, True


@pytest.mark.parametrize(("key", "value"), sorted(TAKEN_AND_THEN_DEAD, key=str))
def test_taken_by_us_and_refused_by_openmeter(key, value):
    assert verdicts(key, value) == (True, False)


@pytest.mark.parametrize(("key", "value"), sorted(REFUSED_THOUGH_FINE, key=str))
def test_refused_by_us_and_taken_by_openmeter(key, value):
    assert verdicts(key, value) == (False, True)


@pytest.mark.parametrize(("key", "value"), sorted(AGREED, key=str))
def test_both_say_the_same(key, value):
    ours, theirs = verdicts(key, value)
    assert ours == theirs

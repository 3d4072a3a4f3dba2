"""The rules of the real ingest API, each with the answer it gives."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmeter_collector.testing.sandbox.rules import (
    BATCH,
    JSON,
    SINGLE,
    Refused,
    is_uri_reference,
    media_type,
    read_events,
    reader_fault,
    schema_fault,
    seen_in,
)

GOOD = {"specversion": "1.0", "id": "1", "source": "svc", "type": "request", "subject": "c-1"}


def event(**changes):
    return {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}


def refusal(body, kind=SINGLE):
    with pytest.raises(Refused) as caught:
        read_events(json.dumps(body).encode(), kind, raws=True)
    return str(caught.value)


@pytest.mark.parametrize("kind", [SINGLE, BATCH, JSON])
def test_the_three_content_types_are_known(kind):
    assert media_type(kind, exact=True) == kind


def test_v1_compares_content_types_as_exact_strings():
    with pytest.raises(Refused, match=r"^invalid content type: application/json; charset=utf-8$"):
        media_type("application/json; charset=utf-8", exact=True)


def test_v3_reads_content_type_parameters():
    assert media_type("application/json; charset=utf-8", exact=False) == JSON


@pytest.mark.parametrize("kind", ["", "text/plain", "application/xml; charset=utf-8"])
@pytest.mark.parametrize("exact", [True, False])
def test_other_content_types_are_refused(kind, exact):
    with pytest.raises(Refused) as caught:
        media_type(kind, exact=exact)
    assert str(caught.value) == (
        f'request body has an error: header Content-Type has unexpected value "{kind}"'
    )


def test_exact_bytes_of_each_event_are_given_back():
    first = (
        b'{ "specversion":"1.0", "id":"1","source":"s","type":"t","subject":"c","data":{"n":1.0}}'
    )
    second = first.replace(b'"id":"1"', b'"id":"2"').replace(b"1.0}", b'1e2,\n\t"x": [ ] }')
    events, raws = read_events(b" [ " + first + b" ,\n" + second + b" ] ", BATCH, raws=True)
    assert [e.id for e in events] == ["1", "2"]
    assert list(raws) == [first, second]


def test_exact_bytes_of_a_bare_event_are_given_back():
    body = b' {"specversion":"1.0","id":"1","source":"s","type":"t","subject":"c"} \n'
    assert read_events(body, SINGLE, raws=True)[1] == [body.strip()]


def test_json_takes_one_event_or_several():
    assert len(read_events(json.dumps(event()).encode(), JSON, raws=False)[0]) == 1
    assert len(read_events(json.dumps([event(), event()]).encode(), JSON, raws=False)[0]) == 2


def test_an_empty_array_is_fine_as_a_batch_and_nothing_as_json():
    assert read_events(b"[]", BATCH, raws=True) == ([], [])
    assert refusal([], JSON) == "invalid event: no events found"


def test_an_empty_body_is_missing():
    with pytest.raises(Refused, match="value is required but missing"):
        read_events(b"", SINGLE, raws=True)


def test_the_kind_of_body_must_fit_the_content_type():
    assert "value must be an object" in refusal([event()], SINGLE)
    assert "value must be an array" in refusal(event(), BATCH)


@pytest.mark.parametrize("body", [b"{", b"nonsense", b'[{"id":}]', b'{"a":"\xff"}', b"\xff"])
@pytest.mark.parametrize("kind", [SINGLE, BATCH, JSON])
def test_what_is_not_json_is_refused(body, kind):
    with pytest.raises(Refused, match="request body has an error"):
        read_events(body, kind, raws=True)


@pytest.mark.parametrize("key", ["id", "source", "specversion", "type", "subject"])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (..., 'property "{key}" is missing'),
        (None, "Value is not nullable"),
        ("", "minimum string length is 1"),
        (7, "value must be a string"),
    ],
)
def test_required_attributes(key, value, text):
    wrong = event(**{key: value})
    expected = f'request body has an error: doesn\'t match schema: Error at "{{}}/{key}": '
    expected += text.format(key=key)
    assert refusal(wrong) == expected.format("")
    assert refusal([event(), event(), wrong], BATCH) == expected.format("/2")
    assert refusal([event(), wrong], JSON) == expected.format("/1")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"datacontenttype": "text/plain"}, '/datacontenttype": value is not one of'),
        ({"time": "2026-01-01"}, 'string doesn\'t match the format "date-time"'),
        ({"time": "2026-01-01 00:00:00Z"}, 'format "date-time"'),
        ({"time": "2026-01-01T00:00:00"}, 'format "date-time"'),
        ({"time": "2026-13-01T00:00:00Z"}, 'format "date-time"'),
        ({"time": 1}, '/time": value must be a string'),
        ({"time": "2026-02-30T00:00:00Z"}, "not in RFC3339 format"),
        ({"time": "2026-01-01T23:59:60Z"}, "not in RFC3339 format"),
        ({"data": [1]}, '/data": value must be an object'),
        ({"data": "text"}, '/data": value must be an object'),
        ({"data": 3}, '/data": value must be an object'),
        ({"dataschema": ""}, '/dataschema": minimum string length is 1'),
        ({"specversion": "2.0"}, "specversion: unknown value: 2.0"),
        ({"source": "%zz"}, "cannot parse uri ref: %zz"),
        ({"source": ":a"}, "cannot parse uri ref: :a"),
        ({"my_ext": "x"}, "bad key, CloudEvents attribute names MUST consist of"),
        ({"myext": {"a": 1}}, "invalid CloudEvents value"),
        ({"myext": [1]}, "invalid CloudEvents value"),
        ({"myext": 2**31}, "out of range"),
        ({"data_base64": "%"}, "illegal base64 data"),
        ({"data_base64": 7}, "illegal base64 data"),
        ({"Source": "x"}, "MUST NOT be overwritten by extension"),
    ],
)
def test_other_rules(changes, text):
    wrong = event(**changes)
    assert text in refusal(wrong)
    assert text in refusal([event(), wrong], BATCH)


def test_faults_behind_the_schema_have_no_text_with_application_json():
    """The real server tries the body as one event and as several, and keeps neither error."""
    assert refusal(event(specversion="2.0"), JSON) == "invalid event: no events found"


@pytest.mark.parametrize(
    "changes",
    [
        {"time": None},
        {"time": "2026-01-01T00:00:00.123456789+02:00"},
        {"data": None},
        {"data": {"deep": [{"er": 1}]}},
        {"datacontenttype": None},
        {"datacontenttype": "application/json"},
        {"dataschema": None},
        {"dataschema": "https://example.com/schema"},
        {"specversion": "0.3"},
        {"data_base64": "aGk="},
        {"data_base64": None},
        {"source": "https://example.com/a b?q=%zz"},
        {"source": "größe"},
        {"traceparent": "00-abc", "sampled": True, "number": 7, "nothing": None},
    ],
)
def test_what_the_real_server_takes(changes):
    assert read_events(json.dumps(event(**changes)).encode(), SINGLE, raws=False)[0][0].id == "1"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("svc", True),
        ("/a/b", True),
        ("https://example.com:8080/a?b=c#d", True),
        ("urn:uuid:1-2-3", True),
        ("//host/path", True),
        ("http://[::1]:80/", True),
        ("a b", True),
        ("a/b:c", True),
        ("1a:b", False),
        ("a b:c", False),
        (":", False),
        ("a\nb", False),
        ("a\x7f", False),
        ("a%2", False),
        ("urn:b/c%zz", True),
        ("a%2fb", True),
        ("http://host:port/", False),
        ("#%zz", False),
        ("?%zz", True),
    ],
)
def test_uri_references_as_go_reads_them(text, good):
    assert is_uri_reference(text) is good


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text("a1:% é\n", max_size=5),
    st.sampled_from(["1.0", "application/json", "2026-01-01T00:00:00Z", "http://a/b", "%zz"]),
    st.dictionaries(st.text("ab", max_size=3), st.integers(), max_size=2),
    st.lists(st.integers(), max_size=2),
)
names = st.sampled_from([*GOOD, "time", "data", "datacontenttype", "dataschema", "ext", "my_ext"])


@given(st.dictionaries(names, odd, max_size=4), st.sets(names, max_size=1))
def test_the_compiled_decoder_takes_exactly_what_the_plain_rules_take(changes, missing):
    candidate = {k: v for k, v in {**GOOD, **changes}.items() if k not in missing}
    plain = schema_fault(candidate) or reader_fault(candidate)
    try:
        read_events(json.dumps(candidate).encode(), SINGLE, raws=True)
    except Refused:
        assert plain is not None
    else:
        assert plain is None


def test_identities_can_be_seen_in_what_is_not_valid():
    body = b'[{"id":"1","source":"s"},{"id":2},"x"]'
    assert seen_in(body) == [{"id": "1", "source": "s"}, {}]
    assert seen_in(b"{") == []

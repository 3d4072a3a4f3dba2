"""JSON with the engine's fidelity."""

import pytest

from openmeter_collector.values import json as value_json
from openmeter_collector.values.kinds import Float64, Int64, SourceNumber
from openmeter_collector.values.timestamp import Timestamp


@pytest.mark.parametrize(
    "text",
    [
        b"1.0", b"1.10", b"1e3", b"-0", b"-0.0", b"1E400", b"0.00001", b"123456789012345678901234567890",
        b"12345678901234567.5", b'[1,2.5,{"a":-0}]', b'"\\u2028"',
    ],
)  # fmt: skip
def test_numbers_and_text_come_out_as_they_went_in(text):
    assert value_json.dumps(value_json.loads(text)) == text


def test_common_numbers_are_plain_and_only_odd_ones_are_not():
    assert [type(one) for one in value_json.loads(b"[5,2.5,1.0,2.50,5e1]")] == [
        int, float, float, SourceNumber, SourceNumber,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Float64(3.0), b"3"), (Float64(0.1), b"0.1"), (Float64(1e20), b"100000000000000000000"),
        (Float64(1e21), b"1e+21"), (Float64(1e-6), b"0.000001"), (Float64(9e-7), b"9e-7"),
        (Float64(-0.0), b"-0"), (Int64(5), b"5"), (Float64(123456789012345680), b"123456789012345680"),
    ],
)  # fmt: skip
def test_computed_numbers(number, text):
    assert value_json.dumps([number]) == b"[" + text + b"]"
    assert value_json.json_exact.dumps([number]) == b"[" + text + b"]"


def test_keys_are_sorted_by_their_bytes_and_html_is_left_alone():
    assert value_json.dumps({"b": 1, "Z": "<&>", "é": 2}) == '{"Z":"<&>","b":1,"é":2}'.encode()


def test_bytes_times_and_broken_text():
    value = {"a": b"a", "b": Timestamp(1_500_000_000), "c": "x\udcff"}
    assert value_json.dumps(value) == b'{"a":"YQ==","b":"1970-01-01T00:00:01.5Z","c":"x\\ufffd"}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "unexpected end of JSON input"),
        (b"not", "invalid character 'o' in literal null (expecting 'u')"),
        (b"{a}", "invalid character 'a' looking for beginning of object key string"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"1 2", "message contains multiple valid documents"),
        (b'{"a":', "unexpected EOF"),
        (b"[01]", "invalid character '1' after array element"),
        (b'"\x01"', "invalid character '\\x01' in string literal"),
    ],
)
def test_what_is_no_document_says_why(text, message):
    with pytest.raises(value_json.JSONError) as caught:
        value_json.loads(text)
    assert str(caught.value) == message


def test_lenient_where_the_engine_is():
    assert value_json.loads(b'"\\ud800 \xff"') == "\ufffd \ufffd"
    assert value_json.loads(b'{"a":1,"a":2}') == {"a": 2}


def test_deep_documents_do_not_crash():
    deep = b"[" * 5000 + b"]" * 5000
    value = value_json.loads(deep)
    with pytest.raises(value_json.EncodeError, match="too deeply"):
        value_json.dumps(value)
    with pytest.raises(value_json.JSONError, match="exceeded max depth"):
        value_json.loads(b"[" * 20_000)


@pytest.mark.parametrize("value", [Float64("nan"), Float64("inf"), {1: 2}, {"a": object()}])
def test_what_has_no_json_form_is_an_error(value):
    with pytest.raises(value_json.EncodeError):
        value_json.dumps([value])


def test_ids_and_dates_do_not_look_like_minus_zero(monkeypatch):
    def slow(_):
        raise AssertionError("took the slow way")

    monkeypatch.setattr(value_json.json_exact, "loads", slow)
    assert value_json.loads(b'{"id":"8d3a-0d7f-0","at":"2024-05-01","n":-0.5}')["n"] == -0.5

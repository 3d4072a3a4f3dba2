"""The language case by case, where it is easily got wrong: results and error texts to the letter."""

import json

import pytest

from openmeter_collector.bloblang import MappingError, MappingFailed, SimpleDocument, compile
from openmeter_collector.values import json as value_json

FAILED = "failed assignment (line 1): "


def outcome(mapping, given="{}"):
    """What a mapping writes, or the text of what goes wrong."""
    try:
        body, _ = compile(mapping).run([SimpleDocument(given.encode())], 0)
    except MappingError as error:
        return error.diagnostics[0].one_line()
    except MappingFailed as failed:
        return str(failed).removeprefix(FAILED)
    return (body if isinstance(body, bytes) else value_json.dumps(body)).decode()


@pytest.mark.parametrize(
    ("mapping", "wanted"),
    [
        # Instructions lose their target inside a structure.
        ("root = [1].append(deleted())", "[1,null]"),
        ("root = nothing().array().string()", "[null]"),
        ("root = deleted().array().format_yaml()", "- null\n"),
        # The first integers that do not fit are said to, not wrapped.
        ("root = 9223372036854774784.0.int64()", "9223372036854774784"),
        ("root = 18446744073709549568.0.uint64()", "18446744073709549568"),
        # Times by a layout: days of one digit, skipped hours, fractions of months.
        ('root = "Oct  4 23:43:32".ts_parse("Jan _2 15:04:05")', '"0000-10-04T23:43:32Z"'),
        ('root = "2021  80".ts_parse("2006 __2")', '"2021-03-21T00:00:00Z"'),
        (
            'root = "2020-03-28T02:30:00+01:00".ts_tz("Europe/Berlin").ts_add_iso8601("P1D")',
            '"2020-03-29T03:30:00+02:00"',
        ),
        (
            'root = "2020-01-31T10:00:00Z".ts_add_iso8601("P1.5M")',
            '"2020-03-17T01:43:39Z"',
        ),
        ('root = "2024 10 3".ts_strptime("%Y %U %w")', '"2024-03-13T00:00:00Z"'),
        ('root = "2024-W10-3".ts_strptime("%G-W%V-%u")', '"2024-03-06T00:00:00Z"'),
        ('root = "+05:30".ts_strptime("%:z")', '"1900-01-01T00:00:00+05:30"'),
        ('root = "1600000000".ts_strptime("%s")', '"2020-09-13T12:26:40Z"'),
        # What a structure is written as.
        ('root = [[1 + 0, "a"], [{"k": true}]].format_yaml()', "- - 1\n  - a\n- - k: true\n"),
        ('root = {"l": [{"d": 2 + 0}]}.format_yaml()', "l:\n    - d: 2\n"),
        ('root = {"a.b": {"c": 1}}.collapse()', '{"a.b.c":1}'),
        ('root = {"a": 1}.with("a.b")', '{"a":1}'),
        (
            'root = [1, 2.5].format_msgpack().encode("hex")',
            "92d30000000000000001cb4004000000000000",
        ),
        ('root = "foo".parse_msgpack()', "102"),
        ("root = [[1, 2, 3].diff([3, 2, 4]).length(), [1, 2].diff([2, 1]).length()]", "[2,0]"),
        ('root = {"x": 1}.patch([{"type": "update", "path": ["x"], "to": 2}])', '{"x":2}'),
        # Text.
        ('root = "a,b;c".unicode_segments("word")', '["a",",","b",";","c"]'),
        ('root = "AT&T @ home".slug()', "atandt-at-home"),
        ('root = "a & b <i>c</i>".strip_html()', "a &amp; b c"),
        ('root = "true".decode("ascii85").encode("hex")', "053f67"),
        ('root = "foo".bytes().re_replace_all("o", "0")', "f00"),
        ('root = "foo".bloblang("root = this.uppercase()")', "FOO"),
        ("root = 3.0.log10()", "0.4771212547196624"),
        ("root = 9007199254740993.sin()", "-0.8489259648146551"),
    ],
)
def test_results(mapping, wanted):
    assert outcome(mapping) == wanted


@pytest.mark.parametrize(
    ("mapping", "given", "wanted"),
    [
        (
            'root = this.v.get("a").uppercase()',
            '{"v":{"a":1}}',
            "expected string value, got number from field `this.v.a` (1)",
        ),
        (
            'root = {"a": 1}.get("a").uppercase()',
            "{}",
            "expected string value, got number from path `a` (1)",
        ),
        (
            'root = this.v.get("a").b',
            "no json",
            (
                "unable to reference message as structured (with 'this.v.a.b'): "
                "parse as json: invalid character 'o' in literal null (expecting 'u')"
            ),
        ),
        ("root = this.v.concat(5)", "{}", "line 1 char 24: expected array value, got number (5)"),
        (
            "root = this.v.repeat(-1)",
            "{}",
            "line 1 char 25: invalid count, must be greater than or equal to zero: -1",
        ),
        (
            'root = this.v.ts_add_iso8601("x")',
            "{}",
            "line 1 char 34: x: expected 'P' period mark at the start",
        ),
        (
            'root = "2020-01-01".ts_parse("2006-01-02Z00")',
            "{}",
            'line 1 char 46: parsing time "2020-01-01" as "2006-01-02Z00": cannot parse "" as "Z00"',
        ),
        (
            'root = {"x": json("id")}.from_all()',
            "no json",
            "failed to resolve 'x' value: invalid character 'o' in literal null (expecting 'u')",
        ),
        ('root = json("a").from(7)', "{}", "target message part does not exist"),
        (
            'root = "\\xff".all(x -> x)',
            "{}",
            'expected array value, got string from string literal ("\ufffd")',
        ),
        ("root = 2.5.float32().float32()", "{}", "expected number value, got number (2.5)"),
        (
            "root = 9223372036854775807.0.int64()",
            "{}",
            (
                "float value contains decimals and therefore cannot be cast as a signed integer, "
                "if you intend to round the value then call `.round()` explicitly before this cast"
            ),
        ),
    ],
)
def test_error_texts(mapping, given, wanted):
    assert outcome(mapping, given) == wanted


@pytest.mark.parametrize(
    "mapping",
    [
        'root.a = "NaN".number().float32()',
        'root.a = ["NaN".number()].string()',
        "root.a = 9007199254740993.timestamp()",
        "root.a = 123456789012345678901234567890.0.ts_unix()",
        "root.a = 9223372036854775807 + 1",
    ],
)
def test_what_cannot_be_written_is_an_error_and_never_an_empty_message(mapping):
    try:
        body, _ = compile(mapping).run([SimpleDocument(b"{}")], 0)
        with pytest.raises(value_json.EncodeError):
            value_json.dumps(body)
    except (MappingError, MappingFailed) as problem:
        assert "defect" not in str(problem)


def test_messages_of_the_batch_count_from_either_end_and_are_null_beyond_them():
    batch = [SimpleDocument(json.dumps({"n": n}).encode()) for n in range(3)]
    mapping = compile('root = [json("n").from(0), json("n").from(-1), content().from(9)]')
    assert mapping.run(batch, 1)[0] == [0, 2, None]


def test_a_literal_compared_with_another_makes_no_warning_of_python(recwarn):
    outcome('root = match 5 { "x" => 1, null => 2, _ => 3 }')
    outcome('root = "x" == null')
    assert not list(recwarn)


def test_a_schema_checks_formats_and_reaches_for_no_other_document():
    assert "format 'email'" in outcome('root = "a".json_schema("""{"format": "email"}""")')
    found = outcome('root = this.json_schema("""{"$ref": "http://127.0.0.1:1/x"}""")')
    assert "refers to another document" in found

"""Methods that read and write formats: JSON, YAML, CSV, logfmt, URLs, MessagePack, XML."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from openmeter_collector.bloblang.convert import decode, encode, get_string, text_or_bytes
from openmeter_collector.bloblang.definition import Case, method
from openmeter_collector.bloblang.failure import Fail, TypeFail
from openmeter_collector.bloblang.gotext import csv as go_csv
from openmeter_collector.bloblang.gotext import yaml as go_yaml
from openmeter_collector.bloblang.gotext.msgpack import pack
from openmeter_collector.bloblang.gotext.quote import quote
from openmeter_collector.bloblang.gotext.urls import parse_query
from openmeter_collector.bloblang.gotext.urls import parse_url as read_url
from openmeter_collector.bloblang.gotext.xml import read_xml, write_xml
from openmeter_collector.values import json as value_json
from openmeter_collector.values import json_exact
from openmeter_collector.values.kinds import (
    Float64,
    Int64,
    Value,
    is_number,
)
from openmeter_collector.values.timestamp import Timestamp


def computed(value: Value) -> Value:
    """A parsed document with its numbers as floats, not as text."""
    if type(value) is dict:
        return {key: computed(one) for key, one in value.items()}
    if type(value) is list:
        return [computed(one) for one in value]
    if value is True or value is False or not is_number(value):
        return value
    try:
        return Float64(value)
    except OverflowError:
        return Float64("inf")


@method(
    "parsing",
    cases=[Case("root.a = this.parse_json().a", '"{\\"a\\":5}"', '{"a":5}')],
    params={"use_number": "Keep the text of numbers."},
)
def parse_json(value: Value, use_number: bool | None = None) -> Value:
    """Text as a JSON document; what follows the first value is ignored."""
    raw = encode(text_or_bytes(value))
    try:
        try:
            found = value_json.loads(raw)
        except value_json.JSONError:
            found, _ = json_exact.parse_first(raw or b" ")
    except value_json.JSONError as error:
        raise Fail(f"failed to parse value as JSON: {error}") from None
    return found if use_number else computed(found)


@method(
    "parsing",
    status="beta",
    cases=[
        Case("root = this.format_json()", '{"a":[1]}', '{\n    "a": [\n        1\n    ]\n}'),
        Case("root = this.format_json(no_indent: true)", '{"a":"<"}', '{"a":"\\u003c"}'),
    ],
    params={
        "indent": "What to indent with.",
        "no_indent": "Write one line.",
        "escape_html": "Escape `<`, `>` and `&`.",
    },
)
def format_json(
    value: Value, indent: str = "    ", no_indent: bool = False, escape_html: bool = True
) -> bytes:
    """The value as JSON, as bytes."""
    try:
        out = (
            value_json.dumps(value) if no_indent or not indent else json_exact.dumps(value, indent)
        )
    except value_json.EncodeError as error:
        raise Fail(str(error)) from None
    if escape_html:
        out = out.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    return out


@method("parsing", cases=[Case("root = this.parse_yaml()", '"a: [1, x]"', '{"a":[1,"x"]}')])
def parse_yaml(value: Value) -> Value:
    """Text as a YAML document."""
    return go_yaml.load(text_or_bytes(value))


@method("parsing", cases=[Case("root = this.format_yaml()", '{"a":"b"}', "a: b\n")])
def format_yaml(value: Value) -> bytes:
    """The value as YAML, as bytes; numbers of the document come out in quotes."""
    return encode(go_yaml.dump(value))


@method(
    "parsing",
    cases=[
        Case("root = this.parse_csv()", '"a,b\\n1,2"', '[{"a":"1","b":"2"}]'),
        Case("root = this.parse_csv(parse_header_row: false)", '"a,b"', '[["a","b"]]'),
    ],
    params={
        "parse_header_row": "Whether the first row has the names of the fields.",
        "delimiter": "What stands between the fields.",
        "lazy_quotes": "Take quotes in unquoted fields, and single ones in quoted fields, as text.",
    },
)
def parse_csv(
    value: Value, parse_header_row: bool = True, delimiter: str = ",", lazy_quotes: bool = False
) -> Value:
    """Text as rows of comma separated values."""
    if len(delimiter) != 1:
        raise Fail("delimiter value must be exactly one character")
    rows = go_csv.read(text_or_bytes(value), delimiter, lazy_quotes)
    if not rows:
        raise Fail("zero records were parsed")
    if not parse_header_row:
        return rows
    header, *records = rows
    return [dict(zip(header, record, strict=True)) for record in records]


_LOGFMT_ESCAPES = {
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "b": "\b",
    "f": "\f",
    '"': '"',
    "\\": "\\",
    "/": "/",
}


@method(
    "parsing",
    cases=[
        Case(
            "root = this.parse_logfmt()",
            '"level=info msg=\\"a b\\" ok"',
            '{"level":"info","msg":"a b","ok":true}',
        )
    ],
)
def parse_logfmt(value: Value) -> Value:
    """Text of `key=value` pairs as an object; a key alone is true."""
    text = get_string(value)
    made: dict[str, Value] = {}
    pos = 0
    while pos < len(text):
        if text[pos] in " \t":
            pos += 1
            continue
        start = pos
        while pos < len(text) and text[pos] not in "= \t":
            pos += 1
        key = text[start:pos]
        if not key:
            pos += 1
        elif not text.startswith("=", pos):
            made[key] = True
        elif text.startswith('"', pos + 1):
            made[key], pos = _logfmt_quoted(text, pos + 2, key)
        else:
            start = pos = pos + 1
            while pos < len(text) and text[pos] not in " \t":
                pos += 1
            made[key] = text[start:pos]
    return made


def _logfmt_quoted(text: str, pos: int, key: str) -> tuple[str, int]:
    made: list[str] = []
    while pos < len(text) and text[pos] != '"':
        if text[pos] == "\\" and pos + 1 < len(text):
            pos += 1
            made.append(_LOGFMT_ESCAPES.get(text[pos], "\\" + text[pos]))
        else:
            made.append(text[pos])
        pos += 1
    if pos >= len(text):
        raise Fail(f"logfmt: unterminated quoted value for key {quote(key)}")
    return "".join(made), pos + 1


@method(
    "parsing", cases=[Case("root = this.parse_url().host", '"https://a.io:80/b?c=d"', "a.io:80")]
)
def parse_url(value: Value) -> Value:
    """A URL as an object of its parts."""
    return read_url(get_string(value))


@method(
    "parsing",
    plugin=True,
    cases=[
        Case("root = this.parse_form_url_encoded()", '"a=1&b=2&b=3"', '{"a":"1","b":["2","3"]}')
    ],
)
def parse_form_url_encoded(value: Value) -> Value:
    """The parameters of a form or query as an object."""
    text = get_string(value)
    try:
        found = parse_query(text)
    except Fail as fail:
        raise Fail(f"failed to parse value as url-encoded data: {fail}") from None
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


@method(
    "parsing",
    plugin=True,
    cases=[
        Case('root = this.format_msgpack().encode("hex")', '{"foo":"bar"}', "81a3666f6fa3626172")
    ],
)
def format_msgpack(value: Value) -> bytes:
    """The value as MessagePack, as bytes."""
    return pack(value)


def _unpacked(value: Any) -> Value:
    if isinstance(value, dict):
        return {key if type(key) is str else str(key): _unpacked(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_unpacked(one) for one in value]
    if type(value) is int:
        return Int64(value)
    return Float64(value) if type(value) is float else value


@method(
    "parsing",
    plugin=True,
    cases=[
        Case('root = this.decode("hex").parse_msgpack()', '"81a3666f6fa3626172"', '{"foo":"bar"}')
    ],
)
def parse_msgpack(value: Value) -> Value:
    """MessagePack as a value."""
    if not isinstance(value, (bytes, str)):
        raise TypeFail(value, "bytes")
    try:
        return _unpacked(_first_packed(value if isinstance(value, bytes) else encode(value)))
    except (msgspec.DecodeError, ValueError) as error:
        unknown = re.search(r"invalid opcode '\\x([0-9a-f]{2})'", str(error))
        if unknown:
            raise Fail(f"msgpack: unknown code {unknown[1]} decoding interface{{}}") from None
        if "truncated" in str(error):
            raise Fail("EOF") from None
        raise Fail(f"msgpack: {error}") from None


def _first_packed(raw: bytes) -> Any:
    """The first value; what follows it is ignored."""
    if not raw:
        raise Fail("EOF")
    try:
        return msgspec.msgpack.decode(raw)
    except msgspec.DecodeError as error:
        found = re.search(r"trailing characters \(byte (\d+)\)", str(error))
        if found is None:
            raise
        return msgspec.msgpack.decode(raw[: int(found[1])])


@method(
    "parsing",
    plugin=True,
    cases=[
        Case("root = this.parse_xml()", '"<a id=\\"1\\"><b>x</b></a>"', '{"a":{"-id":"1","b":"x"}}')
    ],
    params={"cast": "Turn numbers and bools of the text into such."},
)
def parse_xml(value: Value, cast: bool = False) -> Value:
    """XML as an object; attributes have a `-` before their names."""
    if not isinstance(value, (str, bytes, Timestamp)):
        raise TypeFail(value, "bytes")
    return read_xml(decode(value) if isinstance(value, bytes) else get_string(value), cast=cast)


@method(
    "parsing",
    plugin=True,
    cases=[Case("root = this.format_xml(no_indent: true)", '{"a":{"b":"x"}}', "<a><b>x</b></a>")],
    params={
        "indent": "What to indent with.",
        "no_indent": "Write one line.",
        "root_tag": "The name of the outermost element.",
    },
)
def format_xml(
    value: Value, indent: str = "    ", no_indent: bool = False, root_tag: str | None = None
) -> bytes:
    """An object as XML, as bytes."""
    if type(value) is not dict:
        raise TypeFail(value, "object")
    return encode(write_xml(value, None if no_indent else indent, root_tag))


ENTRIES = (
    parse_json,
    format_json,
    parse_yaml,
    format_yaml,
    parse_csv,
    parse_logfmt,
    parse_url,
    parse_form_url_encoded,
    format_msgpack,
    parse_msgpack,
    parse_xml,
    format_xml,
)

"""Methods of text: case, trimming, searching, replacing."""

from __future__ import annotations

import re
from typing import Any

from openmeter_collector.bloblang.compare import equal
from openmeter_collector.bloblang.convert import (
    decode,
    encode,
    get_string,
    text_or_bytes,
    to_bytes,
    to_string,
)
from openmeter_collector.bloblang.definition import Case, method
from openmeter_collector.bloblang.failure import Fail, TypeFail
from openmeter_collector.bloblang.gotext.quote import quote as quoted
from openmeter_collector.bloblang.gotext.sprintf import sprintf
from openmeter_collector.bloblang.lexer import unescape
from openmeter_collector.values.kinds import Int64, Value

MAX_TEXT = 64 * 1024 * 1024
"""The longest text a method makes out of a shorter one, in bytes."""


def like(value: Value, text: str) -> Value:
    """A result of the same kind as the receiver."""
    return encode(text) if isinstance(value, bytes) else text


@method("strings", cases=[Case("root = this.uppercase()", '"Foo bär"', "FOO BÄR")])
def uppercase(value: Value) -> Value:
    """Change all letters to upper case."""
    if type(value) is str:
        return value.upper() if value.isascii() else _each(value, str.upper)
    return like(value, _each(text_or_bytes(value), str.upper))


@method("strings", cases=[Case("root = this.lowercase()", '"Foo BÄR"', "foo bär")])
def lowercase(value: Value) -> Value:
    """Change all letters to lower case."""
    if type(value) is str:
        return value.lower() if value.isascii() else _each(value, str.lower)
    return like(value, _each(text_or_bytes(value), str.lower))


def _each(text: str, change: Any) -> str:
    """Change letter by letter; those that would become several letters stay."""
    return "".join(made if len(made := change(char)) == 1 else char for char in text)


@method("strings", cases=[Case("root = this.capitalize()", '"the foo bar"', "The Foo Bar")])
def capitalize(value: Value) -> Value:
    """Change the first letter of every word to upper case."""
    return like(value, _WORD.sub(_titled, text_or_bytes(value)))


_WORD = re.compile(r"\w+(?:['\u2019.:\u00b7]?\w+)*")


def _titled(match: re.Match[str]) -> str:
    """A word with its first letter large and all others small."""
    word = match[0]
    for at, char in enumerate(word):
        if char.lower() != char.upper():
            return word[:at] + _each(char, str.title) + _each(word[at + 1 :], str.lower)
    return word


@method(
    "strings",
    cases=[
        Case("root = this.trim()", '"  a b  "', "a b"),
        Case('root = this.trim("!?")', '"!?what?"', "what"),
    ],
    params={"cutset": "The characters to remove; white space when not given."},
)
def trim(value: Value, cutset: str | None = None) -> Value:
    """Remove characters from both ends."""
    made = text_or_bytes(value).strip(cutset if cutset is not None else _SPACE)
    # The engine has no empty bytes here, which it writes as null.
    return None if not made and isinstance(value, bytes) else like(value, made)


_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


@method(
    "strings",
    cases=[
        Case('root = this.trim_prefix("req_")', '"req_42"', "42"),
        Case('root = this.trim_prefix("req_")', '"42"', "42"),
    ],
    params={"prefix": "What to remove."},
)
def trim_prefix(value: Value, prefix: str) -> Value:
    """Remove a prefix; text that does not start with it stays as it is."""
    if type(value) is str:
        return value.removeprefix(prefix)
    return like(value, text_or_bytes(value).removeprefix(prefix))


@method(
    "strings",
    cases=[Case('root = this.trim_suffix("_v1")', '"data_v1"', "data")],
    params={"suffix": "What to remove."},
)
def trim_suffix(value: Value, suffix: str) -> Value:
    """Remove a suffix; text that does not end with it stays as it is."""
    return like(value, text_or_bytes(value).removesuffix(suffix))


@method(
    "strings",
    cases=[Case('root = this.has_prefix("foo")', '"foobar"', "true")],
    params={"value": "The text to look for."},
)
def has_prefix(receiver: Value, value: str) -> bool:
    """Whether the text starts with another."""
    if type(receiver) is str:
        return receiver.startswith(value)
    return text_or_bytes(receiver).startswith(value)


@method(
    "strings",
    cases=[Case('root = this.has_suffix("bar")', '"foobar"', "true")],
    params={"value": "The text to look for."},
)
def has_suffix(receiver: Value, value: str) -> bool:
    """Whether the text ends with another."""
    return text_or_bytes(receiver).endswith(value)


@method(
    "strings",
    cases=[
        Case('root = this.index_of("l")', '"héllo"', "3"),
        Case('root = this.index_of("x")', '"a"', "-1"),
    ],
    params={"value": "The text to look for."},
)
def index_of(receiver: Value, value: str) -> Value:
    """The position of the first occurrence of a text, in bytes; -1 if there is none."""
    return Int64(encode(text_or_bytes(receiver)).find(encode(value)))


@method(
    "objects",
    cases=[
        Case('root = this.contains("oba")', '"foobar"', "true"),
        Case("root = this.contains(2)", "[1,2.0]", "true"),
        Case('root = this.contains("b")', '{"a":"b"}', "true"),
    ],
    params={"value": "What to look for."},
)
def contains(receiver: Value, value: Any) -> bool:
    """Whether a text contains another, or an array or object contains a value."""
    if type(receiver) is str:
        return to_string(value) in receiver
    if isinstance(receiver, bytes):
        return to_bytes(value) in receiver
    if isinstance(receiver, list):
        return any(equal(value, one) for one in receiver)
    if isinstance(receiver, dict):
        return any(equal(value, one) for one in receiver.values())
    raise TypeFail(receiver, "string", "array", "object")


@method(
    "objects",
    cases=[
        Case("root = this.length()", '"héllo"', "6"),
        Case("root = this.length()", "[1,2]", "2"),
        Case("root = this.length()", '{"a":1}', "1"),
    ],
)
def length(value: Value) -> Value:
    """The number of bytes of a text, elements of an array or fields of an object."""
    if type(value) is str:
        return Int64(len(value) if value.isascii() else len(encode(value)))
    if isinstance(value, (bytes, list, dict)):
        return Int64(len(value))
    raise TypeFail(value, "string", "array", "object")


@method("strings", cases=[Case("root = this.reverse()", '"olléh"', "héllo")])
def reverse(value: Value) -> Value:
    """The characters in reverse order."""
    return like(value, text_or_bytes(value)[::-1])


@method("strings", cases=[Case("root = this.quote()", '"a\\nb"', '"a\\nb"')])
def quote(value: Value) -> Value:
    """Put text in double quotes and escape what needs it."""
    return quoted(get_string(value))


@method("strings", cases=[Case("root = this.unquote()", r'"\"a\\nb\""', "a\nb")])
def unquote(value: Value) -> Value:
    """Take the double quotes, single quotes or backticks off and resolve the escapes."""
    text = get_string(value)
    made: str | None = None
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'`":
        body = text[1:-1]
        if text[0] == "`":
            made = None if "`" in body else body.replace("\r", "")
        elif text[0] == '"':
            if not re.search(r'(?<!\\)(?:\\\\)*"', body):
                made = unescape(body)
        else:
            made = unescape(body.replace("\\'", "'"))
            if made is not None and len(made) != 1:
                made = None
    if made is None:
        raise Fail("invalid syntax")
    return made


@method(
    "strings",
    prepared=True,
    cases=[
        Case("root = this.repeat(3)", '"ab"', "ababab"),
        Case("root = this.repeat(0)", '"ab"', ""),
    ],
    params={"count": "How many times."},
)
def repeat(count: int) -> Any:
    """The text several times in a row; results beyond 64 MiB are an error."""
    if count < 0:
        raise Fail(f"invalid count, must be greater than or equal to zero: {count}")

    def run(value: Value) -> Value:
        text = text_or_bytes(value)
        if len(text) * count > MAX_TEXT:
            raise Fail(f"repeating {len(text)} characters {count} times makes more than 64 MiB")
        return like(value, text * count)

    return run


@method(
    "strings",
    cases=[Case('root = this.replace_all("o", "0")', '"foo"', "f00")],
    params={"old": "What to replace.", "new": "What to put in its place."},
)
def replace_all(value: Value, old: str, new: str) -> Value:
    """Replace every occurrence of a text."""
    text = text_or_bytes(value)
    if len(new) > 1 and text.count(old) * len(new) > MAX_TEXT:
        raise Fail("the replacement makes more than 64 MiB")
    return like(value, text.replace(old, new))


@method(
    "strings",
    status="deprecated",
    name="replace",
    cases=[Case('root = this.replace("o", "0")', '"foo"', "f00")],
    params={"old": "What to replace.", "new": "What to put in its place."},
)
def replace(value: Value, old: str, new: str) -> Value:
    """Replace every occurrence of a text; `replace_all` is the newer name."""
    result: Value = replace_all.call(value, old, new)
    return result


def _pairs(values: list[Any]) -> dict[str, str]:
    if len(values) % 2:
        text = "invalid arg, replacements should be in pairs and must therefore be even"
        raise Fail(f"{text}: {sprintf('%v', [values])}")
    texts: list[str] = []
    for index, value in enumerate(values):
        try:
            texts.append(get_string(value))
        except TypeFail as fail:
            raise fail.under(f"invalid replacement value at index {index}: ") from None
    made: dict[str, str] = {}
    for index in range(0, len(texts), 2):
        made.setdefault(texts[index], texts[index + 1])
    return made


@method(
    "strings",
    prepared=True,
    cases=[
        Case(
            'root = this.replace_all_many(["<b>", "&lt;b&gt;", "i", "j"])', '"<b>ai"', "&lt;b&gt;aj"
        )
    ],
    params={"values": "Texts and their replacements, in turn."},
)
def replace_all_many(values: list[Any]) -> Any:
    """Replace several texts at once; at each place the first pair that fits wins."""
    pairs = _pairs(values)
    pattern = re.compile("|".join(re.escape(old) for old in pairs)) if pairs else None

    def run(value: Value) -> Value:
        text = text_or_bytes(value)
        if pattern is None:
            return value
        size = 0

        def replacement(match: re.Match[str]) -> str:
            nonlocal size
            new = pairs[match[0]]
            size += len(new)
            if size > MAX_TEXT:
                raise Fail("the replacements make more than 64 MiB")
            return new

        return like(value, pattern.sub(replacement, text))

    return run


@method(
    "strings",
    prepared=True,
    status="deprecated",
    cases=[Case('root = this.replace_many(["a", "b"])', '"aa"', "bb")],
    params={"values": "Texts and their replacements, in turn."},
)
def replace_many(values: list[Any]) -> Any:
    """Replace several texts at once; `replace_all_many` is the newer name."""
    return replace_all_many.call(values)


@method(
    "strings",
    cases=[
        Case('root = this.split(",")', '"a,b,,c"', '["a","b","","c"]'),
        Case('root = this.split(",", true)', '"a,,c"', '["a",null,"c"]'),
    ],
    params={
        "delimiter": "What stands between the parts.",
        "empty_as_null": "Make empty parts null.",
    },
)
def split(value: Value, delimiter: str, empty_as_null: bool = False) -> Value:
    """Split text at every occurrence of a delimiter."""
    if type(value) is str:
        parts: list[Any] = value.split(delimiter) if delimiter else list(value)
    elif isinstance(value, bytes):
        raw = value.split(encode(delimiter)) if delimiter else [encode(c) for c in decode(value)]
        parts = list(raw)
    else:
        raise TypeFail(value, "string")
    if empty_as_null:
        parts = [part or None for part in parts]
    return parts


@method(
    "objects",
    cases=[
        Case('root = this.join(", ")', '["a","b"]', "a, b"),
        Case("root = this.join()", '["a","b"]', "ab"),
    ],
    params={"delimiter": "What to put between the elements."},
)
def join(value: Value, delimiter: str | None = None) -> Value:
    """Join an array of texts to one."""
    if not isinstance(value, list):
        raise TypeFail(value, "array")
    parts: list[str] = []
    size = len(delimiter or "") * len(value)
    for index, one in enumerate(value):
        if not isinstance(one, (str, bytes)):
            raise TypeFail(one, "string").under(f"failed to join element {index}: ")
        parts.append(get_string(one))
        size += len(one)
    if size > MAX_TEXT:
        raise Fail(f"joining {len(value)} elements makes more than 64 MiB")
    return (delimiter or "").join(parts)


@method(
    "strings",
    cases=[
        Case(
            'root = "%v costs %.2f".format(this.name, this.cost.number())',
            '{"name":"tea","cost":2.5}',
            "tea costs 2.50",
        ),
        Case(
            'root = "%d".format(this.n)',
            '{"n":5}',
            "%!d(json.Number=5)",
            note="A number of the document is text to the verbs; `+ 0` makes it a number.",
        ),
    ],
)
def format_(value: Value, *args: Any) -> Value:
    """Put values into text, at the verbs `%v`, `%s`, `%d`, `%f`, `%q`, `%x` and so on."""
    text = sprintf(get_string(value), args)
    if len(text) > MAX_TEXT:
        raise Fail("the text is longer than 64 MiB")
    return text


@method(
    "objects",
    prepared=True,
    cases=[
        Case("root = this.slice(1, 3)", '"abcdef"', "bc"),
        Case("root = this.slice(-2)", "[1,2,3]", "[2,3]"),
    ],
    params={
        "low": "The first position, from the end when negative.",
        "high": "The position after the last.",
    },
)
def slice_(low: int, high: int | None = None) -> Any:
    """A part of a text (in bytes) or of an array."""
    if high is not None and high > 0 and low >= high:
        raise Fail(f"lower slice bound {low} must be lower than upper ({high})")

    def run(value: Value) -> Value:
        if type(value) is str:
            if value.isascii():
                start, end = _bounds(len(value), low, high)
                return value[start:end]
            raw = encode(value)
            start, end = _bounds(len(raw), low, high)
            return decode(raw[start:end])
        if not isinstance(value, (bytes, list)):
            raise TypeFail(value, "array", "string")
        start, end = _bounds(len(value), low, high)
        return value[start:end]

    return run


def _bounds(size: int, low: int, high: int | None) -> tuple[int, int]:
    end = size if high is None else size + high if high < 0 else high
    end = max(min(end, size), 0)
    start = max(size + low, 0) if low < 0 else low
    if start > end:
        raise Fail(
            f"lower slice bound {start} must be lower than or equal to upper bound ({end}) "
            f"and target length ({size})"
        )
    return start, end


ENTRIES = (
    uppercase,
    lowercase,
    capitalize,
    trim,
    trim_prefix,
    trim_suffix,
    has_prefix,
    has_suffix,
    index_of,
    contains,
    length,
    reverse,
    quote,
    unquote,
    repeat,
    replace_all,
    replace,
    replace_all_many,
    replace_many,
    split,
    join,
    format_,
    slice_,
)

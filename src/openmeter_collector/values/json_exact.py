"""The slow, exact half of `values.json`: error texts, odd numbers, odd text, indentation."""

from __future__ import annotations

import base64
import re
from typing import Any, Final

import orjson

from openmeter_collector.values.kinds import (
    INT64_MAX,
    Float32,
    Float64,
    Integer,
    Marker,
    SourceNumber,
    Value,
)
from openmeter_collector.values.numbers import json_float
from openmeter_collector.values.timestamp import Timestamp

_MAX_DEPTH: Final = 10_000
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_PLAIN_TEXT: Final = re.compile(rb'[^"\\\x00-\x1f]*')
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_SIMPLE_ESCAPES: Final = dict(zip(b'"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))
_LITERALS: Final = {
    0x74: (b"true", True),
    0x66: (b"false", False),
    0x6E: (b"null", None),
}


class JSONError(ValueError):
    """The bytes are not one JSON document."""


class EncodeError(ValueError):
    """A value has no JSON form; the text says which and where."""


def loads(data: bytes) -> Value:
    """Parse one document, or fail with the engine's text."""
    value, end = parse_first(data)
    rest = _SPACE.match(data, end).end()  # type: ignore[union-attr]
    if rest == len(data):
        return value
    _, end = parse_first(data, rest)
    rest = _SPACE.match(data, end).end()  # type: ignore[union-attr]
    if rest < len(data):
        parse_first(data, rest)
    raise JSONError("message contains multiple valid documents")


def parse_first(data: bytes, start: int = 0) -> tuple[Value, int]:
    """Parse the document that starts at `start`; its value and where it ends."""
    return _Parser(data).run(start)


class _Parser:
    """A parser with its own stack, so that depth costs memory and never a crash."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def fail(self, pos: int, context: str) -> JSONError:
        if pos >= len(self.data):
            return JSONError("unexpected EOF")
        return JSONError(f"invalid character {_quote(self.data[pos])} {context}")

    def skip(self, pos: int) -> int:
        return _SPACE.match(self.data, pos).end()  # type: ignore[union-attr]

    def run(self, pos: int) -> tuple[Value, int]:
        data = self.data
        pos = self.skip(pos)
        if pos >= len(data):
            raise JSONError("EOF" if data else "unexpected end of JSON input")
        stack: list[tuple[Any, Any]] = []
        while True:
            byte = data[pos] if pos < len(data) else -1
            if byte in (0x7B, 0x5B):
                if len(stack) >= _MAX_DEPTH:
                    raise JSONError(f"invalid character {_quote(byte)} exceeded max depth")
                pos = self.skip(pos + 1)
                if byte == 0x7B:
                    if pos < len(data) and data[pos] == 0x7D:
                        value: Value = {}
                        pos += 1
                    else:
                        key, pos = self.key(pos)
                        stack.append(({}, key))
                        continue
                elif pos < len(data) and data[pos] == 0x5D:
                    value = []
                    pos += 1
                else:
                    stack.append(([], None))
                    continue
            else:
                value, pos = self.scalar(pos)
            while stack:
                value, pos, more = self.close(stack, value, self.skip(pos))
                if more:
                    break
            else:
                return value, pos

    def close(self, stack: list[tuple[Any, Any]], value: Value, pos: int) -> tuple[Any, int, bool]:
        """Put a finished value into its container, and read what follows it."""
        container, key = stack[-1]
        byte = self.data[pos] if pos < len(self.data) else -1
        if isinstance(container, list):
            container.append(value)
            if byte == 0x2C:
                return None, self.skip(pos + 1), True
            if byte != 0x5D:
                raise self.fail(pos, "after array element")
        else:
            container[key] = value
            if byte == 0x2C:
                key, pos = self.key(self.skip(pos + 1))
                stack[-1] = (container, key)
                return None, pos, True
            if byte != 0x7D:
                raise self.fail(pos, "after object key:value pair")
        stack.pop()
        return container, pos + 1, False

    def key(self, pos: int) -> tuple[str, int]:
        if pos >= len(self.data) or self.data[pos] != 0x22:
            raise self.fail(pos, "looking for beginning of object key string")
        key, pos = self.string(pos + 1)
        pos = self.skip(pos)
        if pos >= len(self.data) or self.data[pos] != 0x3A:
            raise self.fail(pos, "after object key")
        return key, self.skip(pos + 1)

    def scalar(self, pos: int) -> tuple[Value, int]:
        data = self.data
        byte = data[pos] if pos < len(data) else -1
        if byte == 0x22:
            return self.string(pos + 1)
        if byte in _LITERALS:
            word, value = _LITERALS[byte]
            for offset in range(1, len(word)):
                at = pos + offset
                if at >= len(data) or data[at] != word[offset]:
                    context = f"in literal {word.decode()} (expecting '{chr(word[offset])}')"
                    raise self.fail(at, context)
            return value, pos + len(word)
        if byte == 0x2D or 0x30 <= byte <= 0x39:
            return self.number(pos)
        raise self.fail(pos, "looking for beginning of value")

    def number(self, pos: int) -> tuple[Value, int]:
        data = self.data
        match = _NUMBER.match(data, pos)
        if match is None:
            raise self.fail(pos + 1, "in numeric literal")
        end = match.end()
        after = data[end : end + 1]
        if after == b"." and match[1] is None and match[2] is None:
            raise self.fail(end + 1, "after decimal point in numeric literal")
        if after in (b"e", b"E") and match[2] is None:
            at = end + 2 if data[end + 1 : end + 2] in (b"+", b"-") else end + 1
            raise self.fail(at, "in exponent of numeric literal")
        text = match[0].decode()
        if match[1] is None and match[2] is None and text != "-0":
            return int(text), end
        return SourceNumber(text), end

    def string(self, pos: int) -> tuple[str, int]:
        data = self.data
        parts: list[str] = []
        while True:
            end = _PLAIN_TEXT.match(data, pos).end()  # type: ignore[union-attr]
            if end > pos:
                parts.append(data[pos:end].decode("utf-8", "replace"))
            if end >= len(data):
                raise JSONError("unexpected EOF")
            if data[end] == 0x22:
                return "".join(parts), end + 1
            if data[end] != 0x5C:
                raise self.fail(end, "in string literal")
            text, pos = self.escape(end + 1)
            parts.append(text)

    def escape(self, pos: int) -> tuple[str, int]:
        data = self.data
        byte = data[pos] if pos < len(data) else -1
        if byte in _SIMPLE_ESCAPES:
            return _SIMPLE_ESCAPES[byte], pos + 1
        if byte != 0x75:
            raise self.fail(pos, "in string escape code")
        code = self.hexadecimal(pos + 1)
        pos += 5
        if 0xD800 <= code < 0xDC00 and data[pos : pos + 2] == b"\\u":
            low = self.hexadecimal(pos + 2)
            if 0xDC00 <= low < 0xE000:
                return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)), pos + 6
        return ("\ufffd" if 0xD800 <= code < 0xE000 else chr(code)), pos

    def hexadecimal(self, pos: int) -> int:
        for at in range(pos, pos + 4):
            if at >= len(self.data) or self.data[at] not in b"0123456789abcdefABCDEF":
                raise self.fail(at, "in \\u hexadecimal character escape")
        return int(self.data[pos : pos + 4], 16)


def _quote(byte: int) -> str:
    if byte == 0x27:
        return "'\\''"
    if byte == 0x22:
        return "'\"'"
    named = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 92: "\\\\"}
    if byte in named:
        return f"'{named[byte]}'"
    if byte < 0x20 or byte == 0x7F:
        return f"'\\x{byte:02x}'"
    # The engine takes the byte for a code point here.
    char = chr(byte)
    return f"'{char}'" if char.isprintable() else f"'\\u{byte:04x}'"


def simple(value: Value) -> Any:
    """The JSON form of a value that is neither container, text nor common number."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Timestamp):
        text = value.text()
        if text[4:5] != "-" or text[:1] == "-":
            raise EncodeError(f"json: the year of {text} is outside of range [0,9999]")
        return text
    if isinstance(value, Float32) and value - value == 0:
        return orjson.Fragment(json_float(float(str_float32(value))).encode())
    if isinstance(value, Marker):
        return None  # inside a structure an instruction has lost its target
    raise EncodeError(f"json: unsupported value: {describe(value)}")


def describe(value: Value) -> str:
    """How to name a value that has no JSON form."""
    if isinstance(value, float):
        return "NaN" if value != value else ("+Inf" if value > 0 else "-Inf")  # noqa: PLR0124
    if isinstance(value, Marker):
        return value.name.lower() + "()"
    return type(value).__name__


def str_float32(value: float) -> str:
    """The shortest decimal text that reads back as the same 32-bit float."""
    import struct  # noqa: PLC0415 - a rare kind of number

    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if struct.pack("f", float(text)) == struct.pack("f", value):
            return text
    return repr(float(value))


_ESCAPED: Final = re.compile('["\\\\\x00-\x1f\u2028\u2029\ud800-\udfff]')
_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
}


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    known = _ESCAPES.get(char)
    if known is not None:
        return known
    code = ord(char)
    return "\\ufffd" if 0xD800 <= code < 0xE000 else f"\\u{code:04x}"


def _text(text: str) -> str:
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def dumps(value: Value, indent: str | None = None) -> bytes:
    """Write any value; with `indent`, one element a line."""
    out: list[str] = []
    try:
        _write(value, out, indent, "\n")
    except RecursionError:
        raise EncodeError("json: the value is nested too deeply to be written") from None
    return "".join(out).encode("utf-8", "replace")


def scalar_text(value: Value) -> str | None:
    """The JSON text of a value that is no container; None for a container."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (dict, list)):
        return None
    return _number_text(value)


def _number_text(value: Value) -> str:
    if isinstance(value, SourceNumber):
        return value.text
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float) and value - value == 0:
        if isinstance(value, Float64):
            return json_float(value)
        if isinstance(value, Float32):
            return json_float(float(str_float32(value)))
        return repr(value)
    form = simple(value)
    return _text(form) if isinstance(form, str) else "null"


def _write(value: Value, out: list[str], indent: str | None, line: str) -> None:
    text = scalar_text(value)
    if text is not None:
        out.append(text)
        return
    deeper = line + (indent or "")
    lead, tail = (deeper, line) if indent is not None else ("", "")
    if isinstance(value, dict):
        if not value:
            out.append("{}")
            return
        colon = ": " if indent is not None else ":"
        separator = "{" + lead
        for key in _sorted_keys(value):
            out.append(separator + _text(key) + colon)
            _write(value[key], out, indent, deeper)
            separator = "," + lead
        out.append(tail + "}")
        return
    if not value:
        out.append("[]")
        return
    separator = "[" + lead
    for element in value:
        out.append(separator)
        _write(element, out, indent, deeper)
        separator = "," + lead
    out.append(tail + "]")


def _sorted_keys(value: dict[Any, Any]) -> list[str]:
    for key in value:
        if not isinstance(key, str):
            raise EncodeError(f"json: unsupported key {key!r}; keys of objects must be strings")
    return sorted(value, key=lambda key: key.encode("utf-8", "surrogateescape"))


def is_wide(value: int) -> bool:
    """Whether an integer of a document is beyond 64 bits, and so a float to arithmetic."""
    return not -INT64_MAX - 1 <= value <= INT64_MAX and not isinstance(value, Integer)

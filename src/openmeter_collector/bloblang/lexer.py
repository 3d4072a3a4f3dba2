"""The terminals of the language: names, numbers, texts, spaces, and how a failure looks.

The grammar has no tokens of its own: what a character means depends on where it stands (`-5`, a
keyword as a field name). So the parser asks for the terminal it expects at a position.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from openmeter_collector.bloblang.diagnostics import Diagnostic
from openmeter_collector.values.kinds import INT64_MAX, Float64, Int64

SPACES: Final = re.compile(r"[ \t]+")
SKIP: Final = re.compile(r"(?:[ \t]+|#[^\n]*\n|\r?\n)*")
NEWLINE: Final = re.compile(r"#[^\n]*\n|\r?\n")
NAME: Final = re.compile(r"[A-Za-z0-9_]+")
CALL_NAME: Final = re.compile(r"[a-z0-9_]+")
OPERATOR: Final = re.compile(r"\+|-|/|\*|%|&&|\|\||==|!=|>=|<=|>|<|\|")
_DIGITS: Final = re.compile(r"-?([0-9]+)(\.[0-9]+)?")
_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\\"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))",
    re.DOTALL,
)
_SIMPLE: Final = dict(zip('abfnrtv\\"', '\a\b\f\n\r\t\v\\"', strict=True))


@dataclass(slots=True)
class Failure(Exception):
    """Parsing cannot go on here.

    Attributes:
        pos: where.
        expected: what would have been right.
        cause: why no alternative may be tried any more; None when others may.
        inner: for a fault in an imported file, that fault.
        hint: advice to print below the error.
    """

    pos: int
    expected: tuple[str, ...] = ()
    cause: str | None = None
    inner: Diagnostic | None = None
    hint: str = ""

    def text(self) -> str:
        """The message without its position."""
        if not self.expected:
            return self.cause or ""
        unique = list(dict.fromkeys(self.expected))
        if len(unique) == 1:
            # The engine lists several equal expectations so; users compare these texts.
            wanted = unique[0] if len(self.expected) == 1 else f" or {unique[0]}"
        else:
            comma = "," if len(unique) > 2 else ""
            wanted = f"{', '.join(unique[:-1])}{comma} or {unique[-1]}"
        lead = f"{self.cause}: " if self.cause else ""
        return f"{lead}expected {wanted}"

    def expecting(self, *expected: str) -> Failure:
        """The same failure, said in other words; a final one stays as it is."""
        if self.cause is not None:
            return self
        return Failure(self.pos, expected)

    def required(self) -> Failure:
        """The same failure, with no other alternative allowed."""
        if self.cause is not None:
            return self
        return Failure(self.pos, self.expected, "required")


def further(first: Failure | None, second: Failure) -> Failure:
    """Of two failed alternatives the one that got further; of equals, both."""
    if first is None or second.pos > first.pos:
        return second
    if second.pos == first.pos:
        return Failure(first.pos, first.expected + second.expected, first.cause or second.cause)
    return first


def skip(text: str, pos: int) -> int:
    """The position after any spaces, comments and line breaks."""
    return SKIP.match(text, pos).end()  # type: ignore[union-attr]


def spaces(text: str, pos: int) -> int:
    """The position after spaces that must be there."""
    match = SPACES.match(text, pos)
    if match is None:
        raise Failure(pos, ("whitespace",))
    return match.end()


def optional_spaces(text: str, pos: int) -> int:
    """The position after spaces that may be there."""
    match = SPACES.match(text, pos)
    return pos if match is None else match.end()


def newline(text: str, pos: int) -> int:
    """The position after a line break, which a comment may precede."""
    match = NEWLINE.match(text, pos)
    if match is not None:
        return match.end()
    if text.startswith("#", pos):
        pos = len(text)
    elif text.startswith("\r", pos):
        pos += 1
    raise Failure(pos, ("line break",))


def term(text: str, pos: int, word: str) -> int:
    """The position after a fixed word."""
    if not text.startswith(word, pos):
        raise Failure(pos, (word,))
    return pos + len(word)


def name(text: str, pos: int, expected: str) -> tuple[str, int]:
    """A name, and the position after it."""
    match = NAME.match(text, pos)
    if match is None:
        raise Failure(pos, (expected,))
    return match[0], match.end()


def number(text: str, pos: int) -> tuple[Int64 | Float64, int]:
    """A number; a minus directly before it belongs to it."""
    match = _DIGITS.match(text, pos)
    if match is None:
        raise Failure(pos + text.startswith("-", pos), ("number",))
    if match[2]:
        return Float64(match[0]), match.end()
    if int(match[1]) > INT64_MAX:
        raise Failure(
            pos,
            cause=f"failed to parse '{match[1]}' as integer: strconv.ParseInt: "
            f'parsing "{match[1]}": value out of range',
        )
    return Int64(match[0]), match.end()


def triple_quoted(text: str, pos: int) -> tuple[str, int]:
    """A text between triple quotes, taken as it stands."""
    if not text.startswith('"""', pos) or len(text) - pos < 6:
        raise Failure(pos, ("quoted string",))
    end = text.find('"""', pos + 3)
    if end < 0:
        raise Failure(len(text), ("end triple-quote",), "required")
    return text[pos + 3 : end], end + 3


def quoted(text: str, pos: int) -> tuple[str, int]:
    """A text between quotes, with its escapes resolved."""
    if not text.startswith('"', pos):
        raise Failure(pos, ("quoted string",))
    at = pos + 1
    while at < len(text):
        char = text[at]
        if char == '"':
            raw = text[pos + 1 : at]
            value = unescape(raw) if "\\" in raw or "\n" in raw else raw
            if value is None:
                cause = "failed to unescape quoted string contents: invalid syntax"
                raise Failure(pos, cause=cause)
            return value, at + 1
        at += 2 if char == "\\" else 1
    raise Failure(len(text), ("end quote",), "required")


def unescape(raw: str) -> str | None:
    """Resolve the escapes of a quoted text; None if one of them does not exist."""
    if "\n" in raw:
        return None
    parts: list[bytes] = []
    last = 0
    for match in _ESCAPE.finditer(raw):
        parts.append(raw[last : match.start()].encode("utf-8", "surrogateescape"))
        last = match.end()
        simple, byte, octal, short, long, other = match.groups()
        if other is not None:
            return None
        if simple is not None:
            parts.append(_SIMPLE[simple].encode())
        elif byte or octal:
            code = int(byte, 16) if byte else int(octal, 8)
            if code > 255:
                return None
            parts.append(bytes([code]))
        else:
            code = int(short or long, 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                return None
            parts.append(chr(code).encode())
    parts.append(raw[last:].encode("utf-8", "surrogateescape"))
    return b"".join(parts).decode("utf-8", "surrogateescape")

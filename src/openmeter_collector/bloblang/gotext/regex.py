r"""Regular expressions in the engine's syntax, which is that of RE2.

They are checked and rewritten for Python's `re`. Differences that matter are taken care of:
classes such as `\d` are ASCII, `$` is the end of the text, flags may stand anywhere, there is no
lookaround and no backreference, and empty matches next to a match do not count. Those that may take long
are run by RE2 itself where it is installed.
"""

from __future__ import annotations

import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.gotext.linear import Found, compile_linear

_WORD: Final = "0-9A-Za-z_"
_CLASSES: Final = {"d": "0-9", "w": _WORD, "s": r"\t\n\f\r "}
_EDGE: Final = (
    f"(?:(?<![{_WORD}])(?=[{_WORD}])|(?<=[{_WORD}])(?![{_WORD}]))",
    f"(?:(?<![{_WORD}])(?![{_WORD}])|(?<=[{_WORD}])(?=[{_WORD}]))",
)
_POSIX: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": _WORD,
    "xdigit": "0-9A-Fa-f",
}
_REPEAT: Final = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}")
_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_MAX_REPEAT: Final = 1000


@dataclass(frozen=True)
class Pattern:
    """A compiled expression.

    Attributes:
        names: of its groups, "" for those that have none.
    """

    code: re.Pattern[str]
    names: tuple[str, ...]
    linear: Callable[[str], Callable[[int], Found | None]] | None = None

    def search(self, text: str) -> re.Match[str] | Found | None:
        """The first match."""
        return self.code.search(text) if self.linear is None else self.linear(text)(0)

    def found(self, text: str) -> Iterator[re.Match[str] | Found]:
        """All matches from left to right."""
        look = partial(self.code.search, text) if self.linear is None else self.linear(text)
        pos, last = 0, -1
        while pos <= len(text):
            match = look(pos)
            if match is None:
                return
            if match.end() == match.start():
                if match.start() != last:
                    yield match
                pos = match.end() + 1
                last = -1 if match.start() == last else last
            else:
                yield match
                pos = last = match.end()


@lru_cache(maxsize=512)
def compile_pattern(pattern: str) -> Pattern:
    """Check and compile an expression."""
    translator = _Translator(pattern)
    text = translator.run()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise Fail(f"error parsing regexp: {error}: `{pattern}`") from None
    linear = compile_linear(pattern) if translator.may_take_long else None
    return Pattern(code, tuple(translator.names), linear)


def _error(what: str, where: str) -> Fail:
    return Fail(f"error parsing regexp: {what}: `{where}`")


class _Translator:
    """Rewrites one expression."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.pos = 0
        self.out: list[str] = []
        self.names: list[str] = []
        self.flags = {"i": False, "m": False, "s": False, "U": False}
        self.depth: list[tuple[dict[str, bool], int]] = []
        self.opened = 0
        self.endless = 0
        self.repeats = 0

    @property
    def may_take_long(self) -> bool:
        """Whether matching may take longer than in proportion to the text: anything that repeats is
        tried in all its lengths, from each place on, and for each length of what repeats beside it.
        """
        anchored = self.out[:1] == [r"\A"] and "|" not in self.out
        return self.repeats > 1 or (self.endless > 0 and not anchored)

    def run(self) -> str:
        pattern = self.pattern
        repeatable = False
        repeated: int | None = None
        while self.pos < len(pattern):
            char = pattern[self.pos]
            before = self.pos
            if char in "*+?" or (char == "{" and _REPEAT.match(pattern, self.pos)):
                self.repeat(repeatable, repeated)
                repeated = before if repeated is None else repeated
                continue
            repeated = None
            repeatable = True
            if char == "(":
                repeatable = self.open()
            elif char == ")":
                self.close()
            elif char == "|":
                self.out.append("|")
                self.pos += 1
                repeatable = False
            elif char == "[":
                self.out.append(self.bracket())
            elif char == "\\":
                self.escape()
            elif char == ".":
                self.out.append(r"[\s\S]" if self.flags["s"] else r"[^\n]")
                self.pos += 1
            elif char == "^":
                self.out.append(r"(?m:^)" if self.flags["m"] else r"\A")
                self.pos += 1
            elif char == "$":
                self.out.append(r"(?=\n|\Z)" if self.flags["m"] else r"\Z")
                self.pos += 1
            else:
                self.literal(char)
                self.pos += 1
        if self.depth:
            raise _error("missing closing )", pattern)
        return "".join(self.out) + ")" * self.opened

    def literal(self, char: str) -> None:
        text = re.escape(char)
        if self.flags["i"] and char.lower() != char.upper():
            text = f"(?i:{text})"
        self.out.append(text)

    # Groups -------------------------------------------------------------------------------

    def open(self) -> bool:
        pattern = self.pattern
        if pattern.startswith("(?", self.pos):
            return self.special()
        self.depth.append((dict(self.flags), self.opened))
        self.opened = 0
        self.names.append("")
        self.out.append("(")
        self.pos += 1
        return False

    def special(self) -> bool:
        pattern, start = self.pattern, self.pos
        for lead in ("(?P<", "(?<"):
            if pattern.startswith(lead, start) and not pattern.startswith(("(?<=", "(?<!"), start):
                end = pattern.find(">", start)
                if end < 0:
                    raise _error("invalid named capture", pattern[start:])
                name = pattern[start + len(lead) : end]
                if not _NAME.fullmatch(name):
                    raise _error("invalid named capture", pattern[start : end + 1])
                if name in self.names:
                    raise _error("duplicate capture group", name)
                self.depth.append((dict(self.flags), self.opened))
                self.opened = 0
                self.names.append(name)
                self.out.append("(")
                self.pos = end + 1
                return False
        return self.flag_group()

    def flag_group(self) -> bool:
        pattern, start = self.pattern, self.pos
        flags = dict(self.flags)
        value, seen = True, False
        for at in range(start + 2, len(pattern)):
            char = pattern[at]
            if char in flags:
                flags[char] = value
                seen = True
            elif char == "-" and value:
                value, seen = False, False
            elif char in ":)" and (value or seen):
                break
            else:
                raise _error("invalid or unsupported Perl syntax", pattern[start : at + 1])
        else:
            raise _error("missing closing )", pattern)
        self.pos = at + 1
        if char == ":":
            self.depth.append((dict(self.flags), self.opened))
            self.opened = 0
            self.out.append("(?:")
        self.flags = flags
        return False

    def close(self) -> None:
        if not self.depth:
            raise _error("unexpected )", self.pattern)
        self.out.append(")" * (self.opened + 1))
        self.flags, self.opened = self.depth.pop()
        self.pos += 1

    # Repetition ---------------------------------------------------------------------------

    def repeat(self, repeatable: bool, repeated: int | None) -> None:
        pattern, start = self.pattern, self.pos
        match = _REPEAT.match(pattern, start) if pattern[start] == "{" else None
        end = match.end() if match else start + 1
        operator = pattern[start:end]
        lazy = pattern.startswith("?", end)
        if lazy:
            end += 1
        if not repeatable:
            raise _error("missing argument to repetition operator", operator + "?" * lazy)
        if repeated is not None:
            raise _error("invalid nested repetition operator", pattern[repeated:end])
        if match:
            low = int(match[1])
            high = int(match[3]) if match[3] else low if match[2] is None else 0
            if low > _MAX_REPEAT or high > _MAX_REPEAT or (match[3] and high < low):
                raise _error("invalid repeat count", operator)
        self.repeats += 1
        self.endless += operator in {"*", "+"} or operator.endswith(",}")
        if self.flags["U"]:
            lazy = not lazy
        self.out.append(operator + ("?" if lazy else ""))
        self.pos = end

    # Classes ------------------------------------------------------------------------------

    def escape(self) -> None:
        pattern = self.pattern
        if self.pos + 1 >= len(pattern):
            raise Fail("error parsing regexp: trailing backslash at end of expression: ``")
        char = pattern[self.pos + 1]
        if char == "Q":
            end = pattern.find("\\E", self.pos)
            body = pattern[self.pos + 2 : len(pattern) if end < 0 else end]
            for one in body:
                self.literal(one)
            self.pos = len(pattern) if end < 0 else end + 2
            return
        simple = {"A": r"\A", "z": r"\Z", "b": _EDGE[0], "B": _EDGE[1], "C": r"[\s\S]"}
        if char in simple:
            self.out.append(simple[char])
            self.pos += 2
            return
        text, end, single = self.class_or_char(self.pos)
        if single:
            self.literal(text)
        else:
            self.out.append(f"(?i:{text})" if self.flags["i"] else text)
        self.pos = end

    def class_or_char(self, pos: int) -> tuple[str, int, bool]:
        """What an escape stands for: a class as `[...]`, or one character."""
        pattern = self.pattern
        char = pattern[pos + 1]
        if char.lower() in _CLASSES:
            body = _CLASSES[char.lower()]
            return (f"[^{body}]" if char.isupper() else f"[{body}]"), pos + 2, False
        if char in "pP":
            return self.unicode_class(pos)
        if char in "01234567":
            octal = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}").match(pattern, pos + 1)
            if octal is None:
                raise _error("invalid escape sequence", pattern[pos : pos + 2])
            return chr(int(octal[0], 8)), octal.end(), True
        if char == "x":
            found = re.compile(r"\{([0-9a-fA-F]+)\}|([0-9a-fA-F]{2})").match(pattern, pos + 2)
            if found is None or int(found[1] or found[2], 16) > sys.maxunicode:
                raise _error("invalid escape sequence", pattern[pos : pos + 3])
            return chr(int(found[1] or found[2], 16)), found.end(), True
        named = dict(zip("aftnrv", "\a\f\t\n\r\v", strict=True))
        if char in named:
            return named[char], pos + 2, True
        if char.isascii() and not char.isalnum():
            return char, pos + 2, True
        raise _error("invalid escape sequence", pattern[pos : pos + 2])

    def unicode_class(self, pos: int) -> tuple[str, int, bool]:
        pattern = self.pattern
        found = re.compile(r"\{(\^?)([A-Za-z_]+)\}|([A-Z])").match(pattern, pos + 2)
        if found is None:
            raise _error("invalid character class range", pattern[pos : pos + 3])
        body = _unicode_ranges(found[2] or found[3])
        if body is None:
            raise _error("invalid character class range", pattern[pos : found.end()])
        negated = (pattern[pos + 1] == "P") != bool(found[1])
        return (f"[^{body}]" if negated else f"[{body}]"), found.end(), False

    def bracket(self) -> str:
        pattern, start = self.pattern, self.pos
        pos = start + 1
        negated = pattern.startswith("^", pos)
        pos += negated
        parts: list[str] = []
        first = True
        while first or not pattern.startswith("]", pos):
            if pos >= len(pattern):
                raise _error("missing closing ]", pattern[start:])
            first = False
            posix = re.compile(r"\[:(\^?)([a-z]+):\]").match(pattern, pos)
            if posix:
                if posix[2] not in _POSIX:
                    raise _error("invalid character class range", posix[0])
                parts.append(_inverted(_POSIX[posix[2]]) if posix[1] else _POSIX[posix[2]])
                pos = posix.end()
                continue
            begin = pos
            low, pos, single = self.member(pos)
            if (
                single
                and pattern.startswith("-", pos)
                and pattern[pos + 1 : pos + 2] not in ("]", "")
            ):
                high, pos, single = self.member(pos + 1)
                if not single or high < low:
                    raise _error("invalid character class range", pattern[begin:pos])
                parts.append(f"{re.escape(low)}-{re.escape(high)}")
            else:
                parts.append(re.escape(low) if single else low)
        self.pos = pos + 1
        text = f"[{'^' if negated else ''}{''.join(parts)}]"
        return f"(?i:{text})" if self.flags["i"] else text

    def member(self, pos: int) -> tuple[str, int, bool]:
        pattern = self.pattern
        if pos >= len(pattern):
            raise _error("missing closing ]", pattern[self.pos :])
        if pattern[pos] != "\\":
            return pattern[pos], pos + 1, True
        if pos + 1 >= len(pattern):
            raise Fail("error parsing regexp: trailing backslash at end of expression: ``")
        text, end, single = self.class_or_char(pos)
        if single:
            return text, end, True
        body = text[1:-1]
        return (_inverted(body[1:]) if body.startswith("^") else body), end, False


@lru_cache(maxsize=64)
def _inverted(body: str) -> str:
    """A class as the ranges it does not have."""
    outside = re.compile(f"[^{body}]")
    return _ranges(lambda char: outside.match(char) is not None)


@lru_cache(maxsize=64)
def _unicode_ranges(name: str) -> str | None:
    """The characters of a general category or of one of the common scripts."""
    if name == "Any":
        return r"\x00-\U0010ffff"
    if len(name) <= 2 and name[0] in "LMNPSZC":
        return _ranges(lambda char: unicodedata.category(char).startswith(name)) or None
    script = name.upper()
    known = (
        "LATIN",
        "GREEK",
        "CYRILLIC",
        "ARABIC",
        "HEBREW",
        "HIRAGANA",
        "KATAKANA",
        "HANGUL",
        "THAI",
        "DEVANAGARI",
        "HAN",
    )
    if script not in known:
        return None
    prefix = "CJK UNIFIED" if script == "HAN" else script + " "
    return _ranges(lambda char: unicodedata.name(char, "").startswith(prefix))


def _ranges(holds: object) -> str:
    parts: list[str] = []
    start = -1
    for code in range(0x110001):
        inside = code < 0x110000 and holds(chr(code))  # type: ignore[operator]
        if inside and start < 0:
            start = code
        elif not inside and start >= 0:
            parts.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = -1
    return "".join(parts)

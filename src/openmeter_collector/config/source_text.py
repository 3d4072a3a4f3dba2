"""Config text as it lies in files: read within bounds, environment variables filled in, and a map
back from every place of the result to the place in the file.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from openmeter_collector.config.lint import InvalidConfig, Problem

MAX_FILE_BYTES: Final = 16 << 20
MAX_TEXT_CHARS: Final = 64 << 20

_HEAD: Final = re.compile(r"\$\{(?P<brace>\{?)(?P<name>[0-9A-Za-z_.]++)(?P<then>[:}|])")
_FUNCTION: Final = re.compile(r"([0-9A-Za-z]++)\}")
_FUNCTION_IN_DEFAULT: Final = re.compile(r"(.*)\|([0-9A-Za-z]+)", re.DOTALL)
_SECRET_NAME: Final = re.compile(
    r"TOKEN|SECRET|PASSW|PWD|CREDENTIAL|API_?KEY|PRIVATE|ACCESS_?KEY|AUTH|DSN|(?:^|_)KEY$",
    re.IGNORECASE,
)
LINT_DISABLE: Final = "# BENTHOS LINT DISABLE"


@dataclass(frozen=True, slots=True)
class SourceText:
    """A text after interpolation.

    Attributes:
        file: the name to use in messages.
        text: with variables filled in.
        secrets: values that must never be shown, from variables whose names say so.
        missing: variables that are needed and not set, with the offset in `original` of each.
        bad: what is wrong with single variables otherwise, with the offset of each.
    """

    file: str
    original: str = field(repr=False)
    text: str = field(repr=False)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    missing: tuple[tuple[int, str], ...] = ()
    bad: tuple[tuple[int, str], ...] = ()
    _segments: tuple[tuple[int, int, bool], ...] = ()
    _lines: list[int] = field(default_factory=list)
    _original_lines: list[int] = field(default_factory=list)

    @property
    def lint_disabled(self) -> bool:
        """The author asked that the file be not linted."""
        return self.original.startswith(LINT_DISABLE)

    def locate(self, line: int, col: int) -> tuple[int, int]:
        """Line and column in the file of a line and column of `text`, all from 1."""
        if not self._segments or line > len(self._lines):
            return line, col
        offset = self._lines[line - 1] + col - 1
        index = bisect.bisect_right(self._segments, offset, key=lambda s: s[0]) - 1
        start, source, replaced = self._segments[index]
        return self.place_of(source if replaced else source + offset - start)

    def place_of(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset in `original`, from 1."""
        line = bisect.bisect_right(self._original_lines, offset)
        return line, offset - self._original_lines[line - 1] + 1


def read(path: str | Path) -> str:
    """Read a config file.

    Raises:
        InvalidConfig: not there, not readable, too large, or not UTF-8.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise _unreadable(name, f"{reason}", "name a file that exists and can be read") from None
    if len(raw) > MAX_FILE_BYTES:
        raise _unreadable(name, f"larger than {MAX_FILE_BYTES} bytes", "split it into resources")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(name, f"not UTF-8 at byte {error.start}", "save it as UTF-8") from None


def _unreadable(name: str, text: str, hint: str) -> InvalidConfig:
    return InvalidConfig([Problem(name, 1, 1, "unreadable", text, hint=hint)])


@dataclass(frozen=True, slots=True)
class _Variable:
    start: int
    end: int
    name: str
    default: str | None
    function: str
    escaped: bool


def _variables(text: str) -> Iterator[_Variable]:
    """Everything in a text that interpolation replaces. By hand, so that its time is linear."""
    at = 0
    scan = _Scan(text)
    while (head := _HEAD.search(text, at)) is not None:
        found = scan.variable(head)
        if found is None:
            at = head.start() + 2
        else:
            yield found
            at = found.end


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text
        self._close = 0  # the next `}`, as far as one was looked for; -1 when there is none left

    def variable(self, head: re.Match[str]) -> _Variable | None:
        end, default, function = head.end(), None, ""
        if head["then"] == ":":
            close = self._end_of_default(end)
            if close < 0:
                return None
            default, end = self._text[end:close], close + 1
        elif head["then"] == "|":
            called = _FUNCTION.match(self._text, end)
            if called is None or head["brace"]:
                return None
            function, end = called[1], called.end()
        if head["brace"]:
            if not self._text.startswith("}", end):
                return None
            end += 1
        return _Variable(
            head.start(), end, head["name"], default, function, escaped=bool(head["brace"])
        )

    def _end_of_default(self, at: int) -> int:
        """The `}` that ends a default which begins here, past variables inside; -1 for none."""
        while True:
            close = self._next_close(at)
            inner = self._text.find("${", at, close) if close >= 0 else -1
            if inner < 0 or inner + 2 == close:
                return close
            at = close + 1

    def _next_close(self, at: int) -> int:
        if 0 <= self._close < at:
            self._close = self._text.find("}", at)
        return self._close


def has_variables(text: str) -> bool:
    """Whether interpolation would change the text, or complain about it."""
    return next(_variables(text), None) is not None


def names_in(text: str) -> dict[str, str | None]:
    """Variables that a text asks for, each with its default; None for one that has to be set."""
    found: dict[str, str | None] = {}
    for one in _variables(text):
        if one.escaped:
            continue
        known = found.setdefault(one.name, one.default)
        if one.default is None or known is None:
            found[one.name] = None
    return found


def sounds_secret(name: str) -> bool:
    """Whether a variable's name says that its value must not be shown."""
    return _SECRET_NAME.search(name) is not None


def interpolate(text: str, env: Mapping[str, str], file: str = "") -> SourceText:
    r"""Fill in `${NAME}`, `${NAME:default}` and `${NAME|base64decode}`; `${{NAME}}` stays `${NAME}`.

    A set but empty variable counts as not set where there is a default. Newlines become `\n`, so
    that a value stays inside the line it is written in. Faults are in the result, not raised.
    """
    run = _Interpolation(env)
    out: list[str] = []
    segments: list[tuple[int, int, bool]] = []
    length = last = 0
    for found in _variables(text):
        plain, value = text[last : found.start], run.replace(found, found.start)
        segments += [(length, last, False), (length + len(plain), found.start, True)]
        out += [plain, value]
        length += len(plain) + len(value)
        last = found.end
        if length > MAX_TEXT_CHARS:
            raise _unreadable(file, "too long once variables are filled in", "shorten the values")
    segments.append((length, last, False))
    result = "".join([*out, text[last:]])
    return SourceText(
        file=file,
        original=text,
        text=result,
        secrets=frozenset(run.secrets),
        missing=tuple(run.missing),
        bad=tuple(run.bad),
        _segments=tuple(segments),
        _lines=_line_starts(result),
        _original_lines=_line_starts(text),
    )


class _Interpolation:
    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.secrets: set[str] = set()
        self.missing: list[tuple[int, str]] = []
        self.bad: list[tuple[int, str]] = []

    def replace(self, found: _Variable, at: int) -> str:
        name, default, function = found.name, found.default, found.function
        if found.escaped:
            return "${" + name + ("" if default is None else f":{default}") + "}"
        if default and (called := _FUNCTION_IN_DEFAULT.fullmatch(default)):
            default, function = called[1], called[2]
        value = self._env.get(name)
        if not value and default is not None:
            value = self._nested(default, at)
        elif value is None:
            self.missing.append((at, name))
            return ""
        elif _SECRET_NAME.search(name):
            self.secrets |= {value, value.replace("\n", "\\n")}
        if function:
            value = self._decode(value, function, name, at)
        return value.replace("\n", "\\n")

    def _nested(self, text: str, at: int) -> str:
        out, last = [], 0
        for found in _variables(text):
            out += [text[last : found.start], self.replace(found, at)]
            last = found.end
        return "".join([*out, text[last:]])

    def _decode(self, value: str, function: str, name: str, at: int) -> str:
        if function != "base64decode":
            self.bad.append((at, f"unknown env var decode function: {function}"))
            return ""
        try:
            decoded = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            self.bad.append((at, f"environment variable {name} is not base64 of a text"))
            return ""
        if decoded and _SECRET_NAME.search(name):
            self.secrets.add(decoded)
        return decoded


def _line_starts(text: str) -> list[int]:
    # The same line ends as libyaml counts.
    return [0, *(match.end() for match in re.finditer("\r\n|[\r\n\x85\u2028\u2029]", text))]

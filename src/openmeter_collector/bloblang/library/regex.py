"""Methods with regular expressions, in the syntax of RE2."""

from __future__ import annotations

import re
from typing import Any

from openmeter_collector.bloblang.convert import text_or_bytes
from openmeter_collector.bloblang.definition import Case, method
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.gotext.linear import Found
from openmeter_collector.bloblang.gotext.regex import Pattern, compile_pattern
from openmeter_collector.bloblang.library.text import MAX_TEXT, like
from openmeter_collector.values.kinds import Value

_PARAMS = {"pattern": "A regular expression."}


def _group(match: re.Match[str] | Found, index: int) -> str:
    return match[index] or ""


@method(
    "regex",
    prepared=True,
    cases=[Case('root = this.re_match("[0-9]")', '"there are 10"', "true")],
    params=_PARAMS,
)
def re_match(pattern: str) -> Any:
    """Whether an expression matches anywhere in the text."""
    search = compile_pattern(pattern).search
    return lambda value: search(text_or_bytes(value)) is not None


@method(
    "regex",
    prepared=True,
    cases=[Case('root = this.re_find_all("a.")', '"paranormal"', '["ar","an","al"]')],
    params=_PARAMS,
)
def re_find_all(pattern: str) -> Any:
    """All matches."""
    compiled = compile_pattern(pattern)
    return lambda value: [match[0] for match in compiled.found(text_or_bytes(value))]


@method(
    "regex",
    prepared=True,
    cases=[
        Case(
            'root = this.re_find_all_submatch("a(x*)b")', '"-axxb-ab-"', '[["axxb","xx"],["ab",""]]'
        )
    ],
    params=_PARAMS,
)
def re_find_all_submatch(pattern: str) -> Any:
    """All matches, each with its groups."""
    compiled = compile_pattern(pattern)
    size = len(compiled.names) + 1
    return lambda value: [
        [_group(match, index) for index in range(size)]
        for match in compiled.found(text_or_bytes(value))
    ]


def _named(compiled: Pattern, match: re.Match[str] | Found, value: Value) -> dict[str, Value]:
    names = ("0", *(name or str(index) for index, name in enumerate(compiled.names, 1)))
    return {name: like(value, _group(match, index)) for index, name in enumerate(names)}


@method(
    "regex",
    prepared=True,
    cases=[
        Case(
            'root = this.re_find_object("a(?P<foo>x*)b")', '"-axxb-ab-"', '{"0":"axxb","foo":"xx"}'
        )
    ],
    params=_PARAMS,
)
def re_find_object(pattern: str) -> Any:
    """The first match with its groups as an object, by name or number."""
    compiled = compile_pattern(pattern)

    def run(value: Value) -> Value:
        match = compiled.search(text_or_bytes(value))
        return {} if match is None else _named(compiled, match, value)

    return run


@method(
    "regex",
    prepared=True,
    cases=[
        Case(
            'root = this.re_find_all_object("a(?P<foo>x*)b")',
            '"-axxb-ab-"',
            '[{"0":"axxb","foo":"xx"},{"0":"ab","foo":""}]',
        )
    ],
    params=_PARAMS,
)
def re_find_all_object(pattern: str) -> Any:
    """All matches with their groups as objects, by name or number."""
    compiled = compile_pattern(pattern)
    return lambda value: [
        _named(compiled, match, value) for match in compiled.found(text_or_bytes(value))
    ]


_REFERENCE = re.compile(r"\$(?:\$|\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")


@method(
    "regex",
    prepared=True,
    cases=[
        Case('root = this.re_replace_all("ADD ([0-9]+)", "+($1)")', '"foo ADD 70"', "foo +(70)")
    ],
    params={
        "pattern": "A regular expression.",
        "value": "The replacement; `$1` or `${name}` is a group.",
    },
)
def re_replace_all(pattern: str, value: str) -> Any:
    """Replace all matches."""
    compiled = compile_pattern(pattern)

    def replacement(match: re.Match[str] | Found) -> str:
        def group(reference: re.Match[str]) -> str:
            name = reference[1] or reference[2]
            if name is None:
                return "$"
            if name.isdigit():
                index = int(name)
            else:
                index = compiled.names.index(name) + 1 if name in compiled.names else -1
            return _group(match, index) if 0 <= index <= len(compiled.names) else ""

        return _REFERENCE.sub(group, value)

    def run(receiver: Value) -> Value:
        text = text_or_bytes(receiver)
        parts: list[str] = []
        last = size = 0
        for match in compiled.found(text):
            parts += (text[last : match.start()], replacement(match))
            last = match.end()
            size += len(parts[-1])
            if size > MAX_TEXT:
                raise Fail("the replacements make more than 64 MiB")
        return "".join(parts) + text[last:]

    return run


@method(
    "regex",
    prepared=True,
    status="deprecated",
    cases=[Case('root = this.re_replace("o+", "0")', '"foo boo"', "f0 b0")],
    params={"pattern": "A regular expression.", "value": "The replacement."},
)
def re_replace(pattern: str, value: str) -> Any:
    """Replace all matches; `re_replace_all` is the newer name."""
    return re_replace_all.call(pattern, value)


ENTRIES = (
    re_match,
    re_find_all,
    re_find_all_submatch,
    re_find_object,
    re_find_all_object,
    re_replace_all,
    re_replace,
)

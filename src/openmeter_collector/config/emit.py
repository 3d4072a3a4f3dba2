"""Plain values as YAML that reads back as the same values, also through interpolation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from openmeter_collector.config.source_text import has_variables
from openmeter_collector.config.tree import resolve

_BARE: Final = re.compile(
    r"[A-Za-z_./][\w./@+\-]*(?: [A-Za-z][\w./@+\-]*)*|(?:\d+(?:\.\d+)?(?:[mnu]?s|m|h|[KMGT]i?B))+",
    re.ASCII,
)
_OLD_BOOL: Final = re.compile(r"y|n|yes|no|on|off", re.IGNORECASE)
_BLOCK: Final = re.compile(r"(?:[^\s][^\n]*\n)(?:[^\n]*\n)*[^\n]*[^\s]\n?")
_UNPRINTABLE: Final = re.compile(r"[^\n\x20-\x7e\xa1-\ud7ff\ue000-\ufefe\uff00-\ufffd]")
_ESCAPED: Final = re.compile(
    r'["\\]|[^\x20-\x7e\xa1-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]'
)


@dataclass(frozen=True, slots=True)
class Remark:
    """A value with a comment to be written above its key."""

    value: Any
    comment: str


def to_yaml(value: Mapping[str, Any]) -> str:
    """Write an object, its keys in the order given."""
    return "".join(f"{line}\n" for line in _mapping(value)) or "{}\n"


def _mapping(value: Mapping[str, Any]) -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, Remark):
            for line in inner.comment.splitlines():
                yield f"# {line}".rstrip()
            inner = inner.value  # noqa: PLW2901 - the value is what was meant
        yield from _under(f"{_word(key)}:", inner, indent="  ")


def _under(head: str, value: Any, indent: str) -> Iterator[str]:
    """A key or a dash, and what belongs to it."""
    if isinstance(value, Mapping) and value:
        yield head
        yield from (indent + line for line in _mapping(value))
    elif isinstance(value, list | tuple) and value:
        yield head
        yield from (indent + line for line in _sequence(value))
    elif isinstance(value, str) and _fits_block(value):
        yield f"{head} |{'' if value.endswith(chr(10)) else '-'}"
        yield from (indent + line if line else "" for line in value.removesuffix("\n").split("\n"))
    else:
        yield f"{head} {_word(value)}"


def _sequence(value: Sequence[Any]) -> Iterator[str]:
    for item in value:
        if isinstance(item, Mapping) and item:
            lines = list(_mapping(item))
            if not lines[0].startswith("#"):
                yield f"- {lines[0]}"
                yield from (f"  {line}" if line else "" for line in lines[1:])
                continue
        yield from _under("-", item, indent="  ")


def _fits_block(text: str) -> bool:
    return (
        "\n" in text
        and _BLOCK.fullmatch(text) is not None
        and not _UNPRINTABLE.search(text)
        and not has_variables(text)
    )


def _word(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float() if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124
            return ".nan" if value != value else (".inf" if value > 0 else "-.inf")  # noqa: PLR0124
        case int() | float():
            return repr(value)
        case str():
            return _string(value)
    return "[]" if isinstance(value, list | tuple) else "{}"


def _string(text: str) -> str:
    bare = _BARE.fullmatch(text) and not _OLD_BOOL.fullmatch(text)
    if bare and isinstance(resolve(text), str):
        return text
    quoted = _ESCAPED.sub(_escape, text)
    if has_variables(quoted):
        quoted = quoted.replace("$", "\\x24")
    return f'"{quoted}"'


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char in '"\\':
        return "\\" + char
    code = ord(char)
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    if known:
        return known
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )

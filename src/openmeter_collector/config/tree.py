"""YAML as a tree in which every value knows its place.

Built from the parser's events, because those tell a quoted `5` from a bare one and let depth, size
and aliases be bounded while reading. Anchors and merge keys are resolved here; what a bare word
means is decided later by the type of the field that it is for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

MAX_DEPTH: Final = 100
MAX_NODES: Final = 500_000
"""Nodes of a document, each alias counted with all it stands for."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[oO]?[0-7_]+|0[bB][01_]+|[0-9][0-9_]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL_FLOAT: Final = {
    sign + word: float(sign + word[1:])
    for sign in ("", "+", "-")
    for word in (".inf", ".Inf", ".INF")
} | dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan"))


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a file, both from 1."""

    file: str
    line: int
    col: int

    def __str__(self) -> str:
        return f"{self.file or '<config>'}:{self.line}:{self.col}"


class BadYaml(Exception):
    """The text is not YAML, or goes beyond a bound.

    `lint` holds the words that `lint` prints when they differ from ours.
    """

    def __init__(self, place: Place, text: str, hint: str = "", lint: str = "") -> None:
        self.place, self.text, self.hint, self.lint = place, text, hint, lint
        super().__init__(text)


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A word.

    `style` is `plain` or how it is quoted: `'`, `"`, `|`, `>`; a plain one tagged `!!str` is quoted.
    """

    text: str
    style: str
    place: Place
    indent: int = 0
    """Of a block (`|`): how many columns stand before its text."""

    @property
    def is_null(self) -> bool:
        """Nothing, or a word for it."""
        return self.style == "plain" and self.text in _NULL

    @property
    def tag(self) -> str:
        """What YAML takes it for, in short: `!!str`, `!!int`, `!!float`, `!!bool`, `!!null`."""
        value = self.value()
        names = {type(None): "!!null", bool: "!!bool", int: "!!int", float: "!!float"}
        return names.get(type(value), "!!str")

    def value(self) -> bool | int | float | str | None:
        """The plain Python value, by YAML's core rules."""
        if self.style != "plain":
            return self.text
        return resolve(self.text)


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """A list."""

    items: tuple[Tree, ...]
    place: Place
    tag: str = "!!seq"

    def value(self) -> list[Any]:
        """The plain Python value."""
        return [item.value() for item in self.items]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A key and its value."""

    key: str
    place: Place
    value: Tree


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """Keys to values, in the order written; merged ones last."""

    entries: dict[str, Entry]
    place: Place
    tag: str = "!!map"

    def value(self) -> dict[str, Any]:
        """The plain Python value."""
        return {key: entry.value.value() for key, entry in self.entries.items()}

    def get(self, key: str) -> Tree | None:
        """The value of a key."""
        entry = self.entries.get(key)
        return entry.value if entry else None


Tree = Scalar | Sequence | Mapping


def resolve(text: str) -> bool | int | float | str | None:
    """What a bare word means."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if (number := parse_int(text)) is not None:
        return number
    if (real := parse_float(text)) is not None:
        return real
    return text


def parse_int(text: str) -> int | None:
    """A whole number as YAML writes it (`0x1f`, `0o17`, `017`, `1_000`), or None."""
    if not _INT.fullmatch(text):
        return None
    bare = text.replace("_", "")
    digits = bare.lstrip("+-")
    try:
        if re.fullmatch(r"0[0-7]+", digits):
            number = int(digits, 8)
        else:
            number = int(digits, 0) if not digits.isdigit() else int(digits)
    except ValueError:  # such as 08, or more digits than Python converts
        return None
    return -number if bare.startswith("-") else number


def parse_float(text: str) -> float | None:
    """A number as YAML writes it, or None."""
    if text in _SPECIAL_FLOAT:
        return _SPECIAL_FLOAT[text]
    if not _FLOAT.fullmatch(text):
        return None
    try:
        number = float(text.replace("_", ""))
    except ValueError:
        return None
    return None if number in (float("inf"), float("-inf")) else number  # too large to be one


def parse(
    text: str,
    file: str = "",
    locate: Callable[[int, int], tuple[int, int]] | None = None,
    more: Callable[[Place], None] | None = None,
) -> Tree | None:
    """Read the first document of a text; None when there is none.

    Args:
        locate: turns a line and column (from 1) of `text` into those of the original file.
        more: told where a second document begins, which is not read.

    Raises:
        BadYaml: it cannot be read, or goes beyond a bound.
    """
    builder = _Builder(text, file, locate or (lambda line, col: (line, col)))
    try:
        events = yaml.parse(text, Loader=_Loader)
        made = builder.document(events)
        if more is not None and (second := builder.next_document(events)) is not None:
            more(second)
    except UnicodeError:  # half of a surrogate pair
        raise BadYaml(Place(file, 1, 1), "text that is not Unicode") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = builder.place(mark) if mark else Place(file, 1, 1)
        problem = error.problem or "not YAML"
        raise BadYaml(place, problem, lint=f"yaml: line {place.line}: {problem}") from None
    except yaml.YAMLError as error:
        raise BadYaml(Place(file, 1, 1), f"not YAML: {error}".splitlines()[0]) from None
    return made


class _Builder:
    """Turns events into a tree."""

    def __init__(self, text: str, file: str, locate: Callable[[int, int], tuple[int, int]]) -> None:
        self._text = text
        self._lines: list[str] | None = None
        self._file = file
        self._locate = locate
        self._anchors: dict[str, tuple[Tree, int]] = {}
        self._events: Iterator[Any] = iter(())
        self._count = 0

    def place(self, mark: Any) -> Place:
        line, col = self._locate(mark.line + 1, mark.column + 1)
        return Place(self._file, line, col)

    def document(self, events: Iterator[Any]) -> Tree | None:
        self._events = events
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                return self._node(next(events), 0)
        return None

    def next_document(self, events: Iterator[Any]) -> Place | None:
        try:
            for event in events:
                if isinstance(event, yaml.DocumentStartEvent):
                    return self.place(event.start_mark)
        except yaml.YAMLError:
            pass  # what follows the first document is not read, so it cannot be wrong
        return None

    def _node(self, event: Any, depth: int) -> Tree:
        place = self.place(event.start_mark)
        if depth > MAX_DEPTH:
            raise BadYaml(place, f"nested more than {MAX_DEPTH} deep", "make it flatter")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place)
        before = self._count
        self._spend(1, place)
        made: Tree
        if isinstance(event, yaml.ScalarEvent):
            made = self._scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            made = self._sequence(place, depth)
        else:
            made = self._mapping(place, depth)
        if event.anchor:
            self._anchors[event.anchor] = (made, self._count - before)
        return made

    def _spend(self, nodes: int, place: Place) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            raise BadYaml(
                place, f"more than {MAX_NODES} values, aliases expanded", "use fewer aliases"
            )

    def _alias(self, event: Any, place: Place) -> Tree:
        if event.anchor not in self._anchors:
            text = f"unknown anchor '{event.anchor}' referenced"
            raise BadYaml(place, text, f"write &{event.anchor} before it", lint=f"yaml: {text}")
        made, size = self._anchors[event.anchor]
        self._spend(size, place)
        return made

    def _scalar(self, event: Any, place: Place) -> Scalar:
        style = event.style or "plain"
        if style == "plain" and event.tag in ("tag:yaml.org,2002:str", "!"):
            style = "'"
        indent = self._indent(event) if style == "|" else 0
        return Scalar(event.value, style, place, indent)

    def _indent(self, event: Any) -> int:
        if self._lines is None:
            self._lines = self._text.split("\n")
        first = event.value.lstrip("\n").partition("\n")[0]
        for line in self._lines[event.start_mark.line + 1 :]:
            if line.strip():
                return max(0, len(line.rstrip("\r")) - len(first))
        return 0

    def _sequence(self, place: Place, depth: int) -> Sequence:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Sequence(tuple(items), place)

    def _mapping(self, place: Place, depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        merges: list[Tree] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                raise BadYaml(key.place, "a key that is a list or an object", "write a word")
            if key.text == "<<" and key.style == "plain":
                merges.append(value)
                continue
            if (first := entries.get(key.text)) is not None:
                raise BadYaml(
                    key.place,
                    f"key {key.text!r} is given twice, first in line {first.place.line}",
                    "keep one of them",
                    lint=f'yaml: line {key.place.line}: mapping key "{key.text}" already defined '
                    f"at line {first.place.line}",
                )
            entries[key.text] = Entry(key.text, key.place, value)
        for merge in merges:
            _merge(entries, merge)
        return Mapping(entries, place)


def _merge(entries: dict[str, Entry], merge: Tree) -> None:
    """Add what is not there yet; of several the earlier wins."""
    sources = merge.items if isinstance(merge, Sequence) else (merge,)
    for source in sources:
        if not isinstance(source, Mapping):
            raise BadYaml(
                source.place,
                "a merge key (<<) with something that is not an object",
                "merge an alias of an object",
                lint="yaml: map merge requires map or sequence of maps as the value",
            )
        for key, entry in source.entries.items():
            entries.setdefault(key, entry)

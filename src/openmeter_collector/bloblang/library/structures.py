"""Methods on whole structures: differences, queries, nested mappings, markup."""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser
from typing import Any, Final

from openmeter_collector.bloblang import paths
from openmeter_collector.bloblang.arithmetic import OPERATIONS
from openmeter_collector.bloblang.convert import get_string, to_string
from openmeter_collector.bloblang.definition import Case, Registry, method
from openmeter_collector.bloblang.failure import Fail, machine_type
from openmeter_collector.values.kinds import NOTHING, Value

# Differences -------------------------------------------------------------------------------


_TYPES_DIFFER: Final = " types do not match (cause count 0)\n"


def _kind(value: Value) -> str:
    """What a value is to a comparison; a number of a document is its text."""
    name = machine_type(value)
    return "string" if name == "json.Number" else name


def _same(left: Value, right: Value) -> bool:
    """Whether nothing at all differs."""
    if _kind(left) != _kind(right):
        return False
    if type(left) is dict:
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if type(left) is list:
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(to_string(left) == to_string(right))


def _without_partner(mine: list[Value], others: list[Value]) -> list[int]:
    """The positions of elements that the other array has no equal of."""
    free = list(others)
    found: list[int] = []
    for index, one in enumerate(mine):
        at = next((at for at, other in enumerate(free) if _same(one, other)), None)
        if at is None:
            found.append(index)
        else:
            del free[at]
    return found


def _changes(left: Value, right: Value, path: list[str], made: list[Value]) -> None:
    if _same(left, right):
        return
    if left is None or right is None:
        _change(made, "update" if path else "delete", path, left, right)
        return
    if _kind(left) != _kind(right):
        raise Fail(_TYPES_DIFFER)
    if type(left) is dict:
        for key in sorted({*left, *right}):
            here = [*path, key]
            if key not in right:
                _change(made, "delete", here, left[key], None)
            elif key not in left:
                _change(made, "create", here, None, right[key])
            else:
                _changes(left[key], right[key], here, made)
        return
    if type(left) is not list:
        _change(made, "update", path, left, right)
        return
    gone = set(_without_partner(left, right))
    new = set(_without_partner(right, left))
    for index in sorted(gone | new):
        here = [*path, str(index)]
        if index not in new:
            _change(made, "delete", here, left[index], None)
        elif index not in gone:
            _change(made, "create", here, None, right[index])
        else:
            _changes(left[index], right[index], here, made)


def _change(made: list[Value], kind: str, path: list[str], old: Value, new: Value) -> None:
    made.append({"Type": kind, "Path": list(path), "From": old, "To": new})


@method(
    "objects",
    plugin=True,
    cases=[
        Case(
            "root = this.a.diff(this.b)",
            '{"a":{"x":1},"b":{"x":2}}',
            '[{"From":1,"Path":["x"],"To":2,"Type":"update"}]',
        )
    ],
    params={"other": "The newer value."},
)
def diff(value: Value, other: Any) -> Value:
    """What changed from the value to another, as an array of changes.

    Elements of arrays may change places; only those that came or went are changes.
    """
    if value is None:
        return None
    made: list[Value] = []
    _changes(value, other, [], made)
    return sorted(made, key=lambda change: ".".join(change["Path"]))


@method(
    "objects",
    plugin=True,
    prepared=True,
    cases=[
        Case(
            'root = this.patch([{"Type":"update","Path":["x"],"From":1,"To":2}])',
            '{"x":1}',
            '{"x":2}',
        )
    ],
    params={"changelog": "The changes, as `diff` gives them."},
)
def patch(changelog: Any) -> Any:
    """The value with changes made to it."""
    if changelog is None:
        changelog = []
    if not isinstance(changelog, list):
        kind = {dict: "map"}.get(type(changelog)) or machine_type(changelog)
        raise Fail(f"'' source data must be an array or slice, got {kind}")
    changes = [_read_change(change) for change in changelog]

    def run(value: Value) -> Value:
        if value is None:
            return None
        for kind, path, new in changes:
            if not path:
                value = new if kind == "update" else value
            elif kind == "delete":
                value = _removed(value, path)
            elif kind in ("create", "update"):
                found = paths.get(value, path[:-1]) if len(path) > 1 else value
                appends = type(found) is list and path[-1:] == (str(len(found)),)
                value = paths.put(value, (*path[:-1], "-") if appends else path, new)
        return value

    return run


def _removed(value: Value, path: tuple[str, ...]) -> Value:
    """Without what is at a path; in an array the last element takes its place, as `diff` counts."""
    found = paths.get(value, path[:-1]) if len(path) > 1 else value
    if type(found) is not list or not path[-1].isdecimal() or int(path[-1]) >= len(found):
        return paths.remove(value, path)
    shorter = list(found)
    shorter[int(path[-1])] = shorter[-1]
    shorter.pop()
    return paths.put(value, path[:-1], shorter) if len(path) > 1 else shorter


def _read_change(change: Value) -> tuple[str, tuple[str, ...], Value]:
    """Type, path and new value of a change; the names of its fields may be in any case."""
    fields = {key.lower(): one for key, one in change.items()} if type(change) is dict else {}
    path = fields.get("path", [])
    if type(change) is not dict or type(path) is not list:
        raise Fail("a change must be an object with Type, Path, From and To")
    return (
        get_string(fields.get("type", "")),
        tuple(get_string(segment) for segment in path),
        fields.get("to"),
    )


_UNREADABLE: Final = "evaluating json path expression: parsing error: "


# Queries -----------------------------------------------------------------------------------

_STEP: Final = re.compile(
    r"\.\.(?P<deep>[A-Za-z_][\w]*|\*)|\.(?P<name>[A-Za-z_][\w-]*|\*)"
    r"|\[(?P<quoted>'[^']*'|\"[^\"]*\")\]|\[(?P<index>-?\d+|\*)\]"
    r"|\[(?P<slice>-?\d*:-?\d*(?::-?\d+)?)\]|\[\?\((?P<filter>.+?)\)\]"
)
_FILTER: Final = re.compile(r"@((?:\.[\w-]+|\['[^']*'\])*)\s*(?:(==|!=|<=|>=|<|>)\s*(.+))?")


def _select(value: Value, name: str) -> list[Value]:
    if name == "*":
        if type(value) is dict:
            return [value[key] for key in sorted(value)]
        return list(value) if type(value) is list else []
    if type(value) is dict:
        if name not in value:
            raise Fail(f"unknown key {name}")
        return [value[name]]
    if type(value) is list:
        if not re.fullmatch(r"-?\d+", name):
            text = f"could not select value, invalid key: expected number but got {name} (string)"
            raise Fail(text)
        at = int(name)
        at = at + len(value) if at < 0 else at
        if not 0 <= at < len(value):
            raise Fail(f"index {at} out of bounds")
        return [value[at]]
    kind = machine_type(value)
    raise Fail(
        f"unsupported value type {kind} for select, expected map[string]interface{{}} or []interface{{}}"
    )


def _deep(value: Value, name: str, made: list[Value]) -> None:
    if type(value) is dict:
        if name == "*":
            made.extend(value[key] for key in sorted(value))
        elif name in value:
            made.append(value[name])
        for key in sorted(value):
            _deep(value[key], name, made)
    elif type(value) is list:
        if name == "*":
            made.extend(value)
        for one in value:
            _deep(one, name, made)


def _passes(value: Value, condition: str) -> bool:
    found = _FILTER.fullmatch(condition.strip())
    if found is None:
        raise Fail(f"parsing error: {condition}")
    segments = [part.strip("[]'") for part in re.findall(r"\.([\w-]+|\['[^']*'\])", found[1])]
    here = paths.find(value, segments)
    if here is paths.MISSING:
        return False
    if found[2] is None:
        return here is not None and here is not False
    from openmeter_collector.values import json as value_json  # noqa: PLC0415

    literal = found[3].strip()
    wanted: Value = literal[1:-1] if literal[:1] in "'\"" else value_json.loads(literal.encode())
    try:
        return bool(OPERATIONS[found[2]](here, wanted))
    except Fail:
        return False


@method(
    "objects",
    plugin=True,
    prepared=True,
    cases=[Case('root = this.json_path("$..name")', '{"name":"a","x":{"name":"b"}}', '["a","b"]')],
    params={"expression": "A JSONPath expression."},
)
def json_path(expression: str) -> Any:
    """What a JSONPath expression finds."""
    if not expression.startswith("$"):
        raise Fail(f"{_UNREADABLE}{expression}\t:1:1 - 1:2 unexpected {expression[:1]!r}")
    steps: list[tuple[str, str]] = []
    pos = 1
    while pos < len(expression):
        match = _STEP.match(expression, pos)
        if match is None or match.lastgroup is None:
            raise Fail(f"{_UNREADABLE}{expression}\t:1:{pos + 1}")
        steps.append((match.lastgroup, match[match.lastgroup]))
        pos = match.end()
    many = any(kind in ("deep", "slice", "filter") or text == "*" for kind, text in steps)

    def run(value: Value) -> Value:
        found = [value]
        for kind, text in steps:
            found = _step(found, kind, text, many)
        return found if many else found[0]

    return run


def _step(found: list[Value], kind: str, text: str, many: bool) -> list[Value]:
    made: list[Value] = []
    for one in found:
        if kind == "deep":
            _deep(one, text, made)
        elif kind == "filter":
            children = one.values() if type(one) is dict else one if type(one) is list else ()
            made.extend(child for child in children if _passes(child, text))
        elif kind == "slice":
            bounds = [int(part) if part else None for part in text.split(":")]
            made.extend(one[slice(*bounds)] if type(one) is list else ())
        else:
            name = text[1:-1] if kind == "quoted" else text
            try:
                made.extend(_select(one, name))
            except Fail:
                if not many:
                    raise
    return made


# Nested mappings ---------------------------------------------------------------------------

_IMPURE: Final = frozenset({"messages", "environment"})


@method(
    "general",
    prepared=True,
    plugin=True,
    status="beta",
    marks=True,
    cases=[
        Case(
            "root = this.doc.bloblang(this.mapping)",
            '{"doc":{"a":"x"},"mapping":"root.b = this.a.uppercase()"}',
            '{"b":"X"}',
        )
    ],
    params={"mapping": "The mapping."},
)
def bloblang(mapping: str) -> Any:
    """Run a mapping that is data; it sees neither message nor machine."""
    from openmeter_collector.bloblang import (  # noqa: PLC0415 - the language knows its library
        STANDARD,
        MappingError,
        MappingFailed,
        Services,
        compile,  # noqa: A004
    )
    from openmeter_collector.bloblang.document import ValueDocument  # noqa: PLC0415

    def no_files(_: str) -> bytes:
        raise OSError(0, "imports are disabled in this context")

    registry = Registry(entry for entry in STANDARD if entry.category not in _IMPURE)
    try:
        compiled = compile(mapping, registry=registry, services=Services(env={}, read=no_files))
    except MappingError as error:
        raise Fail(error.lint()) from None

    def run(value: Value) -> Value:
        try:
            return compiled.value(ValueDocument(value))
        except MappingFailed as failed:
            raise Fail(str(failed)) from None

    return run


# Markup and slugs --------------------------------------------------------------------------


_ENTITIES: Final = str.maketrans(
    {"&": "&amp;", "'": "&#39;", '"': "&#34;", "<": "&lt;", ">": "&gt;"}
)


class _Stripper(HTMLParser):
    """Keeps the text, and the elements that are allowed."""

    _SILENT: Final = frozenset(
        {"script", "style", "title", "iframe", "noscript", "object", "embed"}
    )

    def __init__(self, kept: frozenset[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.kept = kept
        self.out: list[str] = []
        self.silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """Keep an allowed tag, without its attributes."""
        if tag in self._SILENT and tag not in self.kept:
            self.silent.append(tag)
        elif tag in self.kept and not self.silent:
            self.out.append(f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        """Close an allowed tag."""
        if self.silent and self.silent[-1] == tag:
            self.silent.pop()
        elif tag in self.kept and not self.silent:
            self.out.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        """Keep text, escaped."""
        if not self.silent:
            self.out.append(data.translate(_ENTITIES))


@method(
    "strings",
    plugin=True,
    prepared=True,
    cases=[
        Case("root = this.strip_html()", '"<p>a <b>c</b></p>"', "a c"),
        Case('root = this.strip_html(["b"])', '"<p>a <b>c</b></p>"', "a <b>c</b>"),
    ],
    params={"preserve": "Names of elements to keep."},
)
def strip_html(preserve: Any = None) -> Any:
    """Text without HTML elements."""
    kept = (
        frozenset(get_string(name) for name in preserve)
        if isinstance(preserve, list)
        else frozenset()
    )

    def run(value: Value) -> str:
        stripper = _Stripper(kept)
        stripper.feed(get_string(value))
        stripper.close()
        return "".join(stripper.out)

    return run


_SIGNS: Final = {
    "cs": ("a", "zavinac"), "de": ("und", "an"), "en": ("and", "at"), "es": ("y", "en"),
    "fi": ("ja", "at"), "fr": ("et", "arobase"), "gr": ("kai", "-"), "id": ("dan", "-"),
    "it": ("e", "chiocciola"), "kk": ("jane", "-"), "nb": ("og", "at"), "nn": ("og", "at"),
    "nl": ("en", "at"), "pl": ("i", "na"), "pt": ("e", "em"), "ro": ("si", "-"),
    "sl": ("in", "-"), "sv": ("och", "snabel a"), "tr": ("ve", "et"), "hu": ("-", "-"),
    "bg": ("-", "-"),
}  # fmt: skip
"""What `&` and `@` are called in a language."""

_PUNCTUATION: Final = str.maketrans(
    {'"': None, "'": None, "\u2019": None, **dict.fromkeys("\u2012\u2013\u2014\u2015", "-")}
)
_FOLD: Final = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "Æ": "AE",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "œ": "oe",
        "þ": "th",
        "ð": "d",
        "\u0131": "i",
    }
)
_SPELLED: Final = {
    "de": str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"}),
    "nb": str.maketrans({"æ": "ae", "ø": "oe", "å": "aa", "Æ": "Ae", "Ø": "Oe", "Å": "Aa"}),
    "nn": str.maketrans({"æ": "ae", "ø": "oe", "å": "aa", "Æ": "Ae", "Ø": "Oe", "Å": "Aa"}),
    "sl": str.maketrans({"Đ": "DZ", "đ": "dz"}),
}
"""Letters that a language writes as several."""


@method(
    "strings",
    plugin=True,
    prepared=True,
    cases=[Case("root = this.slug()", '"Gopher & Bloblang"', "gopher-and-bloblang")],
    params={"lang": "The language, such as `en` or `fr`."},
)
def slug(lang: str = "en") -> Any:
    """Text as a part of a URL that people can read."""
    lang = lang.lower()
    signs = _SIGNS.get(lang, _SIGNS["en"])

    def run(value: Value) -> str:
        text = get_string(value).strip().translate(_PUNCTUATION)
        for sign, word in zip("&@", signs, strict=True):
            text = text.replace(sign, word)
        text = text.translate(_SPELLED.get(lang, {}))
        text = unicodedata.normalize("NFKD", text.translate(_FOLD))
        text = "".join(char for char in text if char.isascii()).lower()
        return re.sub(r"-+", "-", re.sub(r"[^a-z0-9_-]+", "-", text)).strip("-_")

    return run


ENTRIES = (diff, patch, json_path, bloblang, strip_html, slug)

__all__ = ["ENTRIES", "NOTHING"]

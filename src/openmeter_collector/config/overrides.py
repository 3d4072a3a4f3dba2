"""Values set from the command line: `--set path=value`."""

from __future__ import annotations

from collections.abc import Iterable

from openmeter_collector.config import tree
from openmeter_collector.config.report import Report
from openmeter_collector.config.tree import Entry, Mapping, Place, Sequence, Tree

_FROM = Place("--set", 1, 1)


def apply(root: Mapping, overrides: Iterable[str], report: Report) -> Mapping:
    """The document with each `path=value` set; a value is YAML, a path's parts are split by dots.

    Numbers in a path are places in a list; one past the end, or `-`, adds to it.
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            report(
                _FROM, "bad_override", f"{override.partition('=')[0]!r} is not path=value", "root",
                hint="write for example pipeline.threads=4",
            )  # fmt: skip
            continue
        try:
            value = tree.parse(text, "--set") or tree.Scalar("", "plain", _FROM)
            changed = _set(root, path.split("."), value)
        except (tree.BadYaml, _NoSuchPlace) as fault:
            report(_FROM, "bad_override", f"{path}: {fault}", "root")
            continue
        assert isinstance(changed, Mapping)
        root = changed
    return root


class _NoSuchPlace(Exception):
    pass


def _set(at: Tree | None, path: list[str], value: Tree) -> Tree:
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(at, Sequence):
        return _set_item(at, key, rest, value)
    if isinstance(at, Mapping):
        old = at.get(key)
        entry = Entry(key, _FROM, _set(old, rest, value))
        return Mapping({**at.entries, key: entry}, at.place)
    if at is None or (isinstance(at, tree.Scalar) and at.is_null):
        return Mapping({key: Entry(key, _FROM, _set(None, rest, value))}, _FROM)
    raise _NoSuchPlace(f"there is a value where {key!r} is to be set")


def _set_item(at: Sequence, key: str, rest: list[str], value: Tree) -> Sequence:
    items = list(at.items)
    index = len(items) if key == "-" else int(key) if key.isdecimal() else -1
    if not 0 <= index <= len(items):
        raise _NoSuchPlace(f"{key!r} is no place in a list of {len(items)}")
    old = items[index] if index < len(items) else None
    items[index : index + 1] = [_set(old, rest, value)]
    return Sequence(tuple(items), at.place)

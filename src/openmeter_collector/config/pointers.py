"""Places in a document tree: JSON pointers, and components by label."""

from __future__ import annotations

from openmeter_collector.config.tree import Entry, Mapping, Place, Scalar, Sequence, Tree


class NoSuchPlace(Exception):
    """A pointer leads nowhere; the text says where it ends."""


def parts_of(pointer: str) -> list[str]:
    """The parts of a JSON pointer such as `/pipeline/processors/0`.

    Raises:
        NoSuchPlace: it does not begin with `/`.
    """
    if not pointer:
        return []
    if not pointer.startswith("/"):
        raise NoSuchPlace(f"{pointer!r} is no JSON pointer; write one such as /pipeline/processors")
    return [
        part.replace("~1", "/").replace("~0", "~") for part in pointer.removeprefix("/").split("/")
    ]


def at(root: Tree, parts: list[str]) -> Tree:
    """What stands at a place.

    Raises:
        NoSuchPlace: nothing does.
    """
    found: Tree = root
    for depth, part in enumerate(parts):
        inner: Tree | None = None
        if isinstance(found, Mapping):
            inner = found.get(part)
        elif isinstance(found, Sequence) and part.isdecimal() and int(part) < len(found.items):
            inner = found.items[int(part)]
        if inner is None:
            raise NoSuchPlace(
                f"failed to resolve path '{'.'.join(parts)}': key '{'.'.join(parts[: depth + 1])}' "
                "was not found"
            )
        found = inner
    return found


def replaced(root: Tree, parts: list[str], value: Tree) -> Tree:
    """The document with another value at a place; `-` adds to the end of a list.

    Raises:
        NoSuchPlace: there is nothing to replace.
    """
    if not parts:
        return value
    part, rest = parts[0], parts[1:]
    if isinstance(root, Mapping):
        entry = root.entries.get(part)
        if entry is None and rest:
            raise NoSuchPlace(f"key '{part}' was not found")
        place = entry.place if entry else value.place
        inner = replaced(entry.value, rest, value) if entry else value
        return Mapping({**root.entries, part: Entry(part, place, inner)}, root.place)
    if isinstance(root, Sequence):
        items = list(root.items)
        if part == "-" and not rest:
            return Sequence((*items, value), root.place)
        if part.isdecimal() and int(part) < len(items):
            items[int(part)] = replaced(items[int(part)], rest, value)
            return Sequence(tuple(items), root.place)
        raise NoSuchPlace(f"index '{part}' was not found in a list of {len(items)}")
    raise NoSuchPlace(f"key '{part}' was not found")


def labelled(root: Tree, label: str, path: tuple[str, ...] = ()) -> list[str] | None:
    """Where the component with a label stands."""
    if isinstance(root, Mapping):
        own = root.get("label")
        if isinstance(own, Scalar) and own.text == label:
            return list(path)
        inner = [(key, entry.value) for key, entry in root.entries.items()]
    elif isinstance(root, Sequence):
        inner = [(str(index), item) for index, item in enumerate(root.items)]
    else:
        return None
    for key, value in inner:
        found = labelled(value, label, (*path, key))
        if found is not None:
            return found
    return None


def tree_of(value: object, place: Place) -> Tree:
    """Plain Python values as a tree in which everything stands at one place."""
    match value:
        case dict():
            entries = {
                str(key): Entry(str(key), place, tree_of(v, place)) for key, v in value.items()
            }
            return Mapping(entries, place)
        case list() | tuple():
            return Sequence(tuple(tree_of(item, place) for item in value), place)
        case None:
            return Scalar("null", "plain", place)
        case bool():
            return Scalar("true" if value else "false", "plain", place)
        case int() | float():
            return Scalar(repr(value), "plain", place)
        case bytes():
            return Scalar(value.decode("utf-8", "replace"), "'", place)
    return Scalar(str(value), "'", place)

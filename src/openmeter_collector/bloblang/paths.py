"""Reading and writing by path.

Values are never changed in place: a write makes new containers along its path and shares the
rest, so a document and everything taken from it stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from openmeter_collector.bloblang.failure import Fail, type_name
from openmeter_collector.values.kinds import NOTHING, Value

MISSING: Final = object()
_INDEX: Final = re.compile(r"[+-]?[0-9]+")


def split(path: str) -> tuple[str, ...]:
    """The segments of a path written with dots; `~1` is a dot inside one, `~0` a tilde."""
    if "~" not in path:
        return tuple(path.split("."))
    return tuple(part.replace("~1", ".").replace("~0", "~") for part in path.split("."))


def find(value: Value, path: Sequence[str], start: int = 0) -> Value:
    """What is at a path, or MISSING; `*` takes all elements of an array."""
    for at in range(start, len(path)):
        segment = path[at]
        if isinstance(value, dict):
            value = value.get(segment, MISSING)
            if value is MISSING:
                return MISSING
        elif isinstance(value, list):
            if segment == "*":
                return _fan_out(value, path, at + 1)
            if not _INDEX.fullmatch(segment) or not 0 <= int(segment) < len(value):
                return MISSING
            value = value[int(segment)]
        else:
            return MISSING
    return value


def _fan_out(value: list[Value], path: Sequence[str], rest: int) -> Value:
    if rest == len(path):
        return value or MISSING
    found = [one for one in (find(each, path, rest) for each in value) if one is not MISSING]
    return found or MISSING


def get(value: Value, path: Sequence[str]) -> Value:
    """What is at a path; null when there is nothing."""
    found = find(value, path)
    return None if found is MISSING else found


def get_one(value: Value, segment: str) -> Value:
    """What is at a path of one segment."""
    if type(value) is dict:
        return value.get(segment)
    return get(value, (segment,))


def put(root: Value, path: tuple[str, ...], value: Value) -> Value:
    """A document like `root` with `value` at a path.

    Raises:
        Fail: something on the way is neither object nor array.
    """
    if root is NOTHING or root is None:
        root = {}
    if isinstance(root, list) and path[0] == "-":
        if len(path) == 1:
            return [*root, value]
        return [*root, put({}, path[1:], value)]
    try:
        return _put(root, path, 0, value)
    except _Collision:
        raise _collision(root, path) from None


class _Collision(Exception):
    """A path leads through a value that is no container."""


def _put(container: Value, path: tuple[str, ...], at: int, value: Value) -> Value:
    segment = path[at]
    last = at == len(path) - 1
    if isinstance(container, dict):
        made = container.copy()
        if last:
            made[segment] = value
        else:
            inner = container.get(segment)
            made[segment] = _put({} if inner is None else inner, path, at + 1, value)
        return made
    if not isinstance(container, list):
        raise _Collision
    elements = container.copy()
    if segment == "-":
        elements.append(value if last else _put({}, path, at + 1, value))
        return elements
    index = _index(container, path, at)
    if last:
        elements[index] = value
    elif elements[index] is None:
        raise _broken(
            path, f"failed to resolve path segment '{at}': field '{segment}' was not found"
        )
    else:
        elements[index] = _put(elements[index], path, at + 1, value)
    return elements


def _index(container: list[Value], path: tuple[str, ...], at: int) -> int:
    segment = path[at]
    lead = f"failed to resolve path segment '{at}': found array but "
    if not _INDEX.fullmatch(segment):
        raise _broken(
            path,
            f"{lead}segment value '{segment}' could not be parsed into array index: "
            f'strconv.Atoi: parsing "{segment}": invalid syntax',
        )
    index = int(segment)
    if index < 0:
        raise _broken(path, f"{lead}index '{index}' is invalid")
    if index >= len(container):
        size = len(container)
        raise _broken(path, f"{lead}index '{segment}' exceeded target array size of '{size}'")
    return index


def _dotted(path: Sequence[str]) -> str:
    return ".".join(part.replace("~", "~0").replace(".", "~1") for part in path)


def _broken(path: tuple[str, ...], reason: str) -> Fail:
    return Fail(f"unable to set target path {_dotted(path)}: {reason}")


def _collision(root: Value, path: tuple[str, ...]) -> Fail:
    whole = _dotted(path)
    if not isinstance(root, dict):
        return Fail(
            f"unable to set target path {whole} as the value of the root was a non-object type "
            f"({type_name(root)})"
        )
    value = root
    walked: list[str] = []
    for segment in path:
        walked.append(segment)
        value = get(value, (segment,))
        if not isinstance(value, dict):
            break
    return Fail(
        f"unable to set target path {whole} as the value of {_dotted(walked)} was a non-object "
        f"type ({type_name(value)})"
    )


def remove(root: Value, path: tuple[str, ...]) -> Value:
    """A document like `root` without what is at a path; the same if nothing is."""
    if root is NOTHING or root is None:
        return {}
    parent = find(root, path[:-1]) if len(path) > 1 else root
    last = path[-1]
    if isinstance(parent, dict):
        if last not in parent:
            return root
        shorter: Value = {key: value for key, value in parent.items() if key != last}
    elif isinstance(parent, list) and len(path) > 1:
        if not _INDEX.fullmatch(last) or not 0 <= int(last) < len(parent):
            return root
        shorter = parent[: int(last)] + parent[int(last) + 1 :]
    else:
        return root
    return shorter if len(path) == 1 else _put(root, path[:-1], 0, shorter)

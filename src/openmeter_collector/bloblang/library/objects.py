"""Methods of objects."""

from __future__ import annotations

from typing import Any

from openmeter_collector.bloblang import paths
from openmeter_collector.bloblang.convert import get_string
from openmeter_collector.bloblang.definition import Case, method
from openmeter_collector.bloblang.failure import Fail, TypeFail, bounded, type_name
from openmeter_collector.values.kinds import Value


def _object(value: Value) -> dict[str, Value]:
    if type(value) is dict:
        return value
    raise TypeFail(value, "object")


@method("objects", cases=[Case("root = this.keys()", '{"b":1,"a":2}', '["a","b"]')])
def keys(value: Value) -> Value:
    """The names of the fields, sorted."""
    return sorted(_object(value), key=lambda key: key.encode("utf-8", "surrogateescape"))


@method("objects", cases=[Case("root = this.values().sort()", '{"b":1,"a":2}', "[1,2]")])
def values(value: Value) -> Value:
    """The values of the fields, in no particular order."""
    return list(_object(value).values())


@method("objects", cases=[Case("root = this.key_values()", '{"a":1}', '[{"key":"a","value":1}]')])
def key_values(value: Value) -> Value:
    """Objects with the `key` and `value` of each field, in no particular order."""
    return [{"key": key, "value": one} for key, one in _object(value).items()]


@method(
    "objects",
    cases=[Case('root = this.merge({"a":2,"c":3})', '{"a":1,"b":1}', '{"a":[1,2],"b":1,"c":3}')],
    params={"with": "What to merge with."},
)
def merge(value: Value, with_: Any) -> Value:
    """Both objects in one, in depth; where both have a field, an array of both values."""
    if type(value) is list:
        return [*value, *with_] if type(with_) is list else [*value, with_]
    if type(value) is not dict:
        raise TypeFail(value, "object", "array")
    return _combine(value, with_, _collect) if type(with_) is dict else value


def _collect(left: Value, right: Value) -> Value:
    first = left if type(left) is list else [left]
    second = right if type(right) is list else [right]
    return bounded([*first, *second])


def _combine(left: dict[str, Value], right: dict[str, Value], collide: Any) -> dict[str, Value]:
    made = dict(left)
    for key, value in right.items():
        if key not in made:
            made[key] = value
        elif type(value) is dict and type(made[key]) is dict:
            made[key] = _combine(made[key], value, collide)
        else:
            made[key] = collide(made[key], value)
    return made


@method(
    "objects",
    cases=[
        Case(
            'root = this.assign({"a":2,"c":{"y":1}})',
            '{"a":1,"c":{"x":1}}',
            '{"a":2,"c":{"x":1,"y":1}}',
        )
    ],
    params={"with": "What to put over the object."},
)
def assign(value: Value, with_: Any) -> Value:
    """Both objects in one, in depth; where both have a field, the argument's value."""
    if type(value) is list:
        return [*value, *with_] if type(with_) is list else [*value, with_]
    if type(value) is not dict:
        raise TypeFail(value, "object", "array")
    return _combine(value, with_, lambda _, right: right) if type(with_) is dict else value


def _paths(args: tuple[Any, ...]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for index, one in enumerate(args):
        try:
            found.append(paths.split(get_string(one)))
        except TypeFail as fail:
            raise fail.under(f"argument {index}: ") from None
    return found


@method(
    "objects",
    prepared=True,
    cases=[
        Case(
            'root = this.without("b.c", "d")',
            '{"a":1,"b":{"c":2,"e":3},"d":4}',
            '{"a":1,"b":{"e":3}}',
        )
    ],
)
def without(*args: Any) -> Any:
    """The object without the fields at some paths."""
    excluded = _paths(args)
    return lambda value: _without(_object(value), excluded)


def _without(value: dict[str, Value], excluded: list[tuple[str, ...]]) -> dict[str, Value]:
    made: dict[str, Value] = {}
    for key, one in value.items():
        inside = [path[1:] for path in excluded if path[0] == key]
        if () in inside:
            continue
        made[key] = _without(one, inside) if inside and type(one) is dict else one
    return made


@method(
    "objects",
    plugin=True,
    prepared=True,
    name="with",
    cases=[
        Case(
            'root = this.with("b.c", "d")', '{"a":1,"b":{"c":2,"e":3},"d":4}', '{"b":{"c":2},"d":4}'
        )
    ],
)
def with_(*args: Any) -> Any:
    """The object with only the fields at some paths."""
    included = _paths(args)
    return lambda value: _with(_object(value), included)


def _with(value: dict[str, Value], included: list[tuple[str, ...]]) -> dict[str, Value]:
    made: dict[str, Value] = {}
    for key, one in value.items():
        found = [path[1:] for path in included if path[0] == key]
        inside = [path for path in found if path]
        if found:
            made[key] = _with(one, inside) if inside and type(one) is dict else one
    return made


@method(
    "objects",
    plugin=True,
    cases=[Case("root = this.squash()", '[{"a":1},{"a":2,"b":3}]', '{"a":[1,2],"b":3}')],
)
def squash(value: Value) -> Value:
    """One object out of an array of objects, merged as `merge` does."""
    if type(value) is not list:
        raise TypeFail(value, "array")
    made: dict[str, Value] = {}
    for one in value:
        made = _combine(made, one, _collect) if type(one) is dict else made
    return made


@method(
    "objects",
    cases=[
        Case(
            "root = this.collapse()",
            '{"a":{"b":1},"c":[2,{"d":3}],"e":{}}',
            '{"a.b":1,"c.0":2,"c.1.d":3}',
        )
    ],
    params={"include_empty": "Keep empty arrays and objects."},
)
def collapse(value: Value, include_empty: bool = False) -> Value:
    """A flat object with a path for each value."""
    if not isinstance(value, (dict, list)):
        raise Fail("not an object or array")
    made: dict[str, Value] = {}
    _collapse(value, "", made, include_empty)
    return made


def _collapse(value: Value, path: str, made: dict[str, Value], empty: bool) -> None:
    lead = path + "." if path else ""
    if isinstance(value, (dict, list)) and (value or not empty):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in pairs:
            _collapse(one, f"{lead}{key}", made, empty)
        return
    if isinstance(value, dict) and empty:
        made[path] = {}
    elif isinstance(value, list) and empty:
        made[path] = []
    else:
        made[path] = value


@method(
    "objects",
    prepared=True,
    cases=[
        Case(
            'root = this.explode("v")',
            '{"id":1,"v":["a","b"]}',
            '[{"id":1,"v":"a"},{"id":1,"v":"b"}]',
        )
    ],
    params={"path": "The path of an array or object."},
)
def explode(path: str) -> Any:
    """One document for each element at a path, with all else copied into each."""
    segments = paths.split(path)

    def run(value: Value) -> Value:
        rest = _without(_object(value), [segments])
        found = paths.get(value, segments)
        if type(found) is list:
            return [_placed(rest, segments, one) for one in found]
        if type(found) is dict:
            return {key: _placed(rest, segments, one) for key, one in found.items()}
        kind = type_name(found)
        raise Fail(f"expected array or object value at path '{path}', found: {kind}")

    return run


def _placed(rest: Value, path: tuple[str, ...], value: Value) -> Value:
    try:
        return paths.put(rest, path, value)
    except Fail:
        return rest


ENTRIES = (
    keys,
    values,
    key_values,
    merge,
    assign,
    without,
    with_,
    squash,
    collapse,
    explode,
)

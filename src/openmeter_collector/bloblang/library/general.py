"""Methods that control how an expression is computed; the emitter knows most of them."""

from __future__ import annotations

from typing import Any

from openmeter_collector.bloblang import paths
from openmeter_collector.bloblang.definition import (
    Case,
    Param,
    Query,
    QueryOrValue,
    function,
    method,
)
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.values.kinds import NOTHING, Value


@method(
    "general",
    special=True,
    marks=True,
    cases=[
        Case('root.id = this.id.string().uppercase().catch("none")', '{"id":"a"}', '{"id":"A"}'),
        Case(
            "root.why = this.id.uppercase().catch(e -> e)",
            '{"id":5}',
            '{"why":"expected string value, got number from field `this.id` (5)"}',
        ),
    ],
    params={"fallback": "A value, or an expression whose `this` is the text of the error."},
)
def catch(value: Value, fallback: QueryOrValue) -> Value:
    """Answer with something else if the expression before it fails."""
    raise NotImplementedError


@method(
    "general",
    special=True,
    marks=True,
    cases=[Case('root = this.a.or(this.b).or("none")', '{"b":2}', "2")],
    params={"fallback": "A value or an expression."},
)
def or_(value: Value, fallback: QueryOrValue) -> Value:
    """Answer with something else if the expression before it fails, or is null, deleted or nothing."""
    raise NotImplementedError


@method(
    "general",
    special=True,
    marks=True,
    cases=[Case("root = this.thing.map(this.a + this.b)", '{"thing":{"a":1,"b":2}}', "3")],
    params={"query": "The expression; its `this` is the value."},
)
def map_(value: Value, query: Query) -> Value:
    """Compute an expression with the value as its `this`, as `value.(expression)` does."""
    raise NotImplementedError


@method(
    "general",
    special=True,
    marks=True,
    cases=[
        Case('map double {\n  root = this * 2\n}\nroot = this.n.apply("double")', '{"n":4}', "8")
    ],
    params={"mapping": "The name of the map."},
)
def apply(value: Value, mapping: str) -> Value:
    """Run a map that was defined or imported, with the value as its `this`."""
    raise NotImplementedError


@method(
    "general",
    special=True,
    marks=True,
    cases=[Case('root = json("a").from(0)', '{"a":1}', "1")],
    params={"index": "The position of the message in the batch."},
)
def from_(value: Value, index: int) -> Value:
    """Compute functions such as `json` and `content` for another message of the batch."""
    raise NotImplementedError


@method(
    "general",
    special=True,
    plugin=True,
    cases=[Case('root = json("a").from_all().sum()', '{"a":1}', "1")],
)
def from_all(value: Value) -> Value:
    """Compute functions such as `json` for every message of the batch, into an array."""
    raise NotImplementedError


@method("general", special=True, cases=[Case("root = this.not()", "true", "false")])
def not_(value: Value) -> bool:
    """The opposite of a bool."""
    raise NotImplementedError


@method(
    "objects",
    prepared=True,
    is_path=True,
    cases=[Case("root = this.get(this.key)", '{"key":"a.b","a":{"b":1}}', "1")],
    params={"path": "A path with dots."},
)
def get(path: str) -> Any:
    """What is at a path; null if there is nothing."""
    segments = paths.split(path)
    return lambda value: paths.get(value, segments)


@method(
    "objects",
    prepared=True,
    cases=[
        Case('root = [this.exists("a.b"), this.exists("a.c")]', '{"a":{"b":null}}', "[true,false]")
    ],
    params={"path": "A path with dots."},
)
def exists(path: str) -> Any:
    """Whether there is something at a path, be it null."""
    segments = paths.split(path)
    return lambda value: paths.find(value, segments) is not paths.MISSING


@function(
    "general",
    cases=[
        Case(
            'root = if this.n < 0 { throw("negative") } else { this.n }',
            '{"n":-1}',
            error="failed assignment (line 1): negative",
        )
    ],
    params={"why": "The text of the error."},
)
def throw(why: str) -> Value:
    """Fail with a text of your own."""
    raise Fail(why)


@function(
    "general",
    marks=True,
    total=True,
    cases=[
        Case("root = this\nroot.secret = deleted()", '{"a":1,"secret":2}', '{"a":1}'),
        Case("root = deleted()", "{}", None),
    ],
)
def deleted() -> Value:
    """Remove the target of an assignment; the message itself when assigned to root."""
    raise NotImplementedError


@function(
    "general",
    marks=True,
    total=True,
    cases=[
        Case(
            "root.a = if this.a > 5 { this.a } else { nothing() }",
            '{"a":1}',
            '{"a":1}',
            note="Nothing was assigned, so the message stays as it is.",
        )
    ],
)
def nothing() -> Value:
    """Leave the target of an assignment alone."""
    return NOTHING


@function(
    "general",
    special=True,
    cases=[Case('let a = 5\nroot = var("a")', "", "5")],
    params={"name": "The name of the variable."},
)
def var(name: str) -> Value:
    """A variable by its name, which may be computed; `$name` is the usual way."""
    raise NotImplementedError


@function(
    "general",
    prepared=True,
    cases=[
        Case("root = range(0, 6, 2)", "", "[0,2,4]"),
        Case("root = range(3, 0, -1)", "", "[3,2,1]"),
    ],
    params={
        "start": "The first number.",
        "stop": "The number before which to stop.",
        "step": "The distance.",
    },
)
def range_(start: int, stop: int, step: int = 1) -> Any:
    """An array of integers; more than a million are an error."""
    from openmeter_collector.values.kinds import Int64  # noqa: PLC0415

    if step == 0:
        raise Fail("step must be greater than or less than 0")
    if step < 0 and stop > start:
        text = f"with negative step arg stop ({stop}) must be <= start ({start})"
        raise Fail(text)
    if step > 0 and start >= stop:
        raise Fail(f"with positive step arg start ({start}) must be < stop ({stop})")
    size = abs(stop - start) // abs(step)
    if size > 1_000_000:
        raise Fail(f"a range of {size} numbers is too long")
    numbers: list[Value] = [Int64(start + step * index) for index in range(size)]
    return lambda: numbers


__all__ = ["ENTRIES", "Param"]

ENTRIES = (
    catch,
    or_,
    map_,
    apply,
    from_,
    from_all,
    not_,
    get,
    exists,
    throw,
    deleted,
    nothing,
    var,
    range_,
)

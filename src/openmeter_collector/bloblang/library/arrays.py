"""Methods of arrays, and those of arrays and objects that go through their elements."""

from __future__ import annotations

import math
from typing import Any, Final

from openmeter_collector.bloblang.compare import equal
from openmeter_collector.bloblang.convert import encode, get_number, get_string
from openmeter_collector.bloblang.definition import Case, Query, method
from openmeter_collector.bloblang.failure import Fail, TypeFail, bounded
from openmeter_collector.bloblang.library.order import sorted_by
from openmeter_collector.values.kinds import (
    DELETED,
    NOTHING,
    Float64,
    Int64,
    PlainInt,
    SourceNumber,
    Value,
    is_number,
)
from openmeter_collector.values.timestamp import Timestamp


def _array(value: Value) -> list[Value]:
    if type(value) is list:
        return value
    raise TypeFail(value, "array")


def _truth(result: Value) -> bool:
    if result is True or result is False:
        return result
    raise TypeFail(result, "bool")


@method(
    "objects",
    cases=[
        Case("root = this.all(x -> x > 1)", "[2,3]", "true"),
        Case("root = this.all(x -> x > 1)", "[]", "false"),
    ],
    params={"test": "An expression that is true or false for an element."},
)
def all_(value: Value, test: Query) -> bool:
    """Whether an expression is true for all elements; false for an empty array."""
    elements = _array(value)
    for index, one in enumerate(elements):
        try:
            if not _truth(test(one)):
                return False
        except Fail as fail:
            raise fail.under(f"element {index}: ") from None
    return bool(elements)


@method(
    "objects",
    cases=[Case("root = this.any(x -> x > 2)", "[2,3]", "true")],
    params={"test": "An expression that is true or false for an element."},
)
def any_(value: Value, test: Query) -> bool:
    """Whether an expression is true for at least one element."""
    for index, one in enumerate(_array(value)):
        try:
            if _truth(test(one)):
                return True
        except Fail as fail:
            raise fail.under(f"element {index}: ") from None
    return False


@method("objects", cases=[Case("root = this.append(3, 4)", "[1,2]", "[1,2,3,4]")])
def append(value: Value, *args: Any) -> Value:
    """The array with more elements at its end."""
    return [*_array(value), *args]


@method(
    "objects",
    plugin=True,
    prepared=True,
    cases=[Case("root = this.concat([2], [3])", "[1]", "[1,2,3]")],
)
def concat(*args: Any) -> Any:
    """The array with other arrays behind it."""
    added = [element for one in args for element in _array(one)]
    return lambda value: [*_array(value), *added]


@method("objects", cases=[Case("root = this.enumerated()", '["a"]', '[{"index":0,"value":"a"}]')])
def enumerated(value: Value) -> Value:
    """Objects with the index and the value of each element."""
    return [{"index": Int64(index), "value": one} for index, one in enumerate(_array(value))]


@method(
    "objects",
    cases=[
        Case("root = this.filter(x -> x > 2)", "[1,2,3]", "[3]"),
        Case('root = this.filter(item -> item.key.has_prefix("a"))', '{"ab":1,"b":2}', '{"ab":1}'),
    ],
    params={"test": "An expression; what it is not true for is left out."},
)
def filter_(value: Value, test: Query) -> Value:
    """The elements, or fields of an object (`key` and `value`), for which an expression is true."""
    if type(value) is list:
        return [one for one in value if test(one) is True]
    if type(value) is dict:
        return {key: one for key, one in value.items() if test({"key": key, "value": one}) is True}
    raise TypeFail(value, "array", "object")


def _of_element(fail: Fail, which: int | str) -> Fail:
    """A failure of an element's expression, which is named first."""
    fail.by, fail.by_lead = "query", f"failed to process element {which}: "
    return fail


@method(
    "objects",
    cases=[
        Case("root = this.map_each(x -> x * 2)", "[1,2]", "[2,4]"),
        Case("root = this.map_each(item -> item.value + 1)", '{"a":1}', '{"a":2}'),
        Case("root = this.map_each(x -> if x < 2 { deleted() })", "[1,2]", "[2]"),
    ],
    params={"query": "The expression for an element; for objects it sees `key` and `value`."},
)
def map_each(value: Value, query: Query) -> Value:
    """Replace each element; `deleted()` removes it and `nothing()` leaves it as it is."""
    if type(value) is list:
        made: list[Value] = []
        for index, one in enumerate(value):
            try:
                result = query(one)
            except Fail as fail:
                raise _of_element(fail, index) from None
            if result is NOTHING:
                made.append(one)
            elif result is not DELETED:
                made.append(result)
        return made
    if type(value) is not dict:
        raise TypeFail(value, "array")
    fields: dict[str, Value] = {}
    for key, one in value.items():
        try:
            result = query({"key": key, "value": one})
        except Fail as fail:
            raise _of_element(fail, key) from None
        if result is NOTHING:
            fields[key] = one
        elif result is not DELETED:
            fields[key] = result
    return fields


@method(
    "objects",
    cases=[Case("root = this.map_each_key(key -> key.uppercase())", '{"a":1}', '{"A":1}')],
    params={"query": "The expression for a key."},
)
def map_each_key(value: Value, query: Query) -> Value:
    """Rename the fields of an object; `nothing()` leaves a name as it is."""
    if type(value) is not dict:
        raise TypeFail(value, "object")
    made: dict[str, Value] = {}
    for key, one in value.items():
        result = query(key)
        if type(result) is str:
            made[result] = one
        elif result is NOTHING:
            made[key] = one
        else:
            raise TypeFail(result, "string").under("unexpected result from key mapping: ")
    return made


@method(
    "objects",
    marks=True,
    cases=[Case("root = this.fold(0, item -> item.tally + item.value)", "[1,2,3]", "6")],
    params={
        "initial": "What to start with.",
        "query": "The expression for the next tally, from `tally` and `value`.",
    },
)
def fold(value: Value, initial: Any, query: Query) -> Value:
    """Reduce an array to one value."""
    tally: Value = initial
    for one in _array(value):
        tally = query({"tally": tally, "value": one})
        # What doubles with each element is soon larger than any memory.
        bounded(tally)
    return tally


@method(
    "objects",
    status="beta",
    cases=[Case("root = this.find(2)", "[1,2]", "1")],
    params={"value": "What to look for."},
)
def find(receiver: Value, value: Any) -> Value:
    """The index of the first element that equals a value, or -1."""
    for index, one in enumerate(_array(receiver)):
        if equal(value, one):
            return PlainInt(index)
    return PlainInt(-1)


@method(
    "objects",
    status="beta",
    cases=[Case("root = this.find_all(2)", "[2,1,2]", "[0,2]")],
    params={"value": "What to look for."},
)
def find_all(receiver: Value, value: Any) -> Value:
    """The indexes of all elements that equal a value."""
    return [PlainInt(i) for i, one in enumerate(_array(receiver)) if equal(value, one)]


def _holds(query: Query, one: Value, index: int) -> bool:
    try:
        result = query(one)
    except Fail as fail:
        raise fail.under(f"query returned an error for index {index}: ") from None
    if result is True or result is False:
        return result
    text = f"query returned a non-boolean value for index {index}: "
    raise TypeFail(result, "bool").under(text)


@method(
    "objects",
    status="beta",
    cases=[Case("root = this.find_by(x -> x > 1)", "[1,2]", "1")],
    params={"query": "An expression that is true or false for an element."},
)
def find_by(value: Value, query: Query) -> Value:
    """The index of the first element for which an expression is true, or -1."""
    for index, one in enumerate(_array(value)):
        if _holds(query, one, index):
            return PlainInt(index)
    return PlainInt(-1)


@method(
    "objects",
    status="beta",
    cases=[Case("root = this.find_all_by(x -> x > 1)", "[2,1,3]", "[0,2]")],
    params={"query": "An expression that is true or false for an element."},
)
def find_all_by(value: Value, query: Query) -> Value:
    """The indexes of all elements for which an expression is true."""
    return [PlainInt(i) for i, one in enumerate(_array(value)) if _holds(query, one, i)]


@method("objects", cases=[Case("root = this.flatten()", "[1,[2,[3]]]", "[1,2,[3]]")])
def flatten(value: Value) -> Value:
    """The array with the elements of its arrays in their place, one level deep."""
    made: list[Value] = []
    for one in _array(value):
        if type(one) is list:
            made += one
        else:
            made.append(one)
    return made


@method(
    "objects",
    cases=[
        Case("root = this.index(0)", '["a","b"]', "a"),
        Case("root = this.index(-1)", '["a","b"]', "b"),
        Case(
            "root.a = this.index(5)",
            "[1]",
            error="failed assignment (line 1): field `this`: index '5' was out of bounds for array size: 1",
        ),
    ],
    params={"index": "The position, from the end when negative."},
)
def index(value: Value, index: int) -> Value:
    """The element at a position."""
    if type(value) is list:
        at = index + len(value) if index < 0 else index
        if 0 <= at < len(value):
            return value[at]
        raise Fail(f"index '{at}' was out of bounds for array size: {len(value)}")
    if isinstance(value, bytes):
        at = index + len(value) if index < 0 else index
        if 0 <= at < len(value):
            return Int64(value[at])
        raise Fail(f"index '{at}' was out of bounds for array size: {len(value)}")
    raise TypeFail(value, "array")


def _order_key(value: Value) -> tuple[bool, Any]:
    """What an element is sorted by, and whether it is text."""
    if is_number(value):
        return False, get_number(value)
    if isinstance(value, (str, bytes)):
        return True, encode(get_string(value))
    raise TypeFail(value, "number", "string")


def _less(name: str, by: str) -> Any:
    def less(left: Value, right: Value, i: int, j: int) -> bool:
        for which, value in ((i, left), (j, right)):
            wanted = is_number(left)
            if not (is_number(value) if wanted else isinstance(value, (str, bytes, Timestamp))):
                expected = (
                    ("number", "string")
                    if value is left
                    else ("number",)
                    if wanted
                    else ("string",)
                )
                fail = TypeFail(value, *expected, by=by)
                raise _Blamed(fail, f"{name} element {which}: ")
        if is_number(left):
            return get_number(left) < get_number(right)
        return encode(get_string(left)) < encode(get_string(right))

    return less


class _Blamed(Exception):
    """A failure in the middle of sorting."""

    def __init__(self, fail: Fail, lead: str) -> None:
        super().__init__(lead)
        self.fail = fail
        self.lead = lead


@method(
    "objects",
    cases=[
        Case("root = this.sort()", "[3,1,2]", "[1,2,3]"),
        Case("root = this.sort(item -> item.left > item.right)", "[3,1,2]", "[3,2,1]"),
    ],
    params={"compare": "Whether `left` comes before `right`."},
)
def sort(value: Value, compare: Query | None = None) -> Value:
    """The elements in ascending order."""
    elements = _array(value)
    if compare is not None:
        ask = compare

        def asked(left: Value, right: Value, *_: int) -> bool:
            result = ask({"left": left, "right": right})
            if result is True or result is False:
                return result
            raise TypeFail(result, "bool", origin="sort argument")

        try:
            return sorted_by(elements, asked)
        except Fail as fail:
            fail.closed = True
            raise
    if all(type(one) is str for one in elements) and all(one.isascii() for one in elements):
        return sorted(elements)
    try:
        return sorted_by(elements, _less("sort", ""))
    except _Blamed as blamed:
        raise _final(blamed.fail, blamed.lead) from None


def _final(fail: Fail, lead: str) -> Fail:
    """A failure that does not name the receiver any more."""
    fail.under(lead)
    fail.closed = True
    return fail


@method(
    "objects",
    cases=[Case("root = this.sort_by(x -> x.n)", '[{"n":2},{"n":1}]', '[{"n":1},{"n":2}]')],
    params={"query": "The expression that gives what to sort by."},
)
def sort_by(value: Value, query: Query) -> Value:
    """The elements in ascending order of an expression."""
    elements = _array(value)
    order = _less("sort_by", "query")
    try:
        return sorted_by(elements, lambda left, right, i, j: order(query(left), query(right), i, j))
    except _Blamed as blamed:
        fail = blamed.fail
        fail.by_lead = blamed.lead
        fail.closed = True
        raise fail from None
    except Fail as fail:
        fail.closed = True
        raise


@method(
    "objects",
    cases=[
        Case("root = this.sum()", "[1,2.5]", "3.5"),
        Case(
            "root.a = this.sum()",
            "[1,null]",
            error="failed assignment (line 1): index 1: expected number value, got null",
        ),
    ],
)
def sum_(value: Value) -> Value:
    """The sum of an array of numbers."""
    if is_number(value) and not (isinstance(value, SourceNumber) and math.isinf(value)):
        return value
    total = 0.0
    problem: Fail | None = None
    for at, one in enumerate(_array(value)):
        if is_number(one):
            total += one if type(one) is not SourceNumber else float(one)
        else:
            problem = _final(TypeFail(one, "number"), f"index {at}: ")
    if problem is not None:
        raise problem
    return Float64(total)


@method(
    "objects",
    cases=[Case("root = this.unique()", '["a","b","a",1,1.0]', '["a","b",1]')],
    params={"emit": "The expression that tells elements apart."},
)
def unique(value: Value, emit: Query | None = None) -> Value:
    """The elements without those that occurred before."""
    seen: set[tuple[bool, Any]] = set()
    made: list[Value] = []
    for at, one in enumerate(_array(value)):
        try:
            told = one if emit is None else emit(one)
            if isinstance(told, Timestamp):
                told = told.text()
            if not isinstance(told, (str, bytes)) and not is_number(told):
                raise TypeFail(told, "string", "number")
            mark = _order_key(told)
        except Fail as fail:
            raise fail.under(f"index {at}: ") from None
        if mark not in seen:
            seen.add(mark)
            made.append(one)
    return made


@method(
    "objects",
    plugin=True,
    prepared=True,
    cases=[Case("root = this.a.zip(this.b)", '{"a":[1,2],"b":["x","y"]}', '[[1,"x"],[2,"y"]]')],
)
def zip_(*args: Any) -> Any:
    """Arrays of the first elements, the second elements and so on of several arrays."""
    others = [_array(one) for one in args]
    if any(len(one) != len(others[0]) for one in others):
        raise Fail(_SIZES)

    def run(value: Value) -> Value:
        first = _array(value)
        if not others:
            raise Fail("zip requires at least one argument")
        if len(others[0]) != len(first):
            raise Fail(_SIZES)
        return [list(group) for group in zip(first, *others, strict=True)]

    return run


_SIZES: Final = "can't zip different length array values"


ENTRIES = (
    all_,
    any_,
    append,
    concat,
    enumerated,
    filter_,
    map_each,
    map_each_key,
    fold,
    find,
    find_all,
    find_by,
    find_all_by,
    flatten,
    index,
    sort,
    sort_by,
    sum_,
    unique,
    zip_,
)

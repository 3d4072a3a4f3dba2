"""What emitted code may call; nothing else is within its reach."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from openmeter_collector.bloblang import arithmetic, compare, convert, paths
from openmeter_collector.bloblang.blame import Unit, settle, settle_statement
from openmeter_collector.bloblang.document import Document
from openmeter_collector.bloblang.failure import (
    ConditionFail,
    Fail,
    TypeFail,
    UndefinedFail,
    bounded,
    machine_type,
)
from openmeter_collector.bloblang.syntax import Node
from openmeter_collector.values import json as value_json
from openmeter_collector.values.kinds import DELETED, NOTHING, Float64, Value

UNSET: Final = object()
_MAX_MAPS: Final = 5000
_MAX_APPLIED: Final = 250_000
_MAPS_A_THREAD: Final = 80


def getter(document: Value) -> Callable[[str], Value]:
    """A function that reads one field of a document."""
    if type(document) is dict:
        return document.get
    return lambda segment: paths.get_one(document, segment)


def unset(name: str) -> Value:
    """A variable without a value was read."""
    raise Fail(f"variable '{name}' undefined")


def partial(document: Value) -> Value:
    """What a mutation that failed leaves of the document."""
    return NOTHING if document is UNSET else document


def var(known: dict[str, Value], name: str) -> Value:
    """A variable by a computed name."""
    found = known.get(name, UNSET)
    return unset(name) if found is UNSET else found


def no_variables() -> Value:
    """A variable was read where there are none."""
    raise Fail("variables were undefined")


def no_root() -> Value:
    """`root` was read where there is none."""
    raise Fail("unable to reference `root` from this context")


def no_metadata() -> None:
    """Metadata was written in a map."""
    raise Fail("unable to assign metadata in the current context")


def undefined(path: str) -> Value:
    """A message that is no document was read."""
    raise UndefinedFail(path)


def uncaptured(name: str) -> Value:
    """A lambda found no value to take."""
    raise UndefinedFail("", f"failed to capture context {name}: ")


def invert(value: Value) -> bool:
    """`!value`."""
    if value is True:
        return False
    if value is False:
        return True
    raise TypeFail(value, "bool")


def condition(value: Value) -> bool:
    """The condition of an `if` expression."""
    if value is True:
        return True
    if value is False or value is None:
        return False
    raise ConditionFail(value)


def strict_condition(value: Value) -> bool:
    """The condition of an `if` statement."""
    if value is True or value is False:
        return value
    raise ConditionFail(value)


def is_null(value: Value) -> bool:
    """Whether `or` and `|` replace a value."""
    return value is None or value is DELETED or value is NOTHING


def is_marker(value: Value) -> bool:
    """Whether a value is an instruction rather than data."""
    return value is DELETED or value is NOTHING


def present(values: list[Value]) -> list[Value]:
    """The values that are data."""
    return [value for value in values if value is not DELETED and value is not NOTHING]


def key(value: Value) -> str:
    """A computed key of an object."""
    if type(value) is str:
        return value
    if isinstance(value, bytes):
        return convert.decode(value)
    raise Fail(f"mapping returned invalid key type: {machine_type(value)}")


def value_failed(fail: Fail, name: str, unit: Unit, node: Node) -> Fail:
    """The value of a computed key failed."""
    settle(fail, unit, node)
    fail.under(f"failed to resolve '{name}' value: ")
    return fail


def argument(kind: str, value: Value) -> Any:
    """An argument that was computed, as its parameter wants it."""
    try:
        return convert.argument(kind, value)
    except Fail as fail:
        fail.outside = True
        raise


def prepare(call: Callable[..., Any], *arguments: Any) -> Any:
    """Make the function of a call whose arguments were computed."""
    try:
        return call(*arguments)
    except Fail as fail:
        fail.outside = True
        raise


def error_text(fail: Fail, unit: Unit, stop: Node) -> str:
    """The text of a failure that `catch` caught."""
    return str(settle(fail, unit, stop))


def set_meta(meta: Mapping[str, Value], name: str | None, value: Value) -> Mapping[str, Value]:
    """Metadata with one key changed, or (without name) all of it replaced."""
    if value is NOTHING:
        return meta
    if name is None:
        if value is DELETED:
            return {}
        if not isinstance(value, dict):
            kind = machine_type(value)
            raise Fail(f"setting root meta object requires object value, received: {kind}")
        return dict(value)
    made = dict(meta)
    if value is DELETED:
        made.pop(name, None)
    else:
        made[name] = value
    return made


def meta_text(meta: Mapping[str, Value], name: str) -> Value:
    """Metadata as text, null when empty; without name all of it."""
    if not name:
        return {one: convert.to_string(value) for one, value in meta.items()}
    if name not in meta:
        return None
    return convert.to_string(meta[name]) or None


def position(batch: Sequence[Document], index: int) -> int:  # noqa: ARG001 - called with both
    """The index of another message of the batch."""
    return index


def for_all(batch: Sequence[Document], query: Callable[[int], Value]) -> list[Value]:
    """The answers of every message of the batch."""
    return [query(index) for index in range(len(batch))]


def budget() -> list[int]:
    """How many maps one run of a mapping may still apply, for all of its maps to count down."""
    return [_MAX_APPLIED]


def apply(
    maps: dict[str, Any],
    name: str,
    batch: Sequence[Document],
    index: int,
    document: Value,
    meta: Mapping[str, Value],
    value: Value,
    depth: int,
    left: list[int],
) -> Value:
    """Run a map.

    Args:
        depth: how many are being applied around it.
        left: see `budget`. A map that calls itself twice would take twice the time with each level.
    """
    if not maps:
        raise _closed("no maps were found" if maps is None else f"map {name} was not found")
    found = maps.get(name)
    if found is None:
        raise _closed(f"map {name} was not found")
    if depth >= _MAX_MAPS:
        raise _overrun(name)
    left[0] -= 1
    if left[0] < 0:
        raise _exhausted(name)
    try:
        if depth and depth % _MAPS_A_THREAD == 0:
            return _in_thread(found, batch, index, document, meta, value, depth + 1, left)
        return bounded(found(batch, index, document, meta, value, depth + 1, left))
    except RecursionError:
        raise _overrun(name) from None
    except Fail as fail:
        fail.closed = True
        raise


def _closed(text: str) -> Fail:
    fail = Fail(text)
    fail.closed = True
    return fail


def _overrun(name: str) -> Fail:
    text = (
        f"entering map {name} exceeded maximum allowed stacks of {_MAX_MAPS}, this could be due "
        "to unbounded recursion"
    )
    fail = Fail(text)
    fail.overrun = text
    fail.closed = True
    return fail


def _exhausted(name: str) -> Fail:
    text = (
        f"entering map {name} exceeded the {_MAX_APPLIED} maps that one run may apply; a map that calls "
        "itself more than once takes far longer with each level"
    )
    fail = Fail(text)
    fail.overrun = text
    fail.closed = True
    return fail


def _in_thread(call: Callable[..., Value], *arguments: Any) -> Value:
    """Go on with a stack of its own: Python's is too short for maps that call themselves."""
    result: list[Value] = []
    problems: list[BaseException] = []

    def run() -> None:
        try:
            result.append(call(*arguments))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return result[0]


class View(Sequence[Document]):
    """A batch in which one message is seen as a mutation has changed it so far."""

    def __init__(self, batch: Sequence[Document], index: int) -> None:
        self._batch = batch
        self._index = index
        self._shadow = _Shadow(batch[index])

    def __len__(self) -> int:
        return len(self._batch)

    def __getitem__(self, index: Any) -> Any:
        return self._shadow if index == self._index else self._batch[index]

    def sync(self, document: Value, meta: Mapping[str, Value] | None) -> None:
        """Show the message as it is now."""
        self._shadow.document = document
        if meta is not None:
            self._shadow.metadata = meta


class _Shadow:
    """A message while it is mutated; its bytes are made once, when first asked for."""

    def __init__(self, message: Document) -> None:
        self._message = message
        self._content: bytes | None = None
        self.document: Value = UNSET
        self.metadata: Mapping[str, Value] = message.metadata

    @property
    def error(self) -> Any:
        return self._message.error

    @property
    def content(self) -> bytes:
        if self.document is UNSET:
            return self._message.content
        if self._content is None:
            self._content = value_json.dumps(self.document)
        return self._content

    def structured(self) -> Value:
        return self._message.structured() if self.document is UNSET else self.document


EXPORTED: Final[dict[str, Any]] = {
    "__builtins__": {
        "dict": dict,
        "str": str,
        "type": type,
        "KeyError": KeyError,
        "TypeError": TypeError,
        "AttributeError": AttributeError,
    },
    "r_DELETED": DELETED,
    "r_Fail": Fail,
    "r_Float64": Float64,
    "r_NOTHING": NOTHING,
    "r_UNSET": UNSET,
    "r_View": View,
    "r_add": arithmetic.add,
    "r_apply": apply,
    "r_budget": budget,
    "r_argument": argument,
    "r_condition": condition,
    "r_differs": arithmetic.differs,
    "r_divide": arithmetic.divide,
    "r_encode": convert.encode,
    "r_equal": compare.equal,
    "r_equals": arithmetic.equals,
    "r_error_text": error_text,
    "r_for_all": for_all,
    "r_get": paths.get,
    "r_get_one": paths.get_one,
    "r_getter": getter,
    "r_greater": arithmetic.greater,
    "r_greater_or_equal": arithmetic.greater_or_equal,
    "r_int": int,
    "r_invert": invert,
    "r_is_marker": is_marker,
    "r_is_null": is_null,
    "r_key": key,
    "r_less": arithmetic.less,
    "r_less_or_equal": arithmetic.less_or_equal,
    "r_meta_text": meta_text,
    "r_modulo": arithmetic.modulo,
    "r_multiply": arithmetic.multiply,
    "r_no_metadata": no_metadata,
    "r_no_root": no_root,
    "r_no_variables": no_variables,
    "r_partial": partial,
    "r_position": position,
    "r_prepare": prepare,
    "r_present": present,
    "r_put": paths.put,
    "r_remove": paths.remove,
    "r_set_meta": set_meta,
    "r_settle": settle,
    "r_settle_statement": settle_statement,
    "r_strict_condition": strict_condition,
    "r_subtract": arithmetic.subtract,
    "r_truth": convert.get_bool,
    "r_uncaptured": uncaptured,
    "r_undefined": undefined,
    "r_unset": unset,
    "r_value_failed": value_failed,
    "r_var": var,
}
"""The namespace of emitted code."""

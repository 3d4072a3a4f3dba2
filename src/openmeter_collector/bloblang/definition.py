"""How a function or method of the language is declared.

    @method("strings", cases=[Case('root = this.trim_prefix("req_")', "req_42", "42")])
    def trim_prefix(value: Value, prefix: str) -> Value:
        \"\"\"Remove a prefix, or return the text unchanged if it does not start with it.\"\"\"

Parameter names, kinds, defaults and arity come from the Python signature, so they cannot drift
from the code. The docstring is the reference page, the cases are its examples and its tests.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Final, Protocol, Union, get_args, get_origin, get_type_hints

from openmeter_collector.values.kinds import Float64, Int64, Value
from openmeter_collector.values.timestamp import Timestamp

_NAME: Final = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
REQUIRED: Final = object()


class Query(Protocol):
    """An argument that is an expression: called with the value that becomes `this`."""

    def __call__(self, value: Value, /) -> Value: ...


class QueryOrValue(Protocol):
    """An argument that is an expression or a plain value."""

    def __call__(self, value: Value, /) -> Value: ...


_KINDS: Final[dict[Any, str]] = {
    str: "string",
    int: "integer",
    float: "float",
    bool: "bool",
    list: "array",
    dict: "object",
    Timestamp: "timestamp",
    Query: "query",
    QueryOrValue: "query/scalar",
    Any: "any",
}


@dataclass(frozen=True, slots=True)
class Case:
    """An example of a mapping with its result; shown in the reference and run as a test.

    Attributes:
        mapping: the mapping.
        given: the document, as JSON or raw text; "" for an empty one.
        result: what the message holds afterwards, byte for byte; None if the message is dropped.
        error: the run-time error instead of a result.
        metadata: metadata of the message.
        note: what the example shows.
    """

    mapping: str
    given: str | bytes = "{}"
    result: str | bytes | None = None
    error: str | None = None
    metadata: Mapping[str, Value] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of an entry."""

    name: str
    kind: str
    default: Any = REQUIRED
    optional: bool = False
    dynamic: bool = True
    doc: str = ""

    @property
    def is_query(self) -> bool:
        """Whether the argument is handed over unevaluated."""
        return self.kind.startswith("query")


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A function or method as the compiler sees it.

    Attributes:
        call: the code. Called with the receiver (methods) and the arguments; a `prepared` entry
            is called with the arguments alone when they are known, and answers with the function
            to call for each message.
        plugin: its errors do not name the receiver.
        static: computed at once when receiver and arguments are known.
        context: the code receives the batch and the index of the message first.
        services: the code receives the program's `Services` first.
        marks: may answer with `deleted()` or `nothing()`.
        total: cannot fail.
        special: has a code template of its own in the emitter.
        ours: only this collector has it.
        unstable: "random", "count" or "clock": why another run answers otherwise; "" if it does not.
        is_path: with a known argument it is that path below the receiver.
        stateful: called once for each place it is used at, without arguments; what it answers
            with is called for each message, with functions for the arguments.
    """

    name: str
    is_method: bool
    category: str
    call: Callable[..., Any]
    params: tuple[Param, ...]
    doc: str
    cases: tuple[Case, ...]
    variadic: bool = False
    status: str = "stable"
    prepared: bool = False
    plugin: bool = False
    static: bool = False
    context: bool = False
    services: bool = False
    marks: bool = False
    total: bool = False
    special: bool = False
    stateful: bool = False
    is_path: bool = False
    reads: str = ""
    ours: bool = False
    unstable: str = ""

    @property
    def noun(self) -> str:
        """`method` or `function`."""
        return "method" if self.is_method else "function"


Decorator = Callable[[Callable[..., Any]], Entry]


def method(
    category: str,
    *,
    cases: Sequence[Case] = (),
    params: Mapping[str, str] | None = None,
    status: str = "stable",
    prepared: bool = False,
    plugin: bool = False,
    static: bool = False,
    marks: bool = False,
    special: bool = False,
    is_path: bool = False,
    name: str = "",
) -> Decorator:
    """Declare a method; the first parameter of the function is the receiver."""

    def declare(call: Callable[..., Any]) -> Entry:
        skip = 0 if prepared else 1
        return Entry(
            name=name or call.__name__.rstrip("_"),
            is_method=True,
            category=category,
            call=call,
            **_signature(call, skip, params or {}),
            cases=tuple(cases),
            status=status,
            prepared=prepared,
            plugin=plugin,
            static=static,
            marks=marks,
            special=special,
            is_path=is_path,
        )

    return declare


def function(
    category: str,
    *,
    cases: Sequence[Case] = (),
    params: Mapping[str, str] | None = None,
    status: str = "stable",
    prepared: bool = False,
    static: bool = False,
    context: bool = False,
    services: bool = False,
    marks: bool = False,
    total: bool = False,
    special: bool = False,
    stateful: Sequence[Param] | None = None,
    name: str = "",
    fixed: Sequence[str] = (),
    reads: str = "",
    ours: bool = False,
    unstable: str = "",
) -> Decorator:
    """Declare a function; `fixed` names parameters that must be known at compile time."""

    def declare(call: Callable[..., Any]) -> Entry:
        skip = 2 if context else 1 if services else 0
        shape = _signature(call, skip, params or {}, fixed)
        if stateful is not None:
            shape["params"] = tuple(stateful)
        return Entry(
            name=name or call.__name__.rstrip("_"),
            is_method=False,
            category=category,
            call=call,
            **shape,
            cases=tuple(cases),
            status=status,
            prepared=prepared,
            plugin=True,
            static=static,
            context=context,
            services=services,
            marks=marks,
            total=total,
            special=special,
            stateful=stateful is not None,
            reads=reads,
            ours=ours,
            unstable=unstable,
        )

    return declare


def _signature(
    call: Callable[..., Any], skip: int, docs: Mapping[str, str], fixed: Sequence[str] = ()
) -> dict[str, Any]:
    hints = get_type_hints(call)
    params: list[Param] = []
    variadic = False
    for param in list(inspect.signature(call).parameters.values())[skip:]:
        if param.kind is param.VAR_POSITIONAL:
            variadic = True
            continue
        kind = _kind(hints.get(param.name, Any))
        default: Any = REQUIRED
        if param.default is not param.empty and param.default is not None:
            default = _constant(param.default)
        params.append(
            Param(
                name=param.name.rstrip("_"),
                kind=kind,
                default=default,
                optional=param.default is None,
                dynamic=param.name not in fixed,
                doc=docs.get(param.name.rstrip("_"), ""),
            )
        )
    return {
        "params": tuple(params),
        "variadic": variadic,
        "doc": inspect.cleandoc(call.__doc__ or ""),
    }


def _constant(value: Any) -> Any:
    if value is True or value is False or isinstance(value, str):
        return value
    return Int64(value) if isinstance(value, int) else Float64(value)


def _kind(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return _kind(next(one for one in get_args(hint) if one is not NoneType))
    origin = get_origin(hint) or hint
    if origin not in _KINDS:
        known = ", ".join(sorted(set(_KINDS.values())))
        raise TypeError(f"no parameter kind for {hint!r}; use one that stands for {known}")
    return _KINDS[origin]


class Registry:
    """The functions and methods a mapping may use; immutable, extended by making a new one."""

    def __init__(
        self,
        entries: Iterable[Entry],
        left_out: Mapping[str, str] | None = None,
        more: Callable[[], Iterable[Entry]] | None = None,
    ) -> None:
        """Take `entries`, later ones over earlier ones of the same name.

        Args:
            entries: the functions and methods.
            left_out: names that exist elsewhere and are no part of this, with the reason.
            more: gives further ones; asked once, when a name is looked up that is not among `entries`.
        """
        self.functions: dict[str, Entry] = {}
        self.methods: dict[str, Entry] = {}
        self.left_out = dict(left_out or {})
        self._more = more
        for entry in entries:
            if not _NAME.fullmatch(entry.name):
                raise ValueError(f"{entry.name!r} is no name for a {entry.noun}; use snake_case")
            (self.methods if entry.is_method else self.functions)[entry.name] = entry

    def __iter__(self) -> Iterator[Entry]:
        yield from self.functions.values()
        yield from self.methods.values()

    def with_entries(self, entries: Iterable[Entry]) -> Registry:
        """A registry with more entries; it replaces those of the same name."""
        return Registry([*self, *entries], self.left_out, self._more)

    def with_more(self, more: Callable[[], Iterable[Entry]]) -> Registry:
        """A registry that asks for more entries when a name is not there; it replaces none."""
        return Registry(self, self.left_out, more)

    def find(self, name: str, *, is_method: bool) -> Entry | None:
        """The function or method of a name."""
        known = self.methods if is_method else self.functions
        if name not in known and self._more is not None:
            more, self._more = self._more, None
            for entry in more():
                (self.methods if entry.is_method else self.functions).setdefault(entry.name, entry)
        return known.get(name)

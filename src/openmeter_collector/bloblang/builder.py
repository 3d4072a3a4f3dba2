"""Makes nodes of the tree: matches arguments to parameters and computes what is known.

Both happen while parsing, because the engine reports their errors in order with those of the
grammar.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from openmeter_collector.bloblang import arithmetic, convert
from openmeter_collector.bloblang.annotate import annotation
from openmeter_collector.bloblang.definition import REQUIRED, Entry, Param, Registry
from openmeter_collector.bloblang.failure import DivideFail, Fail, MismatchFail, machine_type
from openmeter_collector.bloblang.paths import split
from openmeter_collector.bloblang.services import Services
from openmeter_collector.bloblang.spans import Span
from openmeter_collector.bloblang.syntax import (
    Argument,
    Array,
    Binary,
    Function,
    Literal,
    Method,
    Node,
    Object,
    extend,
)
from openmeter_collector.values.kinds import DELETED, NOTHING, Int64, Value

Given = Sequence[tuple[str | None, Node]]
"""Arguments as written: a name or None, and the expression."""

_LEVELS: Final = (("*", "/", "%", "|"), ("+", "-"), ("==", "!=", ">", "<", ">=", "<="))


class BuildError(Exception):
    """A call or an operation that cannot be; `hint` is advice, "" for none."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class Builder:
    """Makes checked and folded nodes for one compilation."""

    def __init__(self, registry: Registry, services: Services) -> None:
        self.registry = registry
        self.services = services

    def function(self, name: str, given: Given, span: Span) -> Node:
        """A call of a function."""
        entry = self._find(name, "function")
        arguments, named = match_arguments(entry, given)
        prepared = self._prepare(entry, arguments)
        node = Function(entry, arguments, named, _written(given), prepared, span=span)
        if entry.static and not _dynamic(entry, arguments):
            value = _attempt(prepared or entry.call, *_values(arguments))
            return Literal(value, f"function {name}", node, span=span)
        if entry.name in ("deleted", "nothing"):
            marker = DELETED if entry.name == "deleted" else NOTHING
            return Literal(marker, "delete" if marker is DELETED else "nothing", node, span=span)
        return node

    def method(self, name: str, target: Node, given: Given, span: Span) -> Node:
        """A call of a method."""
        entry = self._find(name, "method")
        arguments, named = match_arguments(entry, given)
        prepared = self._prepare(entry, arguments)
        node = Method(target, entry, arguments, named, _written(given), prepared, span=span)
        if entry.is_path and arguments[0].node is None:
            # With a known path this is the path, in errors as well.
            return extend(target, split(arguments[0].value), span, node)
        if entry.static and isinstance(target, Literal) and not _dynamic(entry, arguments):
            if entry.prepared:
                value = _attempt(prepared, target.value)
            else:
                value = _attempt(entry.call, target.value, *_values(arguments))
            return Literal(value, f"method {name}", node, span=span)
        return node

    def _prepare(self, entry: Entry, arguments: tuple[Argument, ...]) -> Any:
        if not entry.prepared or _dynamic(entry, arguments):
            return None
        lead = [self.services] if entry.services else []
        return _attempt(entry.call, *lead, *_values(arguments))

    def _find(self, name: str, noun: str) -> Entry:
        registry = self.registry
        entry = registry.find(name, is_method=noun == "method")
        if entry is not None:
            return entry
        hint = ""
        reason = registry.left_out.get(name)
        entries, other = registry.functions, registry.methods
        if noun == "method":
            entries, other = other, entries
        if reason:
            hint = f"{name} is left out of this collector: {reason}"
        elif name in other:
            use = f"call it as {name}(...)" if noun == "method" else f"call it as value.{name}(...)"
            hint = f"{name} is a {'function' if noun == 'method' else 'method'}; {use}"
        else:
            close = difflib.get_close_matches(name, entries, 1, 0.6)
            hint = f"did you mean {close[0]}?" if close else ""
        raise BuildError(f"unrecognised {noun} '{name}'", hint)

    def operations(self, operands: list[Node], operators: list[str]) -> Node:
        """Operands with operators between them, bound by precedence and folded."""
        for level in _LEVELS:
            operands, operators = self._bind(operands, operators, level)
        operands, _ = self._bind(operands, operators, ("&&", "||"))
        return operands[0]

    def negated(self, operand: Node, start: int) -> Node:
        """A unary minus."""
        zero = Literal(Int64(0), span=Span(start, start))
        return self._binary("-", zero, operand, negation=True)

    def _bind(
        self, operands: list[Node], operators: list[str], level: Iterable[str]
    ) -> tuple[list[Node], list[str]]:
        if not any(one in level for one in operators):
            return operands, operators
        bound, left = [operands[0]], []
        for operator, operand in zip(operators, operands[1:], strict=True):
            if operator in level:
                bound[-1] = self._binary(operator, bound[-1], operand)
            else:
                bound.append(operand)
                left.append(operator)
        return bound, left

    def _binary(self, operator: str, left: Node, right: Node, *, negation: bool = False) -> Node:
        span = Span(left.span.start, right.span.end)
        node = Binary(operator, left, right, negation, span=span)
        operation = arithmetic.OPERATIONS.get(operator)
        if operation and isinstance(left, Literal) and isinstance(right, Literal):
            try:
                value = operation(left.value, right.value)
            except MismatchFail as fail:
                fail.names = annotation(left), annotation(right)
                raise BuildError(str(fail)) from None
            except DivideFail as fail:
                fail.attribute(annotation(right))
                raise BuildError(str(fail)) from None
            except Fail as fail:
                raise BuildError(str(fail)) from None
            return Literal(value, annotation(right), node, span=span)
        return node

    def array(self, items: list[Node], span: Span) -> Node:
        """An array; of literals only, it is one itself."""
        node = Array(tuple(items), span=span)
        if all(isinstance(item, Literal) for item in items):
            values = [item.value for item in items if isinstance(item, Literal)]
            return Literal([one for one in values if not _is_marker(one)], "", node, span=span)
        return node

    def object(self, pairs: list[tuple[str | Node, Node]], span: Span) -> Node:
        """An object; with nothing to compute, it is a literal."""
        known: dict[str, Value] | None = {}
        fixed: list[tuple[str | Node, Node]] = []
        for key, value in pairs:
            if isinstance(key, Literal):
                if not isinstance(key.value, str):
                    kind = machine_type(key.value)
                    raise BuildError(f"object keys must be strings, received: {kind}")
                key = key.value  # noqa: PLW2901 - the key, computed
            fixed.append((key, value))
            if isinstance(key, Node) or not isinstance(value, Literal):
                known = None
            elif known is not None and not _is_marker(value.value):
                known[key] = value.value
        node = Object(tuple(fixed), span=span)
        return node if known is None else Literal(known, "", node, span=span)


def _is_marker(value: Value) -> bool:
    return value is DELETED or value is NOTHING


def _attempt(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except Fail as fail:
        raise BuildError(str(fail)) from None


def _dynamic(entry: Entry, arguments: tuple[Argument, ...]) -> bool:
    if entry.variadic:
        return any(one.node is not None for one in arguments)
    return any(
        one.node is not None and not param.is_query
        for one, param in zip(arguments, entry.params, strict=True)
    )


def _values(arguments: tuple[Argument, ...]) -> list[Value]:
    return [one.value for one in arguments]


def _written(given: Given) -> tuple[tuple[str, Node], ...]:
    return tuple((name or "", node) for name, node in given)


def match_arguments(entry: Entry, given: Given) -> tuple[tuple[Argument, ...], bool]:
    """Give every parameter its argument, converted where it is known."""
    named: dict[str, Node] = {}
    positional: list[Node] = []
    for name, node in given:
        if name is None:
            positional.append(node)
        elif name in named:
            raise BuildError(f"duplicate named arg: {name}")
        else:
            named[name] = node
    if positional and named:
        raise BuildError("cannot mix named and nameless arguments")
    if entry.variadic:
        if named:
            raise BuildError("named arguments are not supported")
        return tuple(_plain(node) for node in positional), False
    if named:
        return _named(entry, named), True
    if len(positional) > len(entry.params):
        raise BuildError(
            f"wrong number of arguments, expected {len(entry.params)}, got {len(positional)}"
        )
    found: list[Argument] = []
    missing: list[str] = []
    for index, param in enumerate(entry.params):
        if index < len(positional):
            found.append(_argument(param, positional[index]))
        else:
            found.append(_default(param, missing))
    _complain_missing(missing)
    return tuple(found), False


def _named(entry: Entry, named: dict[str, Node]) -> tuple[Argument, ...]:
    found: list[Argument] = []
    missing: list[str] = []
    left = dict(named)
    for param in entry.params:
        node = left.pop(param.name, None)
        found.append(_default(param, missing) if node is None else _argument(param, node))
    if left:
        unknown = sorted(left)
        noun = "parameter" if len(unknown) == 1 else "parameters"
        wanted = ""
        if len(missing) == 1:
            wanted = f", did you mean {missing[0]}?"
        elif missing:
            wanted = f", expected {', '.join(missing)}"
        names = [param.name for param in entry.params]
        close = difflib.get_close_matches(unknown[0], names, 1, 0.6)
        hint = f"did you mean {close[0]}?" if close and not wanted else ""
        raise BuildError(f"unknown {noun} {', '.join(unknown)}{wanted}", hint)
    _complain_missing(missing)
    return tuple(found)


def _default(param: Param, missing: list[str]) -> Argument:
    if param.default is not REQUIRED:
        return Argument(param.default)
    if not param.optional:
        missing.append(param.name)
    return Argument()


def _complain_missing(missing: list[str]) -> None:
    if missing:
        noun = "parameter" if len(missing) == 1 else "parameters"
        raise BuildError(f"missing {noun}: {', '.join(missing)}")


def _plain(node: Node) -> Argument:
    return Argument(node.value) if isinstance(node, Literal) else Argument(None, node)


def _argument(param: Param, node: Node) -> Argument:
    if param.is_query:
        return Argument(None, node)
    if not isinstance(node, Literal):
        if not param.dynamic:
            raise BuildError(f"param {param.name} must not be dynamic")
        return Argument(None, node)
    try:
        return Argument(convert.argument(param.kind, node.value))
    except Fail as fail:
        raise BuildError(f"field {param.name}: {fail}") from None

"""The tree of a mapping.

Nodes are frozen and compare by identity; each knows the characters it was read from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openmeter_collector.bloblang.definition import Entry
from openmeter_collector.bloblang.spans import Source, Span
from openmeter_collector.values.kinds import Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Node:
    """Anything with a place in the text."""

    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Literal(Node):
    """A value known when the mapping is compiled, written or computed.

    Attributes:
        label: how errors call it, "" for its type.
        written: the tree it was computed from, None for a plain literal.
    """

    value: Value
    label: str = ""
    written: Node | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Field(Node):
    """A path into a context: `this.a.b`, `root.a`, or `name.a` of a lambda's parameter.

    Attributes:
        written: the tree it was made from, None if it stands there as a path.
    """

    context: str
    path: tuple[str, ...] = ()
    written: Node | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Get(Node):
    """A path into the value of any other expression.

    Attributes:
        written: the tree it was made from, None if it stands there as a path.
    """

    target: Node
    path: tuple[str, ...]
    written: Node | None = None


def extend(target: Node, path: tuple[str, ...], span: Span, written: Node | None = None) -> Node:
    """A path into `target`; paths into paths become one."""
    if isinstance(target, (Field, Get)) and target.written is not None and written is None:
        written = Get(target.written, path, span=span)
    if isinstance(target, Field):
        return Field(target.context, target.path + path, written, span=span)
    if isinstance(target, Get):
        return Get(target.target, target.path + path, written, span=span)
    return Get(target, path, written, span=span)


def as_written(node: Node) -> Node:
    """The tree as it stands in the text, before anything was computed or put together."""
    while isinstance(node, (Literal, Field, Get)) and node.written is not None:
        node = node.written
    return node


@dataclass(frozen=True, slots=True, eq=False)
class Variable(Node):
    """`$name`."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Metadata(Node):
    """`@key`, or `@` for all of it."""

    key: str


@dataclass(frozen=True, slots=True, eq=False)
class Argument:
    """What a parameter of a call receives.

    Attributes:
        value: the converted value, when it is known now.
        node: the expression, when it is not, or when the parameter is a query.
    """

    value: Value = None
    node: Node | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Function(Node):
    """`name(arguments)`."""

    entry: Entry
    arguments: tuple[Argument, ...]
    named: bool = False
    written: tuple[tuple[str, Node], ...] = ()
    prepared: object = None


@dataclass(frozen=True, slots=True, eq=False)
class Method(Node):
    """`target.name(arguments)`."""

    target: Node
    entry: Entry
    arguments: tuple[Argument, ...]
    named: bool = False
    written: tuple[tuple[str, Node], ...] = ()
    prepared: object = None


@dataclass(frozen=True, slots=True, eq=False)
class Bracket(Node):
    """`target.(body)`: the body with `this` as the target."""

    target: Node
    body: Node


@dataclass(frozen=True, slots=True, eq=False)
class Lambda(Node):
    """`name -> body`; the name `_` binds nothing."""

    name: str
    body: Node


@dataclass(frozen=True, slots=True, eq=False)
class Not(Node):
    """`!operand`."""

    operand: Node


@dataclass(frozen=True, slots=True, eq=False)
class Binary(Node):
    """`left operator right`; a unary minus is `0 - right` with `negation` set."""

    operator: str
    left: Node
    right: Node
    negation: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Array(Node):
    """`[items]`."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Object(Node):
    """`{pairs}`; a key is text or an expression."""

    pairs: tuple[tuple[str | Node, Node], ...]


@dataclass(frozen=True, slots=True, eq=False)
class If(Node):
    """`if condition { value } else if ... else { value }` as an expression."""

    branches: tuple[tuple[Node, Node], ...]
    otherwise: Node | None


@dataclass(frozen=True, slots=True, eq=False)
class Match(Node):
    """`match subject { cases }`; a case is None for `_`."""

    subject: Node | None
    cases: tuple[tuple[Node | None, Node], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Let(Node):
    """`let name = value`."""

    name: str
    value: Node


@dataclass(frozen=True, slots=True, eq=False)
class Meta(Node):
    """`meta key = value`; without key, all metadata is replaced."""

    key: str | None
    value: Node


@dataclass(frozen=True, slots=True, eq=False)
class Assign(Node):
    """`path = value`; an empty path is the whole document."""

    path: tuple[str, ...]
    value: Node
    shorthand: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class IfStatement(Node):
    """`if condition { statements }` and so on; the last condition may be None."""

    branches: tuple[tuple[Node | None, tuple[Node, ...]], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Import(Node):
    """`import "path"`; only the formatter needs it, its maps are in the program."""

    path: str


@dataclass(frozen=True, slots=True, eq=False)
class MapDefinition(Node):
    """`map name { statements }`."""

    name: str
    body: tuple[Node, ...]
    source: Source


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A whole mapping: its statements in order, and all maps it can apply."""

    source: Source
    statements: tuple[Node, ...]
    maps: dict[str, MapDefinition] = field(default_factory=dict)
    imported: Program | None = None


def children(node: Node) -> list[Node]:
    """The expressions directly below an expression or statement, in order of evaluation."""
    match node:
        case Get(target=target):
            return [target]
        case Function(arguments=arguments):
            return [one.node for one in arguments if one.node is not None]
        case Method(target=target, arguments=arguments):
            return [target, *(one.node for one in arguments if one.node is not None)]
        case Bracket(target=target, body=body):
            return [target, body]
        case Lambda(body=body):
            return [body]
        case Not(operand=operand):
            return [operand]
        case Binary(left=left, right=right):
            return [left, right]
        case Array(items=items):
            return list(items)
        case Object(pairs=pairs):
            return [part for pair in pairs for part in pair if isinstance(part, Node)]
        case If(branches=branches, otherwise=otherwise):
            nodes = [part for branch in branches for part in branch]
            return nodes if otherwise is None else [*nodes, otherwise]
        case Match(subject=subject, cases=cases):
            nodes = [] if subject is None else [subject]
            return nodes + [part for case in cases for part in case if part is not None]
        case Let(value=value) | Meta(value=value) | Assign(value=value):
            return [value]
        case IfStatement(branches=branches):
            found: list[Node] = []
            for condition, body in branches:
                found += [] if condition is None else [condition]
                found += body
            return found
        case MapDefinition(body=body):
            return list(body)
    return []

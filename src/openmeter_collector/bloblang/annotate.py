"""How errors call an expression: ``field `this.a` ``, `number literal`, `method uppercase`."""

from __future__ import annotations

from openmeter_collector.bloblang.failure import type_name
from openmeter_collector.bloblang.syntax import (
    Array,
    Binary,
    Bracket,
    Field,
    Function,
    Get,
    If,
    Lambda,
    Literal,
    Match,
    Metadata,
    Method,
    Node,
    Not,
    Object,
    Variable,
)


def dotted(path: tuple[str, ...]) -> str:
    """A path as text, with `~` and `.` inside a segment escaped."""
    return ".".join(part.replace("~", "~0").replace(".", "~1") for part in path)


def annotation(node: Node) -> str:
    """The name of an expression in error texts."""
    while True:
        match node:
            case Lambda(body=body) | Bracket(body=body):
                node = body
            case Binary(right=right):
                node = right
            case Method(entry=entry, arguments=arguments) if entry.name == "map":
                query = arguments[0].node
                if query is None:
                    return "method map"
                node = query
            case _:
                return _own(node)


def _own(node: Node) -> str:
    match node:
        case Field(context=context, path=path):
            return f"field `{'.'.join(filter(None, (context, dotted(path))))}`"
        case Literal(value=value, label=label):
            return label or f"{type_name(value)} literal"
        case Get(path=path):
            return f"path `{dotted(path)}`"
        case Variable(name=name):
            return f"variable {name}"
        case Metadata(key=key):
            return f"meta field {key}" if key else "meta object"
        case Not(operand=operand):
            return f"not {annotation(operand)}"
        case Array():
            return "array literal"
        case Object():
            return "object literal"
        case If():
            return "if expression"
        case Match():
            return "match expression"
        case Method():
            return _method(node)
        case Function():
            return _function(node)
    return "expression"


def _method(node: Method) -> str:
    name = node.entry.name
    first = node.arguments[0] if node.arguments else None
    if any(
        one.node is not None and not param.is_query
        for one, param in zip(node.arguments, node.entry.params, strict=False)
    ):
        return f"method {name}"
    if name == "apply" and first is not None:
        return f"map {first.value}"
    if name == "from" and first is not None:
        return f"{annotation(node.target)} from {first.value}"
    if name == "not":
        return f"not {annotation(node.target)}"
    return f"method {name}"


def _function(node: Function) -> str:
    name = node.entry.name
    argument = node.arguments[0] if node.arguments else None
    if argument is None or argument.node is not None:
        return f"function {name}"
    if name == "json":
        return f"json path `{argument.value}`"
    if name in ("meta", "metadata", "root_meta"):
        noun = {"meta": "meta", "metadata": "metadata", "root_meta": "root_meta"}[name]
        return f"{noun} field {argument.value}" if argument.value else f"{noun} object"
    if name == "var":
        return f"variable {argument.value}"
    return f"function {name}"

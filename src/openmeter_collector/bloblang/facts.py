"""What can be said about an expression without running it."""

from __future__ import annotations

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
    children,
)
from openmeter_collector.values.kinds import DELETED, NOTHING

_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "&&", "||"})
_BOOL_METHODS = frozenset(
    {"has_prefix", "has_suffix", "contains", "exists", "all", "any", "bool", "re_match", "not"}
)


def is_bool(node: Node) -> bool:
    """Whether the value, if there is one, is a bool."""
    match node:
        case Literal(value=value):
            return value is True or value is False
        case Binary(operator=operator):
            return operator in _COMPARISONS
        case Not():
            return True
        case Method(entry=entry):
            return entry.name in _BOOL_METHODS and not entry.marks
        case Function(entry=entry):
            return entry.name == "errored"
        case Bracket(body=body) | Lambda(body=body):
            return is_bool(body)
    return False


def marks(node: Node) -> bool:
    """Whether the value may be `deleted()` or `nothing()`."""
    match node:
        case Literal(value=value):
            return value is DELETED or value is NOTHING
        case Field(context=context, path=path):
            return context == "root" or not path
        case Bracket(target=target, body=body):
            return marks(body) or (marks(target) and _bare(body))
        case Lambda(body=body):
            return marks(body)
        case Binary(operator="|", right=right):
            return marks(right)
        case Function(entry=entry):
            return entry.marks
        case Method(target=target, entry=entry, arguments=arguments):
            if entry.name == "or":
                return marks(arguments[0].node) if arguments[0].node else False
            if entry.name == "catch":
                inner = arguments[0].node
                return marks(target) or (inner is not None and marks(inner))
            return entry.marks
        case If(branches=branches, otherwise=otherwise):
            return (
                otherwise is None or any(marks(value) for _, value in branches) or marks(otherwise)
            )
        case Match(cases=cases):
            whole = bool(cases) and cases[-1][0] is None
            return not whole or any(marks(value) for _, value in cases)
    return False


def _bare(node: Node) -> bool:
    return isinstance(node, Field) and not node.path


def fails(node: Node, *, defined: bool) -> bool:
    """Whether computing the value may fail; `defined` says that the message is a document."""
    match node:
        case Literal() | Metadata():
            return False
        case Field(context=context):
            return context == "root" or (context == "this" and not defined)
        case Variable():
            return True
        case Get() | Array() | Object() | If() | Bracket() | Lambda():
            if isinstance(node, Object) and any(isinstance(key, Node) for key, _ in node.pairs):
                return True
            if isinstance(node, If) and not all(is_bool(test) for test, _ in node.branches):
                return True
            if isinstance(node, Lambda) and not defined:
                return True
            return any(fails(child, defined=defined) for child in children(node))
        case Binary(operator="|", right=right):
            return fails(right, defined=defined)
        case Function(entry=entry, arguments=arguments):
            return not entry.total or any(one.node is not None for one in arguments)
        case Method(entry=entry, arguments=arguments) if entry.name in ("or", "catch"):
            inner = arguments[0].node
            return inner is None or fails(inner, defined=defined)
    return True


def reads_this(node: Node) -> bool:
    """Whether an expression looks at its `this`, so that a handler must know the error's text."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Lambda) and one.name != "_":
            return True
        if isinstance(one, Field) and one.context == "this":
            return True
        if isinstance(one, Method) and one.entry.special:
            return True
        if isinstance(one, Match) and one.subject is None:
            return True
        waiting.extend(children(one))
    return False

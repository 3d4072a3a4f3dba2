"""Small makers of Python syntax trees.

User text only ever enters a tree as a constant; names are made by the emitter.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any


def load(name: str) -> ast.expr:
    """Read a variable."""
    return ast.Name(name, ast.Load())


def store(name: str) -> ast.expr:
    """Write a variable."""
    return ast.Name(name, ast.Store())


def constant(value: Any) -> ast.expr:
    """A constant of a type Python can keep in code."""
    return ast.Constant(value)


def call(name: str | ast.expr, *args: ast.expr) -> ast.Call:
    """Call a function."""
    function = load(name) if isinstance(name, str) else name
    return ast.Call(function, list(args), [])


def attribute(value: ast.expr, name: str) -> ast.expr:
    """Read an attribute."""
    return ast.Attribute(value, name, ast.Load())


def assign(name: str, value: ast.expr) -> ast.stmt:
    """`name = value`."""
    return ast.Assign([store(name)], value)


def subscript(value: ast.expr, key: ast.expr) -> ast.expr:
    """`value[key]`."""
    return ast.Subscript(value, key, ast.Load())


def compare(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> ast.expr:
    """`left operator right`."""
    return ast.Compare(left, [operator], [right])


def same(left: ast.expr, right: ast.expr) -> ast.expr:
    """`left is right`; known at once for two constants, which Python warns about."""
    if isinstance(left, ast.Constant) and isinstance(right, ast.Constant):
        return constant(left.value is right.value)
    return compare(left, ast.Is(), right)


def choose(test: ast.expr, yes: ast.expr, no: ast.expr) -> ast.expr:
    """`yes if test else no`."""
    return ast.IfExp(test, yes, no)


def branch(test: ast.expr, yes: Sequence[ast.stmt], no: Sequence[ast.stmt] = ()) -> ast.stmt:
    """`if test: yes else: no`."""
    return ast.If(test, list(yes) or [ast.Pass()], list(no))


def attempt(
    body: Sequence[ast.stmt],
    errors: Sequence[str],
    handler: Sequence[ast.stmt],
    *,
    bind: str | None = None,
) -> ast.stmt:
    """`try: body except (errors) as bind: handler`."""
    kinds: ast.expr
    if len(errors) == 1:
        kinds = load(errors[0])
    else:
        kinds = ast.Tuple([load(error) for error in errors], ast.Load())
    return ast.Try(
        list(body) or [ast.Pass()],
        [ast.ExceptHandler(kinds, bind, list(handler) or [ast.Pass()])],
        [],
        [],
    )


def function(name: str, params: Sequence[str], body: Sequence[ast.stmt]) -> ast.FunctionDef:
    """`def name(params): body`."""
    arguments = ast.arguments(
        posonlyargs=[],
        args=[ast.arg(param) for param in params],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    return ast.FunctionDef(name, arguments, list(body), [])


_FIELDS = ("lineno", "end_lineno", "col_offset", "end_col_offset")


def place(node: ast.AST, position: tuple[int, int, int, int]) -> None:
    """Give a tree positions where it has none; without recursion, as trees can be deep."""
    waiting = [(node, position)]
    while waiting:
        one, inherited = waiting.pop()
        if isinstance(one, (ast.expr, ast.stmt, ast.arg, ast.excepthandler)):
            known = getattr(one, "lineno", None)
            if known is None:
                for field, value in zip(_FIELDS, inherited, strict=True):
                    setattr(one, field, value)
            else:
                inherited = tuple(getattr(one, field) for field in _FIELDS)
        waiting.extend((child, inherited) for child in ast.iter_child_nodes(one))

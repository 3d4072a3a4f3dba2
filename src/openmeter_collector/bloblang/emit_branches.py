"""Conditions, `if` and `match` as Python code."""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import partial

from openmeter_collector.bloblang import pyast as py
from openmeter_collector.bloblang.emit_base import Context
from openmeter_collector.bloblang.emit_nodes import NodeEmitter
from openmeter_collector.bloblang.facts import is_bool
from openmeter_collector.bloblang.syntax import If, Literal, Match, Node


class BranchEmitter(NodeEmitter):
    """Emits what is computed only if something holds."""

    def condition(self, node: Node, context: Context, *, null: bool = True) -> ast.expr:
        """A condition of `if`; with `null`, null counts as false."""
        value = self.expression(node, context)
        if is_bool(node):
            return value
        made = py.call("r_condition" if null else "r_strict_condition", value)
        self.locate(made, node)
        return made

    def choice(self, node: If, context: Context) -> ast.expr:
        """`if` as an expression."""
        target = self.temporary()
        outer = self.block
        level = self.block
        for condition, value in node.branches:
            self.block = level
            test = self.condition(condition, context)
            made = ast.If(test, self.into(target, partial(self.expression, value, context)), [])
            level.append(made)
            level = made.orelse
        self.block = level
        if node.otherwise is None:
            level.append(py.assign(target, py.load("r_NOTHING")))
        else:
            otherwise = node.otherwise
            level.extend(self.into(target, lambda: self.expression(otherwise, context)))
        self.block = outer
        return py.load(target)

    def match(self, node: Match, context: Context) -> ast.expr:
        """`match`: the first case that holds for the subject."""
        if node.subject is None:
            subject = context.this or ("this" if self.settings.defined else "")
            held = subject or self.hold(py.constant(None))
        else:
            subject_value = self.expression(node.subject, context)
            held = self.temporary()
            self.block.append(py.assign(held, subject_value))
        inner = replace(context, this=held, previous=context.this)
        target = self.temporary()
        outer = level = self.block
        for condition, value in node.cases:
            self.block = level
            maker = partial(self.expression, value, inner)
            if condition is None:
                level.extend(self.into(target, maker))
                break
            test = self._case(condition, held, inner)
            made = ast.If(test, self.into(target, maker), [])
            level.append(made)
            level = made.orelse
        else:
            level.append(py.assign(target, py.load("r_NOTHING")))
        self.block = outer
        return py.load(target)

    def _case(self, condition: Node, held: str, context: Context) -> ast.expr:
        subject = py.load(held)
        if isinstance(condition, Literal):
            value = condition.value
            if value is None:
                return py.same(subject, py.constant(None))
            slow = py.call("r_equal", subject, self.constant(value))
            if type(value) is not str:
                return slow
            test = py.same(py.call("type", subject), py.load("str"))
            return py.choose(test, py.compare(subject, ast.Eq(), py.constant(value)), slow)
        value = self.expression(condition, context)
        return value if is_bool(condition) else py.same(value, py.constant(True))

"""Arrays and objects as Python code."""

from __future__ import annotations

import ast
from functools import partial

from openmeter_collector.bloblang import pyast as py
from openmeter_collector.bloblang.emit_base import Context
from openmeter_collector.bloblang.emit_branches import BranchEmitter
from openmeter_collector.bloblang.facts import fails, marks
from openmeter_collector.bloblang.syntax import Node, Object


class ContainerEmitter(BranchEmitter):
    """Emits literals of arrays and objects."""

    def array(self, items: tuple[Node, ...], context: Context) -> ast.expr:
        """`[items]`, without those that are deleted or nothing."""
        values = self.sequence([partial(self.expression, item, context) for item in items])
        made: ast.expr = ast.List(values, ast.Load())
        return py.call("r_present", made) if any(marks(item) for item in items) else made

    def object(self, node: Object, context: Context) -> ast.expr:
        """`{pairs}`, without values that are deleted or nothing."""
        keys = [key for key, _ in node.pairs]
        if any(isinstance(key, Node) for key in keys) or len(set(keys)) < len(keys):
            return self._built(node, context)
        values = self.sequence(
            [partial(self.expression, value, context) for _, value in node.pairs]
        )
        made: ast.expr = ast.Dict([py.constant(key) for key in keys], values)
        unsure = [key for key, value in node.pairs if marks(value)]
        if not unsure:
            return made
        held = self.hold(made)
        for key in unsure:
            found = py.subscript(py.load(held), py.constant(key))
            removal = ast.Delete([ast.Subscript(py.load(held), py.constant(key), ast.Del())])
            self.block.append(py.branch(py.call("r_is_marker", found), [removal]))
        return py.load(held)

    def _built(self, node: Object, context: Context) -> ast.expr:
        held = self.temporary()
        self.block.append(py.assign(held, ast.Dict([], [])))
        for key, value in node.pairs:
            name: ast.expr
            if isinstance(key, str):
                name = py.constant(key)
            else:
                made = py.call("r_key", self.expression(key, context))
                self.locate(made, node)
                name = py.load(self.hold(made))
            target = self.temporary()
            body = self.into(target, partial(self.expression, value, context))
            if not isinstance(key, str) and fails(value, defined=self.settings.defined):
                settled = py.call("r_value_failed", py.load("e"), name, py.load(self.unit_name))
                settled.args.append(py.load(self.keep(value)))
                self.block.append(
                    py.attempt(body, ["r_Fail"], [ast.Raise(settled, None)], bind="e")
                )
            else:
                self.block.extend(body)
            write = ast.Assign([ast.Subscript(py.load(held), name, ast.Store())], py.load(target))
            if marks(value):
                test = ast.UnaryOp(ast.Not(), py.call("r_is_marker", py.load(target)))
                self.block.append(py.branch(test, [write]))
            else:
                self.block.append(write)
        return py.load(held)

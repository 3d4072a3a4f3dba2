"""Calls of functions and methods as Python code."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from openmeter_collector.bloblang import pyast as py
from openmeter_collector.bloblang.emit_base import Context
from openmeter_collector.bloblang.emit_containers import ContainerEmitter
from openmeter_collector.bloblang.facts import fails, reads_this
from openmeter_collector.bloblang.survey import DocumentUse, document_uses
from openmeter_collector.bloblang.syntax import (
    Argument,
    Bracket,
    Field,
    Function,
    Get,
    Method,
    Node,
)

_OWN_TARGET: Final = frozenset({"catch", "or", "from", "from_all"})
_WITH_DEFAULT: Final = frozenset({"bool", "number", "timestamp"})
_VIEWED: Final = frozenset({"content", "json", "metadata", "meta"})


Maker = Callable[[], ast.expr]


class CallEmitter(ContainerEmitter):
    """Emits calls, and knows the few that have code of their own."""

    # Survey -------------------------------------------------------------------------------

    def look_deeper(self, node: Node) -> None:
        """Note what a call or a field needs."""
        match node:
            case Field(context="root"):
                self.reads_root = True
            case Function(entry=entry):
                self.uses_view = self.uses_view or entry.name in _VIEWED
                if entry.name == "root_meta":
                    self.reads_metadata = True
                if entry.name == "var":
                    self.reads_root = True
            case Method(entry=entry) if entry.name == "apply":
                self.applies = True
                self.reads_document = True
                self.reads_metadata = True

    def survey_document(self, nodes: tuple[Node, ...]) -> None:
        """Find out what is read of the document."""
        uses: DocumentUse = document_uses(nodes, in_map=self.in_map)
        self.reads_document = self.reads_document or uses.any
        self.plain_document = uses.single
        self.path_uses = uses.paths

    # Arguments ----------------------------------------------------------------------------

    def dynamic(self, node: Method | Function) -> bool:
        """Whether an argument has to be computed for each message."""
        if node.entry.variadic:
            return any(one.node is not None for one in node.arguments)
        return any(
            one.node is not None and not param.is_query
            for one, param in zip(node.arguments, node.entry.params, strict=True)
        )

    def arguments(self, node: Method | Function, context: Context) -> list[ast.expr]:
        """All arguments, in the order of the parameters."""
        return self.sequence(self._makers(node, context))

    def _makers(self, node: Method | Function, context: Context) -> list[Maker]:
        return [
            partial(self._argument, node, index, context) for index in range(len(node.arguments))
        ]

    def _argument(self, call: Method | Function, index: int, context: Context) -> ast.expr:
        one = call.arguments[index]
        variadic = call.entry.variadic
        kind = "any" if variadic else call.entry.params[index].kind
        if not variadic and call.entry.params[index].is_query:
            inner = isinstance(call, Method)
            if one.node is None:
                return py.constant(None) if one.value is None else self._always(one.value)
            return self.query(one.node, context, takes=inner)
        if one.node is None:
            return self.constant(one.value) if _atomic(one.value) else py.load(self.keep(one.value))
        value = self.expression(one.node, context)
        if kind == "any":
            return value
        made = py.call("r_argument", py.constant(kind), value)
        self.locate(made, one.node)
        return made

    def _always(self, value: object) -> ast.expr:
        return py.load(self.keep(lambda _=None: value))

    def query(self, node: Node, context: Context, *, takes: bool = True) -> ast.expr:
        """An argument that is an expression, as a function of what becomes `this`."""
        name, param = self.temporary(), self.temporary()
        inner = replace(context, this=param, previous=context.this) if takes else context
        outer, self.block = self.block, []
        blocks, self.blocks = self.blocks, 1
        nesting, self.nesting = self.nesting, 0
        value = self.expression(node, inner)
        body: list[ast.stmt] = [*self.block, ast.Return(value)]
        self.block, self.blocks, self.nesting = outer, blocks, nesting
        body = self.settled(body, node)
        made = py.function(name, [param], body)
        self.locate(made, node)
        self.block.append(made)
        return py.load(name)

    # Functions ----------------------------------------------------------------------------

    def function(self, node: Function, context: Context) -> ast.expr:
        """A call of a function."""
        entry = node.entry
        if entry.name == "root_meta":
            return self._root_meta(node, context)
        if entry.name == "var":
            return self._var(node, context)
        lead: list[ast.expr] = []
        if entry.context:
            lead = [py.load("batch"), py.load(context.index)]
            self._sync(entry.name)
        if entry.stateful:
            call: ast.expr = py.load(self.keep(entry.call()))
        elif node.prepared is not None:
            return self._called(node, py.load(self.keep(node.prepared)), lead)
        else:
            call = py.load(self.keep(entry.call))
        arguments = self.arguments(node, context)
        if not entry.prepared:
            return self._called(node, call, [*lead, *arguments])
        services = [py.load(self.keep(self.space["r_services"]))] if entry.services else []
        made = py.call("r_prepare", call, *services, *arguments)
        self.locate(made, node)
        return self._called(node, py.load(self.hold(made)), lead)

    def _called(self, node: Node, call: ast.expr, arguments: Sequence[ast.expr]) -> ast.expr:
        made = py.call(call, *arguments)
        self.locate(made, node)
        return made

    def _sync(self, name: str) -> None:
        """In mutations these functions see what was written already."""
        if self.settings.mode != "mutation" or self.in_map or name not in _VIEWED:
            return
        has_meta = self.reads_metadata or self.writes_metadata
        meta = py.load("meta") if has_meta else py.constant(None)
        sync = py.call(py.attribute(py.load("batch"), "sync"), py.load("this"), meta)
        self.block.append(ast.Expr(sync))

    def _root_meta(self, node: Function, context: Context) -> ast.expr:
        (key,) = self.arguments(node, context)
        made = py.call("r_meta_text", py.load("meta"), key)
        self.locate(made, node)
        return made

    def _var(self, node: Function, context: Context) -> ast.expr:
        (name,) = self.arguments(node, context)
        if context.in_field:
            made = py.call("r_no_variables")
            self.locate(made, node)
            return made
        known = ast.Dict(
            [py.constant(one) for one in self.variables],
            [py.load(self.variable_name(one)) for one in self.variables],
        )
        made = py.call("r_var", known, name)
        self.locate(made, node)
        return made

    # Methods ------------------------------------------------------------------------------

    def takes_target(self, node: Method | Get | Bracket) -> bool:
        """Whether a call decides itself how its receiver is computed."""
        if not isinstance(node, Method):
            return False
        name = node.entry.name
        if name in _OWN_TARGET:
            return True
        if name in _WITH_DEFAULT:
            first = node.arguments[0]
            return first.value is not None or first.node is not None
        # Arguments are computed before the receiver; it shows when both may fail.
        return self.dynamic(node) and fails(node.target, defined=self.settings.defined)

    def method(self, node: Method, target: ast.expr, context: Context) -> ast.expr:
        """A call of a method on a computed receiver."""
        entry = node.entry
        if entry.name == "map":
            query = node.arguments[0].node
            if query is not None:
                return self.with_this(target, query, context)
        if entry.name == "not":
            made = py.call("r_invert", target)
            self.locate(made, node)
            return made
        if entry.name == "apply":
            return self._apply(node, target, context)
        if entry.prepared and node.prepared is not None:
            return self._called(node, py.load(self.keep(node.prepared)), [target])
        values = [target]
        if node.arguments:
            first, *rest = self.sequence([lambda: target, *self._makers(node, context)])
            values = [first, *rest]
        return self._applied(node, values)

    def _applied(self, node: Method, values: list[ast.expr]) -> ast.expr:
        entry = node.entry
        call: ast.expr = py.load(self.keep(entry.call))
        if not entry.prepared:
            return self._called(node, call, values)
        held = py.load(self.hold(values[0]))
        made = py.call("r_prepare", call, *values[1:])
        self.locate(made, node)
        return self._called(node, made, [held])

    def special(self, node: Method, context: Context) -> ast.expr:
        """A method that computes its receiver itself."""
        match node.entry.name:
            case "or":
                return self.coalesce(node, context)
            case "catch":
                return self._catch(node, context)
            case "from":
                return self._from(node, context)
            case "from_all":
                return self._from_all(node, context)
            case "bool" | "number" | "timestamp":
                return self._defaulted(node, context)
        arguments = [py.load(self.hold(one)) for one in self.arguments(node, context)]
        if node.entry.name == "apply":
            return self._apply(node, self.expression(node.target, context), context, arguments[0])
        if node.entry.prepared:
            made = py.call("r_prepare", py.load(self.keep(node.entry.call)), *arguments)
            self.locate(made, node)
            held = py.load(self.hold(made))
            return self._called(node, held, [self.expression(node.target, context)])
        target = self.expression(node.target, context)
        return self._called(node, py.load(self.keep(node.entry.call)), [target, *arguments])

    def _fallback(self, argument: Argument, context: Context) -> ast.expr:
        if argument.node is None:
            return self.constant(argument.value)
        return self.expression(argument.node, context)

    def _catch(self, node: Method, context: Context) -> ast.expr:
        argument = node.arguments[0]
        target = self.temporary()
        inner = context
        handler: list[ast.stmt] = []
        if argument.node is not None and reads_this(argument.node):
            text = self.temporary()
            settled = py.call(
                "r_error_text",
                py.load("e"),
                py.load(self.unit_name),
                py.load(self.keep(node.target)),
            )
            handler.append(py.assign(text, settled))
            inner = replace(context, this=text, previous=context.this)
        # The fallback runs after the handler, so that its failures stand for themselves.
        failed = self.temporary()
        self.block.append(py.assign(failed, py.constant(False)))
        handler.append(py.assign(failed, py.constant(True)))
        self.attempt_into(target, node.target, context, handler, bind="e")
        body = self.into(target, lambda: self._fallback(argument, inner))
        self.block.append(py.branch(py.load(failed), body))
        return py.load(target)

    def _defaulted(self, node: Method, context: Context) -> ast.expr:
        (default,) = self.arguments(node, context)
        default = py.load(self.hold(default)) if not isinstance(default, ast.Constant) else default
        target = self.temporary()
        self.blocks += 1
        outer, self.block = self.block, []
        value = self.expression(node.target, context)
        made = self._called(node, py.load(self.keep(node.entry.call)), [value])
        body = [*self.block, py.assign(target, made)]
        self.block = outer
        self.blocks -= 1
        self.block.append(py.attempt(body, ["r_Fail"], [py.assign(target, default)]))
        return py.load(target)

    def _apply(
        self, node: Method, target: ast.expr, context: Context, name: ast.expr | None = None
    ) -> ast.expr:
        if name is None:
            target, name = self.sequence([lambda: target, *self._makers(node, context)])
        depth = py.load(context.depth) if context.depth else py.constant(0)
        made = py.call(
            "r_apply",
            py.load("maps"),
            name,
            py.load("batch"),
            py.load(context.index),
            py.load("this"),
            py.load("meta"),
            target,
            depth,
            py.load("left"),
        )
        self.locate(made, node)
        return made

    def _from(self, node: Method, context: Context) -> ast.expr:
        (position,) = self.arguments(node, context)
        index = self.temporary()
        checked = py.call("r_position", py.load("batch"), position)
        self.locate(checked, node)
        self.block.append(py.assign(index, checked))
        return self.expression(node.target, replace(context, index=index))

    def _from_all(self, node: Method, context: Context) -> ast.expr:
        index = self.temporary()
        name = self.temporary()
        outer, self.block = self.block, []
        blocks, self.blocks = self.blocks, 0
        value = self.expression(node.target, replace(context, index=index))
        body = self.settled([*self.block, ast.Return(value)], node.target)
        self.block, self.blocks = outer, blocks
        made = py.function(name, [index], body)
        self.locate(made, node)
        self.block.append(made)
        result = py.call("r_for_all", py.load("batch"), py.load(name))
        self.locate(result, node)
        return result


def _atomic(value: object) -> bool:
    return value is None or type(value) in (str, bool, bytes)

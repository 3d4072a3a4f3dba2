"""Expressions as Python expressions, with the statements they need put before them."""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import partial
from typing import Final

from openmeter_collector.bloblang import pyast as py
from openmeter_collector.bloblang.annotate import dotted
from openmeter_collector.bloblang.emit_base import CodeWriter, Context
from openmeter_collector.bloblang.facts import fails, is_bool, marks
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
from openmeter_collector.values.kinds import Int64, Value

_OPERATORS: Final = {
    "+": "r_add",
    "-": "r_subtract",
    "*": "r_multiply",
    "/": "r_divide",
    "%": "r_modulo",
    "==": "r_equals",
    "!=": "r_differs",
    "<": "r_less",
    "<=": "r_less_or_equal",
    ">": "r_greater",
    ">=": "r_greater_or_equal",
}
_COMPARISONS: Final = {
    "==": ast.Eq,
    "!=": ast.NotEq,
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
}
_MAX_BLOCKS: Final = 14
"""How deeply `try` may be nested in one function; Python itself stops at twenty."""

_MAX_NESTING: Final = 24
"""How deeply emitted expressions may be nested before a part is computed on its own."""


class NodeEmitter(CodeWriter):
    """Emits expressions into the current block."""

    # Expressions --------------------------------------------------------------------------

    def expression(self, node: Node, context: Context) -> ast.expr:
        """The value of any node."""
        if isinstance(node, (Binary, Method, Get, Bracket)):
            return self.chain(node, context)
        self.nesting += 1
        try:
            made = self.plain(node, context)
        finally:
            self.nesting -= 1
        if self.nesting and self.nesting % _MAX_NESTING == 0 and not isinstance(made, ast.Name):
            return py.load(self.hold(made))
        return made

    def chain(self, node: Node, context: Context) -> ast.expr:
        """A chain of calls or operators, from its start on and without recursion."""
        links: list[Node] = []
        one = node
        while True:
            if isinstance(one, Binary) and one.operator in _OPERATORS:
                links.append(one)
                one = one.left
            elif isinstance(one, (Method, Get, Bracket)) and not self.takes_target(one):
                links.append(one)
                one = one.target
            else:
                break
        self.nesting += 1
        try:
            made = self.plain(one, context)
            for count, link in enumerate(reversed(links), 1):
                made = self.link(link, made, context)
                if count % _MAX_NESTING == 0:
                    made = py.load(self.hold(made))
        finally:
            self.nesting -= 1
        return made

    def takes_target(self, node: Method | Get | Bracket) -> bool:
        """Whether a call decides itself how its receiver is computed."""
        raise NotImplementedError

    def link(self, node: Node, target: ast.expr, context: Context) -> ast.expr:
        """One more call or operator, applied to what was made so far."""
        match node:
            case Binary():
                return self.operation(node, target, context)
            case Get(path=path):
                return self.read(target, path)
            case Bracket(body=body):
                return self.with_this(target, body, context)
            case Method():
                return self.method(node, target, context)
        raise TypeError(node)

    def plain(self, node: Node, context: Context) -> ast.expr:
        """The value of a node that is no link of a chain."""
        match node:
            case Literal(value=value):
                return self.constant(value)
            case Field():
                return self.field(node, context)
            case Variable(name=name):
                return self.variable(node, name, context)
            case Metadata(key=key):
                return self.metadata(key)
            case Not(operand=operand):
                return self.negation(node, operand, context)
            case Array(items=items):
                return self.array(items, context)
            case Object():
                return self.object(node, context)
            case If():
                return self.choice(node, context)
            case Match():
                return self.match(node, context)
            case Lambda():
                return self.lambda_here(node, context)
            case Binary(operator="|"):
                return self.coalesce(node, context)
            case Binary():
                return self.logic(node, context)
            case Function():
                return self.function(node, context)
            case Method():
                return self.special(node, context)
        raise TypeError(node)

    def choice(self, node: If, context: Context) -> ast.expr:
        """`if` as an expression."""
        raise NotImplementedError

    def match(self, node: Match, context: Context) -> ast.expr:
        """`match`."""
        raise NotImplementedError

    def array(self, items: tuple[Node, ...], context: Context) -> ast.expr:
        """`[items]`."""
        raise NotImplementedError

    def object(self, node: Object, context: Context) -> ast.expr:
        """`{pairs}`."""
        raise NotImplementedError

    def function(self, node: Function, context: Context) -> ast.expr:
        """A call of a function."""
        raise NotImplementedError

    def method(self, node: Method, target: ast.expr, context: Context) -> ast.expr:
        """A call of a method on a computed receiver."""
        raise NotImplementedError

    def special(self, node: Method, context: Context) -> ast.expr:
        """A method that computes its receiver itself."""
        raise NotImplementedError

    # Reading ------------------------------------------------------------------------------

    def field(self, node: Field, context: Context) -> ast.expr:
        """A path into a context."""
        if node.context == "root":
            if self.settings.mode == "query":
                made = py.call("r_no_root")
                self.locate(made, node)
                return made
            return self.read(py.load("root"), node.path)
        if node.context != "this":
            return self.base(context.names[node.context], node, context)
        return self.base(context.this, node, context)

    def base(self, variable: str | None, node: Field, context: Context) -> ast.expr:
        """A path into a variable, or into the document."""
        if variable is not None:
            return self.read(py.load(variable), node.path)
        if not self.settings.defined:
            made = py.call("r_undefined", py.constant(dotted(node.path)))
            self.locate(made, node)
            return made
        if context.index != "index":
            return self.read(py.load("this"), node.path)
        return self.read_document(node.path)

    def read_document(self, path: tuple[str, ...]) -> ast.expr:
        """A path into the document, by the longest part that was read already."""
        for length in range(len(path), 0, -1):
            known = self.shared.get(path[:length])
            if known is not None:
                return self.read(py.load(known), path[length:])
        if len(path) == 1 and self.plain_document and path[0] != "*":
            return py.call("get", py.constant(path[0]))
        return self.read(py.load("this"), path)

    def read(self, value: ast.expr, path: tuple[str, ...]) -> ast.expr:
        """What is at a path below a value; null when there is nothing."""
        if not path:
            return value
        if len(path) == 1:
            held = py.load(self.hold(value))
            test = py.same(py.call("type", held), py.load("dict"))
            direct = py.call(py.attribute(held, "get"), py.constant(path[0]))
            return py.choose(test, direct, py.call("r_get_one", held, py.constant(path[0])))
        held = py.load(self.hold(value))
        if self.blocks >= _MAX_BLOCKS or "*" in path:
            return py.call("r_get", held, self.constant(path))
        target = self.temporary()
        found: ast.expr = held
        for segment in path[:-1]:
            found = py.subscript(found, py.constant(segment))
        found = py.call(py.attribute(found, "get"), py.constant(path[-1]))
        slow = py.call("r_get", held, self.constant(path))
        self.block.append(
            py.attempt(
                [py.assign(target, found)],
                ["KeyError", "TypeError", "AttributeError"],
                [py.assign(target, slow)],
            )
        )
        return py.load(target)

    def share_paths(self) -> None:
        """Read the parts of the document once that several paths go through."""
        if self.settings.mode == "mutation":
            return
        prefixes = [path for path, uses in self.path_uses.items() if uses > 1]
        for path in sorted(prefixes, key=len):
            name = self.temporary()
            self.block.append(py.assign(name, self.read_document(path)))
            self.shared[path] = name

    def variable(self, node: Variable, name: str, context: Context) -> ast.expr:
        """`$name`."""
        if context.in_field:
            made = py.call("r_no_variables")
            self.locate(made, node)
            return made
        held = py.load(self.variable_name(name))
        if name in self.assigned:
            return held
        unset = py.call("r_unset", py.constant(name))
        self.locate(unset, node)
        return py.choose(py.same(held, py.load("r_UNSET")), unset, held)

    def metadata(self, key: str) -> ast.expr:
        """`@key` or `@`."""
        if key:
            return py.call(py.attribute(py.load("meta"), "get"), py.constant(key))
        return py.call("dict", py.load("meta"))

    # Operators ----------------------------------------------------------------------------

    def operation(self, node: Binary, left: ast.expr, context: Context) -> ast.expr:
        """An arithmetic operator or a comparison."""
        right = node.right
        if node.operator in ("==", "!=") and isinstance(right, Literal):
            quick = self._equals_text(node, left, right.value)
            if quick is not None:
                return quick
        if isinstance(right, Literal) and type(right.value) is Int64:
            quick = self._with_integer(node, left, right.value)
            if quick is not None:
                return quick
        first, second = self.sequence([lambda: left, lambda: self.expression(right, context)])
        made = py.call(_OPERATORS[node.operator], first, second)
        self.locate(made, node)
        return made

    def _with_integer(self, node: Binary, left: ast.expr, number: Int64) -> ast.expr | None:
        """A comparison of, or division by, an integer: at once if the left is one of a document."""
        plain = py.constant(int(number))
        quick: ast.expr
        if node.operator in _COMPARISONS:
            held = py.load(self.hold(left))
            quick = py.compare(held, _COMPARISONS[node.operator](), plain)
        elif node.operator == "/" and number:
            held = py.load(self.hold(left))
            quick = py.call("r_Float64", ast.BinOp(held, ast.Div(), plain))
        else:
            return None
        slow = py.call(_OPERATORS[node.operator], held, self.constant(number))
        self.locate(slow, node)
        return py.choose(py.same(py.call("type", held), py.load("r_int")), quick, slow)

    def _equals_text(self, node: Binary, left: ast.expr, text: Value) -> ast.expr | None:
        if text is None:
            operator: ast.cmpop = ast.Is() if node.operator == "==" else ast.IsNot()
            return py.compare(left, operator, py.constant(None))
        if type(text) is not str:
            return None
        held = py.load(self.hold(left))
        test = py.same(py.call("type", held), py.load("str"))
        operator = ast.Eq() if node.operator == "==" else ast.NotEq()
        slow = py.call(_OPERATORS[node.operator], held, py.constant(text))
        return py.choose(test, py.compare(held, operator, py.constant(text)), slow)

    def negation(self, node: Not, operand: Node, context: Context) -> ast.expr:
        """`!operand`."""
        value = self.expression(operand, context)
        if is_bool(operand):
            return ast.UnaryOp(ast.Not(), value)
        made = py.call("r_invert", value)
        self.locate(made, node)
        return made

    def truth(self, node: Node, context: Context, whole: Node) -> ast.expr:
        """An operand of `&&` or `||` as a bool."""
        value = self.expression(node, context)
        if is_bool(node):
            return value
        made = py.call("r_truth", value)
        self.locate(made, whole)
        return made

    def logic(self, node: Binary, context: Context) -> ast.expr:
        """`&&` and `||`: the right side only if needed."""
        left = self.truth(node.left, context, node)
        right, statements = self.written(lambda: self.truth(node.right, context, node))
        is_and = node.operator == "&&"
        if not statements:
            return ast.BoolOp(ast.And() if is_and else ast.Or(), [left, right])
        target = self.temporary()
        self.block.append(py.assign(target, left))
        test: ast.expr = py.load(target)
        if not is_and:
            test = ast.UnaryOp(ast.Not(), test)
        self.block.append(py.branch(test, [*statements, py.assign(target, right)]))
        return py.load(target)

    def coalesce(self, node: Binary | Method, context: Context) -> ast.expr:
        """`a | b | c` and `a.or(b)`: the first that neither fails nor is null, else the last.

        One after the other, not one inside the other, so that a long row of them stays flat.
        """
        makers: list[Node | Value] = []
        one: Node = node
        while True:
            if isinstance(one, Binary) and one.operator == "|":
                makers.append(one.right)
                one = one.left
            elif isinstance(one, Method) and one.entry.name == "or":
                argument = one.arguments[0]
                makers.append(argument.value if argument.node is None else argument.node)
                one = one.target
            else:
                break
        target = self.temporary()
        self.attempt_into(target, one, context, [py.assign(target, py.constant(None))])
        marked = marks(one)
        for count, maker in enumerate(reversed(makers), 1):
            test: ast.expr = py.same(py.load(target), py.constant(None))
            if marked:
                test = py.call("r_is_null", py.load(target))
            outer, self.block = self.block, []
            if not isinstance(maker, Node):
                self.block.append(py.assign(target, self.constant(maker)))
            elif count == len(makers):
                self.block.extend(self.into(target, partial(self.expression, maker, context)))
            else:
                self.attempt_into(target, maker, context, [py.assign(target, py.constant(None))])
            body, self.block = self.block, outer
            self.block.append(py.branch(test, body))
            marked = marked or (isinstance(maker, Node) and marks(maker))
        return py.load(target)

    def attempt_into(
        self,
        target: str,
        node: Node,
        context: Context,
        handler: list[ast.stmt],
        bind: str | None = None,
    ) -> None:
        """Compute a value into a variable; if that fails, run the handler."""
        if not fails(node, defined=self.settings.defined):
            self.block.extend(self.into(target, lambda: self.expression(node, context)))
            return
        if self.blocks >= _MAX_BLOCKS:
            name, made = self.nested(node, context)
            self.block.append(made)
            body: list[ast.stmt] = [py.assign(target, py.call(name))]
        else:
            self.blocks += 1
            body = self.into(target, lambda: self.expression(node, context))
            self.blocks -= 1
        self.block.append(py.attempt(body, ["r_Fail"], handler, bind=bind))

    def nested(self, node: Node, context: Context) -> tuple[str, ast.stmt]:
        """A function without parameters that computes a node."""
        name = self.temporary()
        blocks, self.blocks = self.blocks, 0
        outer, self.block = self.block, []
        value = self.expression(node, context)
        body = self.settled([*self.block, ast.Return(value)], node)
        self.block, self.blocks = outer, blocks
        return name, py.function(name, [], body)

    def settled(self, body: list[ast.stmt], node: Node) -> list[ast.stmt]:
        """The body of a function that computes a node: failures leave it completed.

        Only its own frame knows where in the node they happened.
        """
        if not fails(node, defined=self.settings.defined):
            return body
        settled = py.call(
            "r_settle", py.load("e"), py.load(self.unit_name), py.load(self.keep(node))
        )
        return [py.attempt(body, ["r_Fail"], [ast.Raise(settled, None)], bind="e")]

    # Contexts -----------------------------------------------------------------------------

    def with_this(self, target: ast.expr, body: Node, context: Context) -> ast.expr:
        """`target.(body)`."""
        held = self.temporary()
        self.block.append(py.assign(held, target))
        return self.expression(body, replace(context, this=held, previous=context.this))

    def lambda_here(self, node: Lambda, context: Context) -> ast.expr:
        """A lambda takes the current value under its name and goes back to the previous one."""
        if context.this is None and not self.settings.defined:
            made = py.call("r_uncaptured", py.constant(node.name))
            self.locate(made, node)
            return made
        names = context.names
        if node.name != "_":
            names = {**names, node.name: context.this}
        inner = replace(context, this=context.previous, previous=None, names=names)
        return self.expression(node.body, inner)

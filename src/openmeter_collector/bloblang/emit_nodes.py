"""Expressions as Python expressions, with the statements they need put before them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from openmeter_collector.bloblang import pyast as py
from openmeter_collector.bloblang.annotate import dotted
from openmeter_collector.bloblang.blame import Unit
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
from openmeter_collector.values.kinds import DELETED, NOTHING, Value

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
_MAX_BLOCKS: Final = 14
"""How deeply `try` may be nested in one function; Python itself stops at twenty."""

_MAX_NESTING: Final = 24
"""How deeply emitted expressions may be nested before a part is computed on its own."""


@dataclass(frozen=True)
class Context:
    """What names mean at a place of the mapping.

    Attributes:
        this: the Python variable that `this` is, None for the document itself.
        previous: what `this` becomes when a lambda takes the current one, None for the document.
        names: parameters of lambdas around.
        index: the Python variable with the index of the message that is looked at.
        depth: how many maps are being applied, as a variable; "" for none.
        self_metadata: `@` may be read.
        in_field: an interpolated field, which knows no variables and no root.
    """

    this: str | None = None
    previous: str | None = None
    names: dict[str, str | None] = field(default_factory=dict)
    index: str = "index"
    depth: str = ""
    self_metadata: bool = False
    in_field: bool = False


class NodeEmitter:
    """Emits expressions into the current block."""

    def __init__(self, unit: Unit, space: dict[str, Any], settings: Any) -> None:
        self.unit = unit
        self.space = space
        self.settings = settings
        self.block: list[ast.stmt] = []
        self.in_map = False
        self.variables: list[str] = []
        self.assigned: set[str] = set()
        self.straight = True
        self.owned = False
        self.touched = False
        self.reads_metadata = False
        self.writes_metadata = False
        self.reads_document = False
        self.reads_root = False
        self.uses_view = False
        self.plain_document = False
        self.shared: dict[tuple[str, ...], str] = {}
        self.path_uses: dict[tuple[str, ...], int] = {}
        self.blocks = 0
        self.nesting = 0
        self.in_function = 0
        self.unit_name = self.keep(unit)

    # Names --------------------------------------------------------------------------------

    def keep(self, value: Any) -> str:
        """Keep a value for emitted code, under a name of its own."""
        known: dict[int, tuple[str, Any]] = self.space.setdefault("r_known", {})
        found = known.get(id(value))
        if found is None:
            found = known[id(value)] = (f"k{len(known)}", value)
            self.space[found[0]] = value
        return found[0]

    def constant(self, value: Value) -> ast.expr:
        """A value of the mapping as an expression."""
        if value is None or type(value) in (str, bool, bytes):
            return py.constant(value)
        if value is DELETED:
            return py.load("r_DELETED")
        if value is NOTHING:
            return py.load("r_NOTHING")
        return py.load(self.keep(value))

    def temporary(self) -> str:
        """A new variable."""
        self.space["r_count"] = count = self.space.get("r_count", 0) + 1
        return f"t{count}"

    def variable_name(self, name: str) -> str:
        """The Python variable behind a variable of the mapping."""
        names: dict[str, str] = self.space.setdefault("r_variables", {})
        return names.setdefault(name, f"v{len(names)}")

    def hold(self, expression: ast.expr) -> str:
        """Put a value into a variable, so that it can be looked at twice."""
        if isinstance(expression, ast.Name):
            return expression.id
        held = self.temporary()
        self.block.append(py.assign(held, expression))
        return held

    def locate(self, expression: ast.AST, node: Node) -> None:
        """Give emitted code the place of what it was made from."""
        position = self.place_of(node)
        for name, value in zip(
            ("lineno", "end_lineno", "col_offset", "end_col_offset"), position, strict=True
        ):
            setattr(expression, name, value)

    def place_of(self, node: Node) -> tuple[int, int, int, int]:
        """Where a node stands, in Python's terms; remembered, to find it again."""
        source = self.unit.source
        line, column = source.position(node.span.start)
        end_line, end_column = source.position(node.span.end)
        place = (
            line,
            end_line,
            _byte_column(source.line(line), column),
            _byte_column(source.line(end_line), end_column),
        )
        key = (place[0], place[2], place[1], place[3])
        self.unit.nodes.setdefault(key, node)
        return place

    # Sequences ----------------------------------------------------------------------------

    def sequence(self, makers: list[Callable[[], ast.expr]]) -> list[ast.expr]:
        """Several expressions, computed in order even if a later one needs statements."""
        made: list[ast.expr] = []
        for maker in makers:
            before = len(self.block)
            expression = maker()
            if len(self.block) > before:
                spilled: list[ast.stmt] = []
                for index, earlier in enumerate(made):
                    if not isinstance(earlier, (ast.Name, ast.Constant)):
                        held = self.temporary()
                        spilled.append(py.assign(held, earlier))
                        made[index] = py.load(held)
                self.block[before:before] = spilled
            made.append(expression)
        return made

    def written(self, maker: Callable[[], ast.expr]) -> tuple[ast.expr, list[ast.stmt]]:
        """An expression and the statements it needs, kept apart from the current block."""
        outer, self.block = self.block, []
        try:
            return maker(), self.block
        finally:
            self.block = outer

    def into(self, target: str, maker: Callable[[], ast.expr]) -> list[ast.stmt]:
        """Statements that compute an expression into a variable."""
        expression, statements = self.written(maker)
        return [*statements, py.assign(target, expression)]

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
                return self.metadata(node, key, context)
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
            return self.read(self.document(context), node.path)
        return self.read_document(node.path)

    def document(self, context: Context) -> ast.expr:
        """The document of the message."""
        return py.load("this")

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
            found = py.call(py.attribute(held, "get"), py.constant(path[0]))
            return py.choose(test, found, py.call("r_get_one", held, py.constant(path[0])))
        held = py.load(self.hold(value))
        if self.blocks >= _MAX_BLOCKS or "*" in path:
            return py.call("r_get", held, self.constant(path))
        target = self.temporary()
        found = held
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
        if self.settings.mode == "mutation" or "from" in self.path_uses:
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

    def metadata(self, node: Metadata, key: str, context: Context) -> ast.expr:
        """`@key` or `@`."""
        if not context.self_metadata and self.in_map:
            made = py.call("r_no_metadata_query")
            self.locate(made, node)
            return made
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
        first, second = self.sequence([lambda: left, lambda: self.expression(right, context)])
        made = py.call(_OPERATORS[node.operator], first, second)
        self.locate(made, node)
        return made

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

    def coalesce(self, node: Binary, context: Context) -> ast.expr:
        """`left | right`."""
        return self.or_else(node.left, lambda: self.expression(node.right, context), context)

    def or_else(self, left: Node, fallback: Callable[[], ast.expr], context: Context) -> ast.expr:
        """A value, or another one if it fails, is null, deleted or nothing."""
        target = self.temporary()
        self.attempt_into(target, left, context, [py.assign(target, py.constant(None))])
        test: ast.expr = py.same(py.load(target), py.constant(None))
        if marks(left):
            test = py.compare(py.load(target), ast.In(), py.load("r_NULLS"))
            test = py.call("r_is_null", py.load(target))
        self.block.append(py.branch(test, self.into(target, fallback)))
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
        body = [*self.block, ast.Return(value)]
        self.block, self.blocks = outer, blocks
        return name, py.function(name, [], body)

    # Conditions ---------------------------------------------------------------------------

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
            made = ast.If(test, self.into(target, lambda v=value: self.expression(v, context)), [])  # type: ignore[misc]
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
            value = self.expression(node.subject, context)
            held = self.temporary()
            self.block.append(py.assign(held, value))
        inner = replace(context, this=held, previous=context.this)
        target = self.temporary()
        outer = level = self.block
        for condition, value in node.cases:
            self.block = level
            maker: Any = lambda v=value: self.expression(v, inner)  # noqa: E731 - bound here
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

    # Containers ---------------------------------------------------------------------------

    def array(self, items: tuple[Node, ...], context: Context) -> ast.expr:
        """`[items]`, without those that are deleted or nothing."""
        values = self.sequence(
            [lambda item=item: self.expression(item, context) for item in items]  # type: ignore[misc]
        )
        made: ast.expr = ast.List(values, ast.Load())
        return py.call("r_present", made) if any(marks(item) for item in items) else made

    def object(self, node: Object, context: Context) -> ast.expr:
        """`{pairs}`, without values that are deleted or nothing."""
        keys = [key for key, _ in node.pairs]
        if any(isinstance(key, Node) for key in keys) or len(set(keys)) < len(keys):
            return self._built(node, context)
        values = self.sequence(
            [lambda value=value: self.expression(value, context) for _, value in node.pairs]  # type: ignore[misc]
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
            if isinstance(key, str):
                name: ast.expr = py.constant(key)
            else:
                name = py.call("r_key", self.expression(key, context))
                self.locate(name, node)
                name = py.load(self.hold(name))
            target = self.temporary()
            body = self.into(target, lambda v=value: self.expression(v, context))  # type: ignore[misc]
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


def _byte_column(line: str, column: int) -> int:
    before = line[: column - 1]
    return column - 1 if before.isascii() else len(before.encode("utf-8", "surrogateescape"))

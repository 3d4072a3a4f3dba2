"""The tree as Python code.

One function for the mapping and one for each map, made as Python syntax trees that carry the
mapping's own positions. Expressions become expressions where they can; what needs statements
(`catch`, `match`, long paths) puts them before, into the block that is being written.

Names in emitted code: `t1` temporary, `v_x` a variable of the mapping, `p1` a lambda's parameter,
`k1` a constant, `r_name` a helper of `runtime`.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from types import CodeType
from typing import Any, Final

from openmeter_collector.bloblang import pyast as py
from openmeter_collector.bloblang.blame import Unit
from openmeter_collector.bloblang.emit_base import Context
from openmeter_collector.bloblang.emit_calls import CallEmitter
from openmeter_collector.bloblang.facts import marks
from openmeter_collector.bloblang.runtime import EXPORTED
from openmeter_collector.bloblang.spans import Source
from openmeter_collector.bloblang.syntax import (
    Assign,
    IfStatement,
    Let,
    MapDefinition,
    Meta,
    Metadata,
    Node,
    Object,
    Program,
    Variable,
    children,
)

MAPPING: Final = "mapping"
MUTATION: Final = "mutation"
QUERY: Final = "query"
VALUE: Final = "value"
"""As a mapping, but text stays text: what it answers with is a value and no message."""


@dataclass(frozen=True)
class Emitted:
    """Compiled code.

    Attributes:
        run: `run(batch, index)`, answering what `Mapping.run` documents.
        units: the sources that take part, for completing failures.
    """

    run: Any
    units: tuple[Unit, ...]


@dataclass
class Settings:
    """How a program is to be emitted."""

    mode: str = MAPPING
    defined: bool = True
    field: bool = False


def _space(services: Any) -> dict[str, Any]:
    return {**EXPORTED, "r_services": services}


def emit_query(node: Node, source: Source, services: Any, *, defined: bool) -> Emitted:
    """Compile one expression of an interpolated field to a Python function."""
    units: dict[int, Unit] = {}
    unit = _unit_of(source, units)
    space = _space(services)
    space["maps"] = None
    emitter = FunctionEmitter(unit, space, Settings(QUERY, defined, field=True))
    return Emitted(emitter.query_function(node), (unit,))


def emit(program: Program, settings: Settings, services: Any) -> Emitted:
    """Compile a program to a Python function."""
    space = _space(services)
    units: dict[int, Unit] = {}
    main = _unit_of(program.imported.source if program.imported else program.source, units)
    for definition in program.maps.values():
        _unit_of(definition.source, units)
    maps: dict[str, Any] = {}
    space["maps"] = maps
    for name, definition in program.maps.items():
        unit = _unit_of(definition.source, units)
        emitter = FunctionEmitter(unit, space, replace(settings, mode=MAPPING, defined=True))
        maps[name] = emitter.map_function(definition, len(maps))
    emitter = FunctionEmitter(main, space, settings)
    run = emitter.main(program.statements)
    return Emitted(run, tuple(units.values()))


def _unit_of(source: Source, units: dict[int, Unit]) -> Unit:
    unit = units.get(id(source))
    if unit is None:
        name = source.name or "mapping"
        suffix = f" {len(units)}" if units else ""
        unit = units[id(source)] = Unit(source, f"<{name}{suffix}>")
    return unit


class FunctionEmitter(CallEmitter):
    """Emits one function: the mapping itself, or a map."""

    def main(self, statements: tuple[Node, ...]) -> Any:
        """The function that runs the whole mapping."""
        for statement in statements:
            self.unit.adopt(statement)
        self.survey(statements)
        context = Context()
        body: list[ast.stmt] = []
        self.block = body
        self._prologue()
        for statement in statements:
            self.statement(statement, context)
        self._epilogue()
        if self.settings.mode == MUTATION:
            self.block = body = [self._keeping_partial(body)]
        return self.finish("mapping", ["batch", "index"], body)

    def query_function(self, node: Node) -> Any:
        """A function that answers with the value of one expression."""
        self.unit.adopt(node)
        self.survey((node,))
        body: list[ast.stmt] = []
        self.block = body
        self._prologue()
        value = self.expression(node, Context(in_field=self.settings.field))
        self.block.append(ast.Return(value))
        return self.finish("query", ["batch", "index"], body)

    def map_function(self, definition: MapDefinition, number: int) -> Any:
        """The function that a map becomes."""
        self.unit.adopt(definition)
        self.in_map = True
        self.survey(definition.body)
        inner: list[ast.stmt] = []
        self.block = inner
        context = Context(this="value", depth="depth")
        inner.append(py.assign("root", py.load("r_NOTHING")))
        inner.extend(
            py.assign(self.variable_name(name), py.load("r_UNSET")) for name in self.variables
        )
        for statement in definition.body:
            self.statement(statement, context)
        self.block.append(ast.Return(py.load("root")))
        handler = ast.Raise(
            py.call("r_settle_statement", py.load("e"), py.load(self.unit_name)), None
        )
        body = [py.attempt(inner, ["r_Fail"], [handler], bind="e")]
        params = ["batch", "index", "this", "meta", "value", "depth", "left"]
        return self.finish(f"map_{number}", params, body)

    def finish(self, name: str, params: list[str], body: list[ast.stmt]) -> Any:
        """Compile a function and take it out of its namespace."""
        made = py.function(name, params, body)
        module = ast.Module([made], [])
        py.place(made, (1, 1, 0, 0))
        code: CodeType = compile(module, self.unit.file, "exec")
        before = self.space.get(name)
        exec(code, self.space)  # noqa: S102 - made by this emitter; user text is constants only
        found = self.space[name]
        if before is None:
            del self.space[name]
        return found

    # Frame --------------------------------------------------------------------------------

    def _prologue(self) -> None:
        add = self.block.append
        if self.uses_view and self.settings.mode == MUTATION:
            add(py.assign("batch", py.call("r_View", py.load("batch"), py.load("index"))))
        if self.settings.mode == QUERY:
            if self.reads_metadata or self.reads_document:
                add(py.assign("message", py.subscript(py.load("batch"), py.load("index"))))
        else:
            add(py.assign("message", py.subscript(py.load("batch"), py.load("index"))))
            add(py.assign("root", py.load("r_NOTHING")))
        if self.reads_metadata or self.writes_metadata:
            add(py.assign("meta", py.attribute(py.load("message"), "metadata")))
        if self.writes_metadata:
            add(py.assign("old_meta", py.load("meta")))
        if self.settings.mode == MUTATION:
            if self.settings.defined:
                value = py.call(py.attribute(py.load("message"), "structured"))
                add(py.assign("this", value))
                add(py.assign("root", py.load("this")))
            else:
                add(py.assign("this", py.load("r_UNSET")))
        elif self.reads_document and self.settings.defined:
            add(py.assign("this", py.call(py.attribute(py.load("message"), "structured"))))
            if self.plain_document:
                add(py.assign("get", py.call("r_getter", py.load("this"))))
            self.share_paths()
        else:
            add(py.assign("this", py.load("r_UNSET")))
        if self.applies:
            add(py.assign("left", py.call("r_budget")))
        for name in self.variables:
            add(py.assign(self.variable_name(name), py.load("r_UNSET")))

    def _epilogue(self) -> None:
        root: ast.expr = py.load("root")
        if self.settings.mode == VALUE:
            self.block.append(ast.Return(ast.Tuple([root, py.constant(None)], ast.Load())))
            return
        test = py.same(py.call("type", py.load("root")), py.load("str"))
        root = py.choose(test, py.call("r_encode", py.load("root")), py.load("root"))
        meta: ast.expr = py.constant(None)
        if self.writes_metadata:
            changed = py.same(py.load("meta"), py.load("old_meta"))
            meta = py.choose(changed, py.constant(None), py.load("meta"))
        self.block.append(ast.Return(ast.Tuple([root, meta], ast.Load())))

    def _keeping_partial(self, body: list[ast.stmt]) -> ast.stmt:
        """In mutations, what was written before a failure stays on the message."""
        meta = py.load("meta") if self.writes_metadata else py.constant(None)
        # A document that was replaced as a whole counts only when the mutation succeeds.
        partial = ast.Tuple([py.call("r_partial", py.load("this")), meta], ast.Load())
        keep = ast.Assign([ast.Attribute(py.load("e"), "partial", ast.Store())], partial)
        return py.attempt(body, ["r_Fail"], [keep, ast.Raise(None, None)], bind="e")

    # Statements ---------------------------------------------------------------------------

    def statement(self, node: Node, context: Context) -> None:
        """Write one statement."""
        match node:
            case Let(name=name, value=value):
                self._let(name, value, context)
            case Assign(path=path, value=value):
                self._assign(node, path, value, context)
            case Meta(key=key, value=value):
                self._meta(node, key, value, context)
            case IfStatement(branches=branches):
                self._if(branches, context)

    def _let(self, name: str, value: Node, context: Context) -> None:
        target = self.variable_name(name)
        expression = self.expression(value, context)
        if not marks(value):
            self.block.append(py.assign(target, expression))
            if self.straight:
                self.assigned.add(name)
            return
        self.assigned.discard(name)
        held = self.hold(expression)
        self.block.append(
            self.unless_marker(
                held,
                [py.assign(target, py.load("r_UNSET"))],
                [py.assign(target, py.load(held))],
            )
        )

    def unless_marker(self, held: str, deleted: list[ast.stmt], kept: list[ast.stmt]) -> ast.stmt:
        """Tell `deleted()` from `nothing()` from a value."""
        otherwise = py.branch(
            ast.UnaryOp(ast.Not(), py.same(py.load(held), py.load("r_NOTHING"))), kept
        )
        return py.branch(py.same(py.load(held), py.load("r_DELETED")), deleted, [otherwise])

    def _assign(self, node: Node, path: tuple[str, ...], value: Node, context: Context) -> None:
        expression = self.expression(value, context)
        if not path:
            self._assign_root(value, expression)
            return
        if not marks(value):
            self._put(node, path, expression)
            return
        held = self.hold(expression)
        outer, self.block = self.block, []
        self._put(node, path, py.load(held))
        kept, self.block = self.block, []
        self._write_root(py.call("r_remove", py.load("root"), self.constant(path)))
        deleted, self.block = self.block, outer
        self.owned = False
        self.made.clear()
        self.block.append(self.unless_marker(held, deleted, kept))

    def _assign_root(self, value: Node, expression: ast.expr) -> None:
        if marks(value):
            held = self.hold(expression)
            test = ast.UnaryOp(ast.Not(), py.same(py.load(held), py.load("r_NOTHING")))
            self.block.append(py.branch(test, [py.assign("root", py.load(held))]))
        else:
            self.block.append(py.assign("root", expression))
        self.touched = True
        self.made.clear()
        keys = [key for key, _ in value.pairs] if isinstance(value, Object) else [None]
        self.keys = {key for key in keys if isinstance(key, str)}
        if not all(isinstance(key, str) for key in keys):
            self.keys = None
        # An object written out here belongs to this run alone and may be filled in place.
        self.owned = self.straight and isinstance(value, Object) and not self.reads_root

    def _put_inside(self, path: tuple[str, ...], expression: ast.expr) -> bool:
        """Write below a container that this run has made itself; False if there is none."""
        inner = self.made.get(path[:-1])
        if inner is None and self.owned and self.straight and len(path) == 2:
            key = path[0]
            if self.keys is None or key in self.keys:
                return False
            inner = self.made[path[:1]] = self.temporary()
            self.keys.add(key)
            self.block.append(py.assign(inner, ast.Dict([], [])))
            slot = ast.Subscript(py.load("root"), py.constant(key), ast.Store())
            self.block.append(ast.Assign([slot], py.load(inner)))
        if inner is None:
            return False
        target = ast.Subscript(py.load(inner), py.constant(path[-1]), ast.Store())
        self.block.append(ast.Assign([target], expression))
        return True

    def _put(self, node: Node, path: tuple[str, ...], expression: ast.expr) -> None:
        if len(path) > 1 and self._put_inside(path, expression):
            # Something deeper than what was written may be another container now.
            self._forget(path)
            return
        self._forget(path[:1])
        if len(path) == 1 and self.owned:
            if self.keys is not None:
                self.keys.add(path[0])
            target = ast.Subscript(py.load("root"), py.constant(path[0]), ast.Store())
            self.block.append(ast.Assign([target], expression))
            return
        if len(path) == 1 and not self.touched and self.straight and self._fresh():
            self.block.append(py.assign("root", ast.Dict([py.constant(path[0])], [expression])))
            self.touched = True
            self.owned = not self.reads_root
            self.keys = {path[0]}
            return
        made = py.call("r_put", py.load("root"), self.constant(path), expression)
        self.locate(made, node)
        self._write_root(made)
        self.touched = True

    def _forget(self, path: tuple[str, ...]) -> None:
        """What was written at a path is no container of ours any more."""
        for known in list(self.made):
            if known[: len(path)] == path:
                del self.made[known]

    def _fresh(self) -> bool:
        return self.settings.mode != MUTATION or self.in_map

    def _write_root(self, made: ast.expr) -> None:
        if self.settings.mode != MUTATION or self.in_map:
            self.block.append(py.assign("root", made))
            return
        held = self.temporary()
        self.block.append(py.assign(held, py.same(py.load("root"), py.load("this"))))
        self.block.append(py.assign("root", made))
        self.block.append(py.branch(py.load(held), [py.assign("this", py.load("root"))]))

    def _meta(self, node: Node, key: str | None, value: Node, context: Context) -> None:
        expression = self.expression(value, context)
        if self.in_map:
            held = self.hold(expression)
            test = ast.UnaryOp(ast.Not(), py.same(py.load(held), py.load("r_NOTHING")))
            fail = py.call("r_no_metadata")
            self.locate(fail, node)
            self.block.append(py.branch(test, [ast.Expr(fail)]))
            return
        name = py.constant(key)
        made = py.call("r_set_meta", py.load("meta"), name, expression)
        self.locate(made, node)
        self.block.append(py.assign("meta", made))

    def _if(
        self, branches: tuple[tuple[Node | None, tuple[Node, ...]], ...], context: Context
    ) -> None:
        straight, self.straight = self.straight, False
        owned = self.owned
        self.made.clear()
        self.keys = None
        outer = self.block
        for condition, body in branches:
            test: ast.expr = py.constant(True)
            if condition is not None:
                test = self.condition(condition, context, null=False)
            assigned = set(self.assigned)
            level, self.block = self.block, []
            for statement in body:
                self.statement(statement, context)
            written, self.block = self.block, level
            # A variable that a branch may have unset is not known to be set any more.
            self.assigned &= assigned
            self.touched = True
            self.owned = owned = owned and self.owned
            self.made.clear()
            if condition is None:
                self.block.extend(written)
                break
            made = ast.If(test, written or [ast.Pass()], [])
            self.block.append(made)
            self.block = made.orelse
        self.block = outer
        self.straight = straight
        self.owned = owned and not self._writes_root(branches)

    def _writes_root(self, branches: tuple[tuple[Node | None, tuple[Node, ...]], ...]) -> bool:
        waiting = [statement for _, body in branches for statement in body]
        while waiting:
            one = waiting.pop()
            if isinstance(one, Assign) and (not one.path or marks(one.value)):
                return True
            if isinstance(one, IfStatement):
                waiting.extend(statement for _, body in one.branches for statement in body)
        return False

    # Survey -------------------------------------------------------------------------------

    def survey(self, nodes: tuple[Node, ...]) -> None:
        """Look through the code once, to know what it needs."""
        self.survey_document(nodes)
        if self.settings.mode == MUTATION and not self.in_map:
            self.plain_document = False
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            waiting.extend(children(node))
            self.look(node)

    def look(self, node: Node) -> None:
        """Note what one node needs."""
        match node:
            case Let(name=name) | Variable(name=name):
                if name not in self.variables:
                    self.variables.append(name)
            case Meta():
                self.writes_metadata = True
            case Metadata():
                self.reads_metadata = True
            case _:
                self.look_deeper(node)

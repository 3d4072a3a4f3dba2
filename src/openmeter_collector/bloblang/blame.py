"""Finds out where a failure happened and completes its text.

Emitted code carries the positions of the mapping. So when a failure reaches a handler, the
traceback says at which expression it was raised, and the tree says what stands around it. All of
this is paid for by failures only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import CodeType, TracebackType

from openmeter_collector.bloblang.annotate import annotation
from openmeter_collector.bloblang.failure import (
    ConditionFail,
    DivideFail,
    Fail,
    MismatchFail,
    TypeFail,
)
from openmeter_collector.bloblang.spans import Source
from openmeter_collector.bloblang.syntax import (
    Argument,
    Binary,
    Function,
    If,
    IfStatement,
    MapDefinition,
    Match,
    Method,
    Node,
    Not,
    Object,
    children,
)

Position = tuple[int | None, int | None, int | None, int | None]


@dataclass(eq=False)
class Unit:
    """One source with what emitted code of it knows about itself."""

    source: Source
    file: str
    nodes: dict[Position, Node] = field(default_factory=dict)
    parents: dict[Node, Node] = field(default_factory=dict)
    _positions: dict[CodeType, list[Position]] = field(default_factory=dict)

    def adopt(self, node: Node) -> None:
        """Remember who stands around whom."""
        waiting = [node]
        while waiting:
            one = waiting.pop()
            for child in children(one):
                self.parents[child] = one
                waiting.append(child)

    def node_at(self, trace: TracebackType | None) -> Node | None:
        """The expression at which the innermost frame of this source stands, seen from outside."""
        while trace is not None and trace.tb_frame.f_code.co_filename != self.file:
            trace = trace.tb_next
        if trace is None:
            return None
        code = trace.tb_frame.f_code
        positions = self._positions.get(code)
        if positions is None:
            positions = self._positions[code] = list(code.co_positions())
        line, end_line, column, end_column = positions[trace.tb_lasti // 2]
        return self.nodes.get((line, column, end_line, end_column))

    def statement_of(self, node: Node) -> Node:
        """The statement of the mapping, or of the map, that an expression belongs to."""
        while True:
            parent = self.parents.get(node)
            if parent is None or isinstance(parent, MapDefinition):
                return node
            node = parent

    def line_of(self, node: Node) -> int:
        """The line on which a node starts."""
        return self.source.position(node.span.start)[0]


def settle(fail: Fail, unit: Unit, stop: Node | None = None) -> Fail:
    """Complete a failure with all that the expressions from its place up to `stop` add."""
    node = unit.node_at(fail.__traceback__)
    if node is None:
        return fail
    if fail.where is None:
        fail.where = unit, node
    condition = isinstance(fail, ConditionFail) and fail.outside
    if condition:
        fail.lead = annotation(node) + fail.lead
    elif not fail.outside:
        _own(fail, node)
    fail.outside = False
    while node is not stop:
        parent = unit.parents.get(node)
        if parent is None or isinstance(parent, MapDefinition):
            break
        if condition:
            condition = False  # said by the condition itself already
        else:
            _pass(fail, parent, node)
        node = parent
    return fail


def settle_statement(fail: Fail, unit: Unit) -> Fail:
    """Complete a failure that leaves a map: only its innermost statement is named."""
    node = unit.node_at(fail.__traceback__)
    settle(fail, unit)
    text = fail.statement
    if text is None:
        line = 1
        if node is not None:
            # The lines of a map count from its own start.
            statement = unit.statement_of(node)
            first = unit.parents.get(statement, statement)
            line = unit.line_of(statement) - unit.line_of(first) + 1
        text = f"failed assignment (line {line}): {fail.overrun or fail}"
    made = Fail(text)
    made.statement = text
    made.attributed = fail.attributed
    made.undefined = fail.undefined
    made.where = fail.where
    return made


def _own(fail: Fail, node: Node) -> None:
    match node:
        case Binary(left=left, right=right):
            if isinstance(fail, MismatchFail) and fail.names is None:
                fail.names = annotation(left), annotation(right)
            elif isinstance(fail, DivideFail):
                fail.attribute(annotation(right))
        case Not(operand=operand):
            if isinstance(fail, TypeFail):
                fail.attribute(annotation(operand))
        case Method(target=target, entry=entry) if not entry.plugin:
            if fail.by:
                query = _query(node, fail.by)
                owner, fail.by = annotation(query or target), ""
                fail.attribute(owner)
                fail.under(fail.by_lead)
            if fail.closed:
                fail.closed = False
                return
            fail.attribute(annotation(target))


def _query(node: Method, name: str) -> Node | None:
    for param, argument in zip(node.entry.params, node.arguments, strict=False):
        if param.name == name:
            return argument.node
    return None


def _pass(fail: Fail, parent: Node, child: Node) -> None:
    """What `parent` says about a failure of its part `child`."""
    match parent:
        case If(branches=branches):
            for index, (condition, _) in enumerate(branches):
                if condition is child:
                    fail.under(f"failed to check if condition{f' {index}' if index else ''}: ")
        case IfStatement(branches=steps):
            for index, (test, _) in enumerate(steps):
                if test is child:
                    fail.under(f"failed to check if condition {index + 1}: ")
        case Match(cases=cases):
            for index, (case, _) in enumerate(cases):
                if case is child:
                    fail.under(f"failed to check match case {index}: ")
        case Object(pairs=pairs):
            for key, value in pairs:
                if key is child:
                    fail.under("failed to resolve key: ")
                elif value is child and isinstance(key, str):
                    fail.under(f"failed to resolve '{key}' value: ")
        case Method() | Function():
            _pass_call(fail, parent, child)


def _pass_call(fail: Fail, call: Method | Function, child: Node) -> None:
    entry = call.entry
    if entry.variadic:
        dynamic = [one.node for one in call.arguments if one.node is not None]
        if child in dynamic:
            name = str(dynamic.index(child))
            fail.under(f"{entry.noun} '{entry.name}': failed to extract input arg '{name}': ")
        return
    argument: Argument
    for param, argument in zip(entry.params, call.arguments, strict=True):
        if argument.node is child and not param.is_query:
            lead = f"{entry.noun} '{entry.name}': failed to extract input arg '{param.name}': "
            fail.under(lead)

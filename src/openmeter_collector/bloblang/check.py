"""Warnings: code that is allowed and yet cannot be meant."""

from __future__ import annotations

import difflib

from openmeter_collector.bloblang.diagnostics import Diagnostic
from openmeter_collector.bloblang.facts import marks
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.spans import Source
from openmeter_collector.bloblang.syntax import (
    Assign,
    Field,
    Function,
    IfStatement,
    Let,
    Literal,
    MapDefinition,
    Method,
    Node,
    Program,
    Variable,
    children,
)


def warnings_of(program: Program) -> tuple[Diagnostic, ...]:
    """Everything worth a warning, in order of position."""
    found: list[Diagnostic] = []
    _statements(program.statements, program.source, found)
    for definition in program.maps.values():
        if definition.source is program.source:
            _statements(definition.body, program.source, found)
    return tuple(sorted(found, key=lambda one: one.offset))


def _warn(found: list[Diagnostic], source: Source, node: Node, text: str) -> None:
    found.append(Diagnostic(text, source, node.span.start, severity="warning"))


def _statements(statements: tuple[Node, ...], source: Source, found: list[Diagnostic]) -> None:
    _dead(statements, source, found)
    _undefined(statements, source, found)
    waiting: list[Node] = [one for one in statements if not isinstance(one, MapDefinition)]
    while waiting:
        node = waiting.pop()
        waiting.extend(children(node))
        if isinstance(node, (Method, Function)):
            if node.entry.status == "deprecated":
                _warn(found, source, node, f"{node.entry.noun} {node.entry.name} is deprecated")
            if isinstance(node, Method):
                _always_fails(node, source, found)


def _always_fails(node: Method, source: Source, found: list[Diagnostic]) -> None:
    """A method of text or numbers on a literal that it does not accept."""
    entry = node.entry
    known = isinstance(node.target, Literal) and all(one.node is None for one in node.arguments)
    if not known or entry.special or entry.context or not isinstance(node.target, Literal):
        return
    call = node.prepared if entry.prepared else entry.call
    arguments = [] if entry.prepared else [one.value for one in node.arguments]
    if not callable(call):
        return
    try:
        call(node.target.value, *arguments)
    except Fail as fail:
        _warn(found, source, node, f"method {entry.name} always fails here: {fail}")
    except Exception:  # noqa: BLE001, S110 - only a failure of the language is a finding
        pass


def _dead(statements: tuple[Node, ...], source: Source, found: list[Diagnostic]) -> None:
    """Assignments to a document that is replaced as a whole before anything reads it."""
    waiting: list[Assign] = []
    for statement in statements:
        if _reads_root(statement) or isinstance(statement, IfStatement):
            waiting = []
        if not isinstance(statement, Assign):
            continue
        if not statement.path and not _may_skip(statement.value):
            for dead in waiting:
                line = source.position(statement.span.start)[0]
                _warn(found, source, dead, f"this is replaced by the assignment in line {line}")
            waiting = []
        waiting.append(statement)


def _may_skip(node: Node) -> bool:
    """Whether an assignment of this may leave the document as it was."""
    return marks(node) and not (isinstance(node, Field) and node.context == "this")


def _reads_root(node: Node) -> bool:
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Field) and one.context == "root":
            return True
        waiting.extend(children(one))
    return False


def _undefined(statements: tuple[Node, ...], source: Source, found: list[Diagnostic]) -> None:
    """Variables that are read and never written."""
    written: set[str] = set()
    waiting: list[Node] = [one for one in statements if not isinstance(one, MapDefinition)]
    read: list[Variable] = []
    while waiting:
        node = waiting.pop()
        waiting.extend(children(node))
        if isinstance(node, Let):
            written.add(node.name)
        elif isinstance(node, Variable):
            read.append(node)
    for variable in read:
        if variable.name not in written:
            close = difflib.get_close_matches(variable.name, written, 1, 0.6)
            hint = f"; did you mean ${close[0]}?" if close else ""
            _warn(found, source, variable, f"variable '{variable.name}' is never set{hint}")

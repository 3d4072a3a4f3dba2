"""What in a mapping another run would answer otherwise: random data, counts, the clock.

An event whose id comes from such a place has a new id each time it is made, so a source that is
asked again, by another replica or in a catch-up, counts twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from openmeter_collector.bloblang.annotate import dotted
from openmeter_collector.bloblang.syntax import (
    Assign,
    Function,
    IfStatement,
    Let,
    Literal,
    MapDefinition,
    Method,
    Node,
    Object,
    Program,
    Variable,
    children,
)


@dataclass(frozen=True)
class Unstable:
    """Functions that answer otherwise in another run.

    Attributes:
        everywhere: all of them that the mapping calls: name -> "random", "count" or "clock".
        targets: those that a written path takes its value from, by path; "" is the whole document.
            Values are followed through variables, maps and objects written out.
    """

    everywhere: dict[str, str] = field(default_factory=dict)
    targets: dict[str, frozenset[str]] = field(default_factory=dict)

    def behind(self, path: str) -> frozenset[str]:
        """The functions that the value at a dot path may come from."""
        found: frozenset[str] = frozenset()
        for target, names in self.targets.items():
            if not target or path == target or path.startswith(f"{target}."):
                found |= names
        return found


def unstable_of(program: Program) -> Unstable:
    """Look through a program and its maps."""
    look = _Look(program)
    targets: dict[str, frozenset[str]] = {}
    for assign in _assignments(program.statements):
        for path, value in _leaves(assign.path, assign.value):
            names = frozenset(look.names(value))
            if names:
                key = dotted(path)
                targets[key] = targets.get(key, frozenset()) | names
    everything: dict[str, str] = {}
    for statement in (*program.statements, *program.maps.values()):
        everything.update(look.names(statement))
    return Unstable(everything, targets)


def _assignments(statements: tuple[Node, ...]) -> Iterator[Assign]:
    for statement in statements:
        if isinstance(statement, Assign):
            yield statement
        elif isinstance(statement, IfStatement):
            for _, body in statement.branches:
                yield from _assignments(body)


def _leaves(path: tuple[str, ...], value: Node) -> Iterator[tuple[tuple[str, ...], Node]]:
    """The values of an object that is written out, each with its own path."""
    if isinstance(value, Object) and all(isinstance(key, str) for key, _ in value.pairs):
        for key, inner in value.pairs:
            yield from _leaves((*path, str(key)), inner)
    else:
        yield path, value


class _Look:
    """Finds what a value comes from; each variable and each map is looked at once."""

    def __init__(self, program: Program) -> None:
        self.maps = program.maps
        self.variables: dict[str, list[Node]] = {}
        waiting: list[Node] = [*program.statements, *program.maps.values()]
        while waiting:
            node = waiting.pop()
            waiting.extend(children(node))
            if isinstance(node, Let):
                self.variables.setdefault(node.name, []).append(node.value)

    def names(self, node: Node) -> dict[str, str]:
        """The unstable functions behind a node."""
        found: dict[str, str] = {}
        seen: set[str] = set()
        waiting = [node]
        while waiting:
            one = waiting.pop()
            waiting.extend(children(one))
            if isinstance(one, Literal) and one.written is not None:
                waiting.append(one.written)
            elif isinstance(one, Function) and one.entry.unstable:
                found[one.entry.name] = one.entry.unstable
            elif isinstance(one, Variable) and f"${one.name}" not in seen:
                seen.add(f"${one.name}")
                waiting.extend(self.variables.get(one.name, []))
            elif isinstance(one, Method) and one.entry.name == "apply":
                waiting.extend(self.applied(one, seen))
        return found

    def applied(self, call: Method, seen: set[str]) -> list[Node]:
        """The maps that a call may run: the one it names, or any."""
        first = call.arguments[0]
        wanted = list(self.maps) if first.node is not None else [str(first.value)]
        fresh: list[Node] = []
        for name in wanted:
            definition: MapDefinition | None = self.maps.get(name)
            if definition is not None and name not in seen:
                seen.add(name)
                fresh.append(definition)
        return fresh

"""What every part of the emitter needs: blocks, names, places, order of evaluation."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from openmeter_collector.bloblang import pyast as py
from openmeter_collector.bloblang.blame import Unit
from openmeter_collector.bloblang.syntax import Node
from openmeter_collector.values.kinds import DELETED, NOTHING, Value


@dataclass(frozen=True)
class Context:
    """What names mean at a place of the mapping.

    Attributes:
        this: the Python variable that `this` is, None for the document itself.
        previous: what `this` becomes when a lambda takes the current one, None for the document.
        names: parameters of lambdas around.
        index: the Python variable with the index of the message that is looked at.
        depth: how many maps are being applied, as a variable; "" for none.
        in_field: an interpolated field, which knows no variables and no root.
    """

    this: str | None = None
    previous: str | None = None
    names: dict[str, str | None] = field(default_factory=dict)
    index: str = "index"
    depth: str = ""
    in_field: bool = False


class CodeWriter:
    """Writes Python code, a block of statements at a time."""

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
        self.made: dict[tuple[str, ...], str] = {}
        self.keys: set[str] | None = set()
        self.reads_metadata = False
        self.writes_metadata = False
        self.reads_document = False
        self.reads_root = False
        self.applies = False
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


def _byte_column(line: str, column: int) -> int:
    before = line[: column - 1]
    return column - 1 if before.isascii() else len(before.encode("utf-8", "surrogateescape"))

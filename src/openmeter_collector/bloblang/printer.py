"""The tree as text again, in one canonical form."""

from __future__ import annotations

import re
from typing import Final

from openmeter_collector.bloblang.gotext.quote import quote
from openmeter_collector.bloblang.lexer import SKIP
from openmeter_collector.bloblang.spans import Source
from openmeter_collector.bloblang.syntax import (
    Array,
    Assign,
    Binary,
    Bracket,
    Field,
    Function,
    Get,
    If,
    IfStatement,
    Import,
    Lambda,
    Let,
    Literal,
    MapDefinition,
    Match,
    Meta,
    Metadata,
    Method,
    Node,
    Not,
    Object,
    Program,
    Variable,
    as_written,
)
from openmeter_collector.values.kinds import Float64
from openmeter_collector.values.numbers import digits_of, plain

_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_COMMENT: Final = re.compile(r'"""(?:.*?)"""|"(?:\\.|[^"\\])*"|(#[^\n]*)', re.DOTALL)
_LEVELS: Final = {
    "*": 4, "/": 4, "%": 4, "|": 4, "+": 3, "-": 3, "==": 2, "!=": 2, "<": 2, "<=": 2, ">": 2,
    ">=": 2, "&&": 1, "||": 1,
}  # fmt: skip
_WIDTH: Final = 88


def format_mapping(program: Program) -> str:
    """The mapping in its canonical form; comments and single blank lines stay."""
    return _Printer(program.source).program(program)


def print_expression(node: Node) -> str:
    """One expression on one line or several."""
    return _Printer(Source("")).show(node, 0)


class _Printer:
    """Prints the statements of one source."""

    def __init__(self, source: Source) -> None:
        self.text = source.text

    def program(self, program: Program) -> str:
        if program.imported is not None:
            return self.text.strip() + "\n"
        (first, *_) = program.statements
        if isinstance(first, Assign) and first.shorthand:
            return self.show(first.value, 0) + "\n"
        return self.block(program.statements, 0, 0, len(self.text)) + "\n"

    def block(self, statements: tuple[Node, ...], depth: int, start: int, end: int) -> str:
        """Statements with the comments between them."""
        lines: list[str] = []
        pos = start
        for statement in statements:
            lines += self.between(pos, statement.span.start, depth, first=not lines)
            lines.append("  " * depth + self.statement(statement, depth))
            pos = statement.span.end
            pos = self.trailing(pos, lines)
        lines += self.between(pos, end, depth, first=not lines)
        while lines and not lines[-1]:
            lines.pop()
        return "\n".join(lines)

    def trailing(self, pos: int, lines: list[str]) -> int:
        """A comment on the line of a statement stays on it."""
        match = re.compile(r"[ \t]*(#[^\n]*)").match(self.text, pos)
        if match is None:
            return pos
        lines[-1] += "  " + match[1].rstrip()
        return match.end()

    def between(self, start: int, end: int, depth: int, *, first: bool) -> list[str]:
        """Comments and at most one blank line."""
        lines: list[str] = []
        gap = self.text[start:end]
        rows = gap.split("\n")
        for index, row in enumerate(rows):
            row = row.strip()  # noqa: PLW2901 - the row without its indentation
            if row.startswith("#"):
                lines.append("  " * depth + row)
            elif row or not 0 < index < len(rows) - 1 or (first and not lines):
                continue
            elif not lines or lines[-1]:
                lines.append("")
        return lines

    def statement(self, node: Node, depth: int) -> str:
        inner = self.text[node.span.start : node.span.end]
        has_body = isinstance(node, (MapDefinition, IfStatement))
        if not has_body and any(match[1] for match in _COMMENT.finditer(inner)):
            return inner  # comments inside an expression: leave it as it was written
        match node:
            case Let(name=name, value=value):
                return f"let {_label(name)} = {self.show(value, depth)}"
            case Meta(key=key, value=value):
                target = "meta" if key is None else f"meta {_label(key)}"
                return f"{target} = {self.show(value, depth)}"
            case Assign(path=path, value=value):
                return f"{_path(('root', *path))} = {self.show(value, depth)}"
            case Import(path=path):
                return f"import {quote(path)}"
            case MapDefinition(name=name, body=body):
                start = self.text.index("{", node.span.start) + 1
                return f"map {_label(name)} {{\n{self.block(body, depth + 1, start, node.span.end - 1)}\n{'  ' * depth}}}"
            case IfStatement():
                return self.if_statement(node, depth)
        return inner

    def if_statement(self, node: IfStatement, depth: int) -> str:
        parts: list[str] = []
        pos = node.span.start
        for condition, body in node.branches:
            if condition is not None:
                word = "if" if not parts else "else if"
                parts.append(f"{word} {self.show(condition, depth)}")
                pos = condition.span.end
            else:
                parts.append("else")
            start = self.text.index("{", pos) + 1
            end = self.closing(body[-1].span.end if body else start)
            inner = self.block(body, depth + 1, start, end)
            parts[-1] += f" {{\n{inner}\n{'  ' * depth}}}"
            pos = end + 1
        return " ".join(parts)

    def closing(self, pos: int) -> int:
        """The brace that ends a block, behind comments and line breaks."""
        match = SKIP.match(self.text, pos)
        return match.end() if match else pos

    # Expressions --------------------------------------------------------------------------

    def show(self, node: Node, depth: int) -> str:
        flat = self.flat(node)
        if len(flat) + 2 * depth <= _WIDTH and "\n" not in flat:
            return flat
        return self.tall(node, depth)

    def tall(self, node: Node, depth: int) -> str:
        """An expression over several lines."""
        pad, end = "  " * (depth + 1), "  " * depth
        node = as_written(node)
        match node:
            case Array(items=items) if items:
                rows = "".join(f"{pad}{self.show(item, depth + 1)},\n" for item in items)
                return f"[\n{rows}{end}]"
            case Object(pairs=pairs) if pairs:
                rows = "".join(
                    f"{pad}{self.key(key)}: {self.show(value, depth + 1)},\n"
                    for key, value in pairs
                )
                return f"{{\n{rows}{end}}}"
            case Match(subject=subject, cases=cases) if cases:
                rows = "".join(
                    f"{pad}{'_' if test is None else self.flat(test)} => {self.show(value, depth + 1)},\n"
                    for test, value in cases
                )
                head = f"match {self.flat(subject)} " if subject is not None else "match "
                return f"{head}{{\n{rows}{end}}}"
            case If():
                return self.tall_if(node, depth)
            case Method(target=target, entry=entry) if isinstance(
                as_written(target), (Method, Get, Function, Bracket)
            ):
                return f"{self.tall(target, depth)}.\n{pad}{entry.name}({self.arguments(node)})"
        return self.flat(node)

    def tall_if(self, node: If, depth: int) -> str:
        pad, end = "  " * (depth + 1), "  " * depth
        parts = [
            f"{'if' if not index else 'else if'} {self.flat(test)} {{\n"
            f"{pad}{self.show(value, depth + 1)}\n{end}}}"
            for index, (test, value) in enumerate(node.branches)
        ]
        if node.otherwise is not None:
            parts.append(f"else {{\n{pad}{self.show(node.otherwise, depth + 1)}\n{end}}}")
        return " ".join(parts)

    def key(self, key: str | Node) -> str:
        if isinstance(key, str):
            return quote(key)
        shown = self.flat(key)
        return f"({shown})" if shown.startswith('"') else shown

    def flat(self, node: Node) -> str:
        """An expression on one line."""
        node = as_written(node)
        match node:
            case Literal(value=value):
                return _literal(value)
            case Field(context=context, path=path):
                return _path((context, *path))
            case Get(target=target, path=path):
                return _path((self.operand(target), *path))
            case Variable(name=name):
                return f"${name}"
            case Metadata(key=key):
                return "@" + (_label(key) if key else "")
            case Function(entry=entry):
                return f"{entry.name}({self.arguments(node)})"
            case Method(target=target, entry=entry):
                return f"{self.operand(target)}.{entry.name}({self.arguments(node)})"
            case Bracket(target=target, body=body):
                return f"{self.operand(target)}.({self.flat(body)})"
            case Lambda(name=name, body=body):
                return f"{name} -> {self.flat(body)}"
            case Not(operand=operand):
                return f"!{self.operand(operand)}"
            case Binary():
                return self.binary(node)
            case Array(items=items):
                return f"[{', '.join(self.flat(item) for item in items)}]"
            case Object(pairs=pairs):
                inner = ", ".join(f"{self.key(key)}: {self.flat(value)}" for key, value in pairs)
                return f"{{{inner}}}"
        return self.flat_branches(node)

    def flat_branches(self, node: Node) -> str:
        match node:
            case If(branches=branches, otherwise=otherwise):
                parts = [
                    f"{'if' if not index else 'else if'} {self.flat(test)} {{ {self.flat(value)} }}"
                    for index, (test, value) in enumerate(branches)
                ]
                if otherwise is not None:
                    parts.append(f"else {{ {self.flat(otherwise)} }}")
                return " ".join(parts)
            case Match(subject=subject, cases=cases):
                head = f"match {self.flat(subject)} " if subject is not None else "match "
                inner = ", ".join(
                    f"{'_' if test is None else self.flat(test)} => {self.flat(value)}"
                    for test, value in cases
                )
                return f"{head}{{ {inner} }}"
        raise TypeError(node)

    def operand(self, node: Node) -> str:
        """What a dot or a `!` may follow: anything else goes into brackets."""
        node = as_written(node)
        shown = self.flat(node)
        loose = isinstance(node, (Binary, Lambda, Not, If, Match))
        negative = isinstance(node, Literal) and shown.startswith("-")
        return f"({shown})" if loose or negative else shown

    def binary(self, node: Binary) -> str:
        level = _LEVELS[node.operator]
        right = self.side(node.right, level, right=True)
        if node.negation:
            inner = as_written(node.right)
            return "-" + (
                f"({self.flat(inner)})" if isinstance(inner, Binary) else self.operand(inner)
            )
        return f"{self.side(node.left, level, right=False)} {node.operator} {right}"

    def side(self, node: Node, level: int, *, right: bool) -> str:
        node = as_written(node)
        shown = self.flat(node)
        if isinstance(node, Binary) and not node.negation:
            inner = _LEVELS[node.operator]
            if inner < level or (right and inner == level):
                return f"({shown})"
        loose = isinstance(node, Lambda) or (isinstance(node, Binary) and node.negation)
        return f"({shown})" if loose else shown

    def arguments(self, node: Method | Function) -> str:
        return ", ".join(
            f"{name}: {self.flat(value)}" if name else self.flat(value)
            for name, value in node.written
        )


def _label(name: str) -> str:
    return name if _NAME.fullmatch(name) else quote(name)


def _path(parts: tuple[str, ...]) -> str:
    first, *rest = parts
    return ".".join([first, *(_label(part) for part in rest)])


def _literal(value: object) -> str:
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, Float64):
        if not value:
            return "0.0" if str(float(value))[0] != "-" else "-0.0"
        shown = plain(*digits_of(value))
        sign = "-" if value < 0 else ""
        return sign + (shown if "." in shown else shown + ".0")
    return str(value)

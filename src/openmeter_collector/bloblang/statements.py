"""Whole mappings: statements, maps, imports."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from openmeter_collector.bloblang.builder import Builder
from openmeter_collector.bloblang.combinators import Parsed, Rule
from openmeter_collector.bloblang.diagnostics import Diagnostic, MappingError
from openmeter_collector.bloblang.lexer import (
    NAME,
    Failure,
    name,
    newline,
    optional_spaces,
    quoted,
    skip,
    spaces,
    term,
)
from openmeter_collector.bloblang.parser import ExpressionParser
from openmeter_collector.bloblang.services import file_error
from openmeter_collector.bloblang.spans import Source, Span
from openmeter_collector.bloblang.syntax import (
    Assign,
    IfStatement,
    Import,
    Let,
    MapDefinition,
    Meta,
    Node,
    Program,
)

_SHOWN = 12
_MAX_IMPORTS = 32
_MAX_BLOCKS = 48


def parse(source: Source, builder: Builder) -> Program:
    """Parse a mapping.

    Raises:
        MappingError: it is none.
    """
    try:
        return StatementParser(source, builder).mapping()
    except Failure as failure:
        raise MappingError([diagnostic(source, failure)]) from None


def diagnostic(source: Source, failure: Failure) -> Diagnostic:
    """A failure of the parser as something to show."""
    text = failure.text()
    if not text and failure.inner is None:
        at_end = failure.pos >= len(source.text)
        text = "encountered unexpected " + ("end of input" if at_end else "input")
    return Diagnostic(
        text,
        source,
        failure.pos,
        failure.hint,
        inner=failure.inner,
        expects=bool(failure.expected),
    )


class StatementParser(ExpressionParser):
    """Parses one source, and the files it imports."""

    def __init__(self, source: Source, builder: Builder, imports: tuple[str, ...] = ()) -> None:
        super().__init__(source.text, builder)
        self.source = source
        self.imports = imports
        self.maps: dict[str, MapDefinition] = {}
        self.blocks = 0

    def mapping(self) -> Program:
        """The whole text: a `from`, statements, or one expression."""
        imported = self.direct_import()
        if imported is not None:
            return imported
        try:
            return self.statements()
        except Failure as failure:
            if failure.cause is not None:
                raise
            whole = failure
        try:
            return self.shorthand()
        except Failure as failure:
            if failure.pos > whole.pos:
                raise
        raise whole

    def direct_import(self) -> Program | None:
        """`from "file"` as the whole mapping."""
        text = self.text
        try:
            pos = spaces(text, term(text, skip(text, 0), "from"))
            path, pos = quoted(text, pos)
        except Failure as failure:
            if failure.cause is not None:
                raise
            return None
        pos = skip(text, pos)
        program = self.load(path, 0)
        if pos < len(text):
            cause = f"unexpected content after single root import: {text[pos:]}"
            raise Failure(0, cause=cause)
        return Program(self.source, program.statements, program.maps, imported=program)

    def load(self, path: str, pos: int) -> Program:
        """Parse a file that is imported at `pos`."""
        services = self.build.services
        full = services.resolve(path, services.here)
        if full in self.imports or len(self.imports) >= _MAX_IMPORTS:
            raise Failure(pos, cause=f"failed to read import: {full} imports itself")
        try:
            content = services.read(full).decode("utf-8", "replace")
        except OSError as error:
            cause = f"failed to read import: {file_error(full, error)}"
            raise Failure(pos, cause=cause) from None
        source = Source(content, path)
        there = replace(services, here=posixpath.dirname(full))
        inner = StatementParser(source, Builder(self.build.registry, there), (*self.imports, full))
        try:
            return inner.statements()
        except Failure as failure:
            raise Failure(
                pos,
                cause=f"failed to parse import '{path}'",
                inner=diagnostic(source, failure),
            ) from None

    def statements(self) -> Program:
        """One statement a line."""
        text = self.text
        found: list[Node] = []
        rules = (self.import_statement, self.map_statement, *self.block_rules(meta=True))
        statement, pos = self.one_of(rules, skip(text, 0))
        found.append(statement)
        while True:
            pos = optional_spaces(text, pos)
            if pos >= len(text):
                break
            pos = skip(text, newline(text, pos))
            if pos >= len(text):
                break
            statement, pos = self.one_of(rules, pos)
            found.append(statement)
        return Program(self.source, tuple(found), self.maps)

    def shorthand(self) -> Program:
        """One expression, short for `root = expression`."""
        text = self.text
        start = skip(text, 0)
        value, end = self.query(start)
        rest = skip(text, end)
        if rest < len(text):
            shown = text[start:end]
            if len(shown) > _SHOWN:
                shown = shown[:_SHOWN] + "..."
            wanted = (
                f"the mapping to end here as the beginning is shorthand for `root = {shown}`, "
                "but this shorthand form cannot be followed with more assignments"
            )
            raise Failure(rest, (wanted,))
        statement = Assign((), value, shorthand=True, span=Span(0, end))
        return Program(self.source, (statement,))

    # Statements ---------------------------------------------------------------------------

    def block_rules(self, *, meta: bool) -> tuple[Rule[Node], ...]:
        """The statements that may stand in a block."""
        forbidden = self.meta_statement if meta else self.meta_forbidden
        return (self.let_statement, forbidden, self.assignment, self.if_statement)

    def import_statement(self, start: int) -> Parsed[Node]:
        pos = spaces(self.text, term(self.text, start, "import"))
        try:
            path, end = quoted(self.text, pos)
        except Failure as failure:
            raise failure.expecting("filepath").required() from None
        program = self.load(path, start)
        if not program.maps:
            raise Failure(start, cause=f"no maps to import from '{path}'")
        double = [name for name in program.maps if name in self.maps]
        if double:
            names = " ".join(double)
            cause = f"map name collisions from import '{path}': [{names}]"
            raise Failure(start, cause=cause)
        self.maps.update(program.maps)
        return Import(path, span=Span(start, end)), end

    def _label(self, pos: int, expected: str) -> Parsed[str]:
        rules: tuple[Rule[str], ...] = (
            lambda at: quoted(self.text, at),
            lambda at: name(self.text, at, expected),
        )
        try:
            return self.one_of(rules, pos)
        except Failure as failure:
            raise failure.expecting(expected).required() from None

    def map_statement(self, start: int) -> Parsed[Node]:
        text = self.text
        pos = spaces(text, term(text, start, "map"))
        label, pos = self._label(pos, "map name")
        body, end = self.statement_block(spaces(text, pos), meta=False)
        if label in self.maps:
            raise Failure(start, cause=f"map name collision: {label}")
        made = MapDefinition(label, tuple(body), self.source, span=Span(start, end))
        self.maps[label] = made
        return made, end

    def statement_block(self, pos: int, *, meta: bool) -> Parsed[list[Node]]:
        """Statements in braces."""
        text = self.text
        if self.blocks >= _MAX_BLOCKS:
            raise Failure(pos, cause=f"blocks are nested more than {_MAX_BLOCKS} deep")
        rules = self.block_rules(meta=meta)
        pos = skip(text, term(text, pos, "{"))
        self.blocks += 1
        try:
            return self.delimited(
                lambda at: self.one_of(rules, at),
                lambda at: skip(text, newline(text, optional_spaces(text, at))),
                lambda at: self.closing(at, "}"),
                pos,
            )
        finally:
            self.blocks -= 1

    def _assigned(self, pos: int) -> Parsed[Node]:
        text = self.text
        return self.query(spaces(text, term(text, pos, "=")))

    def let_statement(self, start: int) -> Parsed[Node]:
        text = self.text
        if not text.startswith("let", start):
            raise Failure(start, ("assignment",))
        label, pos = self._label(spaces(text, start + 3), "variable name")
        value, end = self._assigned(spaces(text, pos))
        return Let(label, value, span=Span(start, end)), end

    def meta_statement(self, start: int) -> Parsed[Node]:
        text = self.text
        if not text.startswith("meta", start):
            raise Failure(start, ("assignment",))
        pos = spaces(text, start + 4)
        key: str | None = None
        match = NAME.match(text, pos)
        if match is not None:
            key, pos = match[0], match.end()
        elif text.startswith('"', pos):
            key, pos = quoted(text, pos)
        value, end = self._assigned(optional_spaces(text, pos))
        return Meta(key, value, span=Span(start, end)), end

    def meta_forbidden(self, start: int) -> Parsed[Node]:
        self.meta_statement(start)
        raise Failure(start, cause="setting meta fields is not allowed within this block")

    def assignment(self, start: int) -> Parsed[Node]:
        text = self.text
        path, pos = self.target(start)
        value, end = self._assigned(spaces(text, pos))
        if path[0] == "root":
            path = path[1:]
        return Assign(path, value, span=Span(start, end)), end

    def target(self, start: int) -> Parsed[tuple[str, ...]]:
        """The path that is assigned to."""
        text = self.text
        first, end = name(text, start, "assignment")
        path = [first]
        pos = end
        while text.startswith(".", pos):
            match = NAME.match(text, pos + 1)
            if match is not None:
                segment, pos = match[0], match.end()
            elif text.startswith('"', pos + 1):
                segment, pos = quoted(text, pos + 1)
            else:
                # A path that breaks off is no path at all: what stands is its first segment.
                return (first,), end
            path.append(segment)
        return tuple(path), pos

    def if_statement(self, start: int) -> Parsed[Node]:
        text = self.text
        if not text.startswith("if", start):
            raise Failure(start, ("assignment",))
        pos = spaces(text, start + 2)
        condition, pos = self.required(self.query, pos)
        body, end = self.statement_block(skip(text, pos), meta=True)
        branches: list[tuple[Node | None, tuple[Node, ...]]] = [(condition, tuple(body))]
        while True:
            found = self._branch(end, "else if")
            if found is None:
                break
            branch, end = found
            branches.append(branch)
        found = self._branch(end, "else")
        if found is not None:
            branch, end = found
            branches.append(branch)
        return IfStatement(tuple(branches), span=Span(start, end)), end

    def _branch(self, end: int, word: str) -> Parsed[tuple[Node | None, tuple[Node, ...]]] | None:
        text = self.text
        pos = skip(text, end)
        if not text.startswith(word, pos):
            return None
        pos += len(word)
        try:
            condition: Node | None = None
            if word == "else if":
                condition, pos = self.required(self.query, spaces(text, pos))
            body, end = self.statement_block(skip(text, pos), meta=True)
        except Failure as failure:
            if failure.cause is not None:
                raise
            return None
        return (condition, tuple(body)), end

"""Expressions: text to tree.

A recursive descent that tries the alternatives of the grammar in order. What it reports when all
fail is what users of the engine know: the alternative that got furthest, with everything that
could have stood there. Each query is parsed once per position, so that trying again costs nothing.
"""

from __future__ import annotations

from typing import Final

from openmeter_collector.bloblang.builder import Builder, BuildError
from openmeter_collector.bloblang.combinators import Combinators, Parsed, Rule
from openmeter_collector.bloblang.lexer import (
    CALL_NAME,
    NAME,
    OPERATOR,
    Failure,
    further,
    name,
    newline,
    number,
    optional_spaces,
    quoted,
    skip,
    spaces,
    term,
    triple_quoted,
)
from openmeter_collector.bloblang.spans import Span
from openmeter_collector.bloblang.syntax import (
    Bracket,
    Field,
    If,
    Lambda,
    Literal,
    Match,
    Metadata,
    Node,
    Not,
    Variable,
    extend,
)

MAX_DEPTH: Final = 48
"""How deeply expressions may be nested; far beyond what people write, far below a crash."""

MAX_CHAIN: Final = 2000
"""How many calls or operators may follow each other in one expression."""


class ExpressionParser(Combinators):
    """Parses the expressions of one text."""

    def __init__(self, text: str, builder: Builder) -> None:
        super().__init__(text)
        self.build = builder
        self.scope: tuple[str, ...] = ()
        self.depth = 0
        self.memo: dict[tuple[int, tuple[str, ...]], Parsed[Node] | Failure] = {}

    # Queries ------------------------------------------------------------------------------

    def query(self, pos: int) -> Parsed[Node]:
        """Any expression."""
        key = (pos, self.scope)
        known = self.memo.get(key)
        if known is None:
            if self.depth >= MAX_DEPTH:
                raise Failure(pos, cause=f"expressions are nested more than {MAX_DEPTH} deep")
            self.depth += 1
            try:
                known = self.operations(optional_spaces(self.text, pos))
            except Failure as failure:
                known = failure
            finally:
                self.depth -= 1
            self.memo[key] = known
        if isinstance(known, Failure):
            raise Failure(known.pos, known.expected, known.cause, known.inner, known.hint)
        return known

    def operations(self, start: int) -> Parsed[Node]:
        """Operands joined by operators."""
        text = self.text
        operands: list[Node] = []
        operators: list[str] = []
        pos = start
        while True:
            operand, pos = self.operand(pos, start)
            operands.append(operand)
            match = OPERATOR.match(text, optional_spaces(text, pos))
            if match is None:
                break
            operators.append(match[0])
            pos = skip(text, match.end())
        if not operators:
            return operands[0], pos
        if len(operators) > MAX_CHAIN:
            raise Failure(start, cause=f"more than {MAX_CHAIN} operators in one expression")
        try:
            return self.build.operations(operands, operators), pos
        except BuildError as error:
            raise Failure(start, cause=str(error), hint=error.hint) from None

    def operand(self, pos: int, start: int) -> Parsed[Node]:
        """A term, with a minus before it perhaps."""
        if not self.text.startswith("-", pos):
            return self.term(pos)
        inner, end = self.term(skip(self.text, pos + 1))
        try:
            return self.build.negated(inner, pos), end
        except BuildError as error:
            raise Failure(start, cause=str(error), hint=error.hint) from None

    def term(self, start: int) -> Parsed[Node]:
        """A primary with its tails, with a `!` before it perhaps."""
        text = self.text
        pos = start
        negated = text.startswith("!", pos)
        if negated:
            pos = optional_spaces(text, pos + 1)
        first = pos
        node, pos = self.primary(pos)
        for _ in range(MAX_CHAIN):
            if not text.startswith(".", pos):
                break
            node, pos = self.tail(node, first, skip(text, pos + 1))
        else:
            raise Failure(start, cause=f"more than {MAX_CHAIN} calls in one chain")
        if negated:
            node = Not(node, span=Span(start, pos))
        return node, pos

    def primary(self, pos: int) -> Parsed[Node]:
        """What a chain starts with."""
        rules: tuple[Rule[Node], ...] = (
            self.match,
            self.if_expression,
            self.lambda_expression,
            self.brackets,
            self.literal,
            self.function,
            self.metadata,
            self.variable,
            self.field,
        )
        try:
            return self.one_of(rules, pos)
        except Failure as failure:
            raise failure.expecting("query") from None

    # Tails --------------------------------------------------------------------------------

    def tail(self, target: Node, start: int, pos: int) -> Parsed[Node]:
        """What may follow a dot: brackets, a method, a field."""
        rules: tuple[Rule[Node], ...] = (
            lambda at: self.bracket_tail(target, start, at),
            lambda at: self.method(target, start, at),
            lambda at: self.field_tail(target, start, at),
        )
        return self.required(lambda at: self.one_of(rules, at), pos)

    def bracket_tail(self, target: Node, start: int, pos: int) -> Parsed[Node]:
        if not self.text.startswith("(", pos):
            raise Failure(pos, ("method",))
        body, end = self.query(skip(self.text, pos + 1))
        end = self.closing(end, ")")
        return Bracket(target, body, span=Span(start, end)), end

    def method(self, target: Node, start: int, pos: int) -> Parsed[Node]:
        match = CALL_NAME.match(self.text, pos)
        if match is None:
            raise Failure(pos, ("method",))
        arguments, end = self.arguments(match.end())
        try:
            return self.build.method(match[0], target, arguments, Span(start, end)), end
        except BuildError as error:
            raise Failure(end, cause=str(error), hint=error.hint) from None

    def field_tail(self, target: Node, start: int, pos: int) -> Parsed[Node]:
        match = NAME.match(self.text, pos)
        if match is not None:
            segment, end = match[0], match.end()
        else:
            try:
                segment, end = quoted(self.text, pos)
            except Failure as failure:
                raise failure.expecting("field path") from None
        return extend(target, (segment,), Span(start, end)), end

    # Calls --------------------------------------------------------------------------------

    def function(self, pos: int) -> Parsed[Node]:
        match = CALL_NAME.match(self.text, pos)
        if match is None:
            raise Failure(pos, ("function",))
        arguments, end = self.arguments(match.end())
        try:
            return self.build.function(match[0], arguments, Span(pos, end)), end
        except BuildError as error:
            raise Failure(end, cause=str(error), hint=error.hint) from None

    def arguments(self, pos: int) -> Parsed[list[tuple[str | None, Node]]]:
        """The arguments of a call, in brackets."""
        if not self.text.startswith("(", pos):
            raise Failure(pos, ("function arguments",))
        return self.delimited(
            self.argument, self._argument_comma, self._argument_end, skip(self.text, pos + 1)
        )

    def _argument_comma(self, pos: int) -> int:
        try:
            return self.comma(pos)
        except Failure as failure:
            raise failure.expecting("comma").required() from None

    def _argument_end(self, pos: int) -> int:
        try:
            return self.closing(pos, ")")
        except Failure as failure:
            raise failure.expecting("closing bracket").required() from None

    def argument(self, pos: int) -> Parsed[tuple[str | None, Node]]:
        rules: tuple[Rule[tuple[str | None, Node]], ...] = (self.named, self._positional)
        try:
            return self.one_of(rules, pos)
        except Failure as failure:
            raise failure.expecting("function argument").required() from None

    def _positional(self, pos: int) -> Parsed[tuple[str | None, Node]]:
        node, end = self.query(pos)
        return (None, node), end

    def named(self, pos: int) -> Parsed[tuple[str | None, Node]]:
        match = CALL_NAME.match(self.text, pos)
        if match is None:
            raise Failure(pos, ("snake-case",))
        at = optional_spaces(self.text, term(self.text, match.end(), ":"))
        try:
            node, end = self.query(at)
        except Failure as failure:
            raise failure.expecting("argument value").required() from None
        return (match[0], node), end

    # Primaries ----------------------------------------------------------------------------

    def metadata(self, pos: int) -> Parsed[Node]:
        if not self.text.startswith("@", pos):
            raise Failure(pos, ("metadata path",))
        match = NAME.match(self.text, pos + 1)
        key, end = "", pos + 1
        if match is not None:
            key, end = match[0], match.end()
        elif self.text.startswith('"', pos + 1):
            key, end = quoted(self.text, pos + 1)
        return Metadata(key, span=Span(pos, end)), end

    def variable(self, pos: int) -> Parsed[Node]:
        at = pos + self.text.startswith("$", pos)
        match = NAME.match(self.text, at)
        if at == pos or match is None:
            raise Failure(at, ("variable path",))
        return Variable(match[0], span=Span(pos, match.end())), match.end()

    def field(self, pos: int) -> Parsed[Node]:
        word, end = name(self.text, pos, "field path")
        span = Span(pos, end)
        if word in ("this", "root") or word in self.scope:
            return Field(word, span=span), end
        return Field("this", (word,), span=span), end

    def brackets(self, pos: int) -> Parsed[Node]:
        if not self.text.startswith("(", pos):
            raise Failure(pos, ("function",))
        node, end = self.query(skip(self.text, pos + 1))
        try:
            return node, self.closing(end, ")")
        except Failure as failure:
            raise failure.expecting("closing bracket").required() from None

    def lambda_expression(self, pos: int) -> Parsed[Node]:
        text = self.text
        try:
            word, at = name(text, pos, "context name")
            at = spaces(text, at)
            at = spaces(text, term(text, at, "->"))
        except Failure as failure:
            raise failure.expecting("function") from None
        outer = self.scope
        if word != "_":
            if word in outer:
                cause = f"context label `{word}` would shadow a parent context"
                raise Failure(pos, cause=cause)
            if word in ("root", "this"):
                raise Failure(pos, cause=f"context label `{word}` is not allowed")
            self.scope = (*outer, word)
        try:
            body, end = self.required(self.query, at)
        finally:
            self.scope = outer
        if isinstance(body, Lambda):
            raise Failure(
                pos,
                cause="it would be in poor taste to capture the same context under both "
                f"'{word}' and '{body.name}'",
            )
        return Lambda(word, body, span=Span(pos, end)), end

    def literal(self, pos: int) -> Parsed[Node]:
        rules: tuple[Rule[Node], ...] = (
            self._word,
            self._number,
            self._triple,
            self._quoted,
            self.array,
            self.object,
        )
        return self.one_of(rules, pos)

    def _word(self, pos: int) -> Parsed[Node]:
        for word, value in (("true", True), ("false", False), ("null", None)):
            if self.text.startswith(word, pos):
                end = pos + len(word)
                return Literal(value, span=Span(pos, end)), end
        raise Failure(pos, ("boolean", "null"))

    def _number(self, pos: int) -> Parsed[Node]:
        value, end = number(self.text, pos)
        return Literal(value, span=Span(pos, end)), end

    def _triple(self, pos: int) -> Parsed[Node]:
        value, end = triple_quoted(self.text, pos)
        return Literal(value, span=Span(pos, end)), end

    def _quoted(self, pos: int) -> Parsed[Node]:
        value, end = quoted(self.text, pos)
        return Literal(value, span=Span(pos, end)), end

    def _element(self, pos: int) -> Parsed[Node]:
        try:
            return self.query(pos)
        except Failure as failure:
            raise failure.expecting("object") from None

    def array(self, pos: int) -> Parsed[Node]:
        if not self.text.startswith("[", pos):
            raise Failure(pos, ("array",))
        items, end = self.delimited(
            self._element,
            self.comma,
            lambda at: self.closing(at, "]"),
            skip(self.text, pos + 1),
        )
        return self.build.array(items, Span(pos, end)), end

    def object(self, pos: int) -> Parsed[Node]:
        if not self.text.startswith("{", pos):
            raise Failure(pos, ("object",))
        pairs, end = self.delimited(
            self.pair,
            self.comma,
            lambda at: self.closing(at, "}"),
            skip(self.text, pos + 1),
        )
        try:
            return self.build.object(pairs, Span(pos, end)), end
        except BuildError as error:
            raise Failure(pos, cause=str(error), hint=error.hint) from None

    def pair(self, pos: int) -> Parsed[tuple[str | Node, Node]]:
        text = self.text
        key: str | Node
        rules: tuple[Rule[str | Node], ...] = (
            lambda at: quoted(text, at),
            self._element,
        )
        key, at = self.one_of(rules, pos)
        at = skip(text, term(text, optional_spaces(text, at), ":"))
        value, end = self._element(at)
        return (key, value), end

    # Conditions ---------------------------------------------------------------------------

    def if_expression(self, start: int) -> Parsed[Node]:
        text = self.text
        pos = spaces(text, term(text, start, "if"))
        condition, pos = self.required(self.query, pos)
        value, pos = self.block(pos)
        branches = [(condition, value)]
        while True:
            at = skip(text, pos)
            if not text.startswith("else if", at):
                break
            try:
                at = spaces(text, at + len("else if"))
            except Failure:
                break
            condition, at = self.required(self.query, at)
            value, pos = self.block(at)
            branches.append((condition, value))
        otherwise = None
        at = skip(text, pos)
        if text.startswith("else", at):
            otherwise, pos = self.block(at + len("else"))
        return If(tuple(branches), otherwise, span=Span(start, pos)), pos

    def block(self, pos: int) -> Parsed[Node]:
        """One expression in braces."""
        text = self.text
        at = self._brace(skip(text, pos), "{")
        node, at = self.required(self.query, skip(text, at))
        return node, self._brace(skip(text, at), "}")

    def _brace(self, pos: int, char: str) -> int:
        try:
            return term(self.text, pos, char)
        except Failure as failure:
            raise failure.required() from None

    def match(self, start: int) -> Parsed[Node]:
        text = self.text
        pos = spaces(text, term(text, start, "match"))
        subject: Node | None = None
        try:
            subject, pos = self.query(pos)
        except Failure as failure:
            if failure.cause is not None:
                raise
        pos = skip(text, pos)
        try:
            pos = term(text, pos, "{")
            cases, end = self.delimited(
                self.case, self._case_end, lambda at: self.closing(at, "}"), skip(text, pos)
            )
        except Failure as failure:
            raise failure.required() from None
        return Match(subject, tuple(cases), span=Span(start, end)), end

    def _case_end(self, pos: int) -> int:
        text = self.text
        pos = optional_spaces(text, pos)
        if text.startswith(",", pos):
            return skip(text, pos + 1)
        try:
            return skip(text, newline(text, pos))
        except Failure as failure:
            raise further(Failure(pos, (",",)), failure) from None

    def case(self, start: int) -> Parsed[tuple[Node | None, Node]]:
        text = self.text
        rules: tuple[Rule[Node | None], ...] = (self._any_case, self._case_query)
        condition, pos = self.one_of(rules, start)
        value, end = self.query(optional_spaces(text, pos))
        return (condition, value), end

    def _any_case(self, pos: int) -> Parsed[Node | None]:
        if not self.text.startswith("_", pos):
            raise Failure(pos, ("match case",))
        return None, term(self.text, optional_spaces(self.text, pos + 1), "=>")

    def _case_query(self, pos: int) -> Parsed[Node | None]:
        try:
            node, end = self.query(pos)
        except Failure as failure:
            raise failure.expecting("match case") from None
        return node, term(self.text, optional_spaces(self.text, end), "=>")

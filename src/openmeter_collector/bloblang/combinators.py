"""Ways to put rules of the grammar together, and to tell which of several failures counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from openmeter_collector.bloblang.lexer import Failure, further, optional_spaces, skip, term

T = TypeVar("T")
Parsed = tuple[T, int]
Rule = Callable[[int], Parsed[T]]


class Combinators:
    """Rules over one text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def required(self, rule: Rule[T], pos: int) -> Parsed[T]:
        """What must stand here: its failure ends all other attempts."""
        try:
            return rule(pos)
        except Failure as failure:
            raise failure.required() from None

    def one_of(self, rules: tuple[Rule[T], ...], pos: int) -> Parsed[T]:
        """The first alternative that fits."""
        best: Failure | None = None
        for rule in rules:
            try:
                return rule(pos)
            except Failure as failure:
                if failure.cause is not None:
                    raise
                best = further(best, failure)
        raise best or Failure(pos)

    def delimited(
        self, item: Rule[T], delimiter: Callable[[int], int], stop: Callable[[int], int], pos: int
    ) -> Parsed[list[T]]:
        """Items with delimiters between them, up to the end; a last delimiter may hang."""
        items: list[T] = []
        while True:
            try:
                found, after = item(pos)
            except Failure:
                try:
                    return items, stop(pos)
                except Failure:
                    pass
                raise
            items.append(found)
            try:
                pos = delimiter(after)
            except Failure as failure:
                try:
                    return items, stop(after)
                except Failure as end:
                    raise Failure(
                        failure.pos, failure.expected + end.expected, failure.cause or end.cause
                    ) from None

    def closing(self, pos: int, char: str) -> int:
        """A closing character, which line breaks may precede."""
        return term(self.text, skip(self.text, pos), char)

    def comma(self, pos: int) -> int:
        """A comma, which line breaks may follow but not precede."""
        return skip(self.text, term(self.text, optional_spaces(self.text, pos), ","))

"""What is wrong with a mapping, where, and how to say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openmeter_collector.bloblang.spans import Source
from openmeter_collector.errors import ConfigError

_CONTEXT = 60


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One fault or warning in a mapping.

    Attributes:
        text: what was found and expected, in the engine's words.
        source: the text the position belongs to; of an imported file, that file's.
        offset: the character it is about.
        hint: what to do about it, "" when there is nothing to add.
        severity: "error" or "warning".
        inner: for a fault in an imported file, the fault itself.
    """

    text: str
    source: Source
    offset: int
    hint: str = ""
    severity: str = "error"
    inner: Diagnostic | None = None
    expects: bool = False

    @property
    def line(self) -> int:
        """Line, from 1."""
        return self.source.position(self.offset)[0]

    @property
    def column(self) -> int:
        """Column in characters, from 1."""
        return self.source.position(self.offset)[1]

    def one_line(self) -> str:
        """`line L char C: text`, as the engine's processors report it."""
        inner = f": {self.inner.one_line()}" if self.inner else ""
        return f"line {self.line} char {self.column}: {self.text}{inner}"

    def lint(self) -> str:
        """The text with the next characters of the source, as the engine's linter reports it."""
        got = self.source.text[self.offset : self.offset + 5]
        if self.inner:
            return f"{self.text}: {self.inner.lint()}"
        if self.expects:
            return f"{self.text}, got: {got}" if got else f"{self.text}, but reached end of input"
        return f"{self.text}: {got}" if got else self.text

    def rendered(self) -> str:
        """The engine's form of several lines, with a caret below the place."""
        shown = self.source.line(self.line)
        at = self.column - 1
        if at < len(shown) - _CONTEXT:
            shown = shown[: at + _CONTEXT]
        number = str(self.line)
        margin = " " * len(number)
        where = f"{self.source.name}: " if self.source.name else ""
        lines = [
            f"{where}line {number} char {self.column}: {self.text}",
            f"{margin} |",
            f"{number} | {shown}",
            f"{margin} | {' ' * at}^---",
        ]
        if self.inner:
            lines += ["", self.inner.rendered()]
        return "\n".join(lines)

    def full(self) -> str:
        """The caret form, and the hint below it."""
        return f"{self.rendered()}\n{self.hint}" if self.hint else self.rendered()


class MappingError(ConfigError):
    """A mapping cannot be compiled.

    Attributes:
        diagnostics: what is wrong, in order of position; never empty.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__([one.one_line() for one in diagnostics])

    @property
    def line(self) -> int:
        """Line of the first fault, from 1."""
        return self.diagnostics[0].line

    @property
    def column(self) -> int:
        """Column of the first fault, from 1."""
        return self.diagnostics[0].column

    def lint(self) -> str:
        """The first fault as the engine's linter words it; the position is not part of it."""
        return self.diagnostics[0].lint()

    def rendered(self) -> str:
        """Every fault over several lines, with carets."""
        return "\n".join(one.full() for one in self.diagnostics)

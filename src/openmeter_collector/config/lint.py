"""Faults of a configuration, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from openmeter_collector.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault at one place.

    Attributes:
        file: as the operator wrote its name; empty for a config that came from nowhere.
        line: of the original file, from 1.
        col: from 1.
        code: which rule, such as `unknown_field`.
        message: the fault in the words that `lint` prints.
        path: where in the config, such as `root.output.openmeter`.
        hint: what was expected or what to do.
        found: the fault in our own words, when `message` keeps to the old ones.
        lint_at: line and column as `lint` prints them, when not `(line, 1)`.
        severity: `error` stops a start; `warning` is only told.
    """

    file: str
    line: int
    col: int
    code: str
    message: str
    path: str = ""
    hint: str = ""
    found: str = ""
    lint_at: tuple[int, int] | None = None
    severity: str = "error"

    def lint_line(self) -> str:
        """`file(line,col) message`, as `lint` prints it."""
        line, col = self.lint_at or (self.line, 1)
        return f"{self.file}({line},{col}) {self.message}"

    def friendly(self) -> str:
        """`file:line:col path: what was found; what to do`."""
        place = f"{self.file or '<config>'}:{self.line}:{self.col}"
        text = self.found or self.message
        path = f" {self.path}" if self.path else ""
        return f"{place}{path}: {text}{'; ' if self.hint else ''}{self.hint}"


class InvalidConfig(ConfigError):
    """A configuration with faults.

    Attributes:
        faults: every fault, in order of position.
    """

    def __init__(self, faults: Iterable[Problem]) -> None:
        self.faults = tuple(faults)
        super().__init__([fault.friendly() for fault in self.faults])

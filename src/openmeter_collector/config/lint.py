"""Faults of a configuration, as values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from openmeter_collector.errors import ConfigError

SCRUBBED: Final = "!!!SECRET_SCRUBBED!!!"

TOLERABLE: Final = frozenset(
    {"bad_env", "bad_label", "duplicate_label", "missing_env", "unknown_field"}
)
"""Codes of faults with which a config could still be run, if somebody insists (`--chilled`)."""


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
        severity: `error` stops a start; `lint` only fails `lint`; `warning` is told at a start;
            `deprecated`, `ours` and `unlabelled` are told by `lint` when asked.
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


def in_order(problems: Iterable[Problem], secrets: Iterable[str]) -> tuple[Problem, ...]:
    """By position, and without any secret in their texts."""
    hidden = Scrubber(secrets)
    clean = (
        replace(
            problem,
            message=hidden.scrub(problem.message),
            found=hidden.scrub(problem.found),
            hint=hidden.scrub(problem.hint),
            path=hidden.scrub(problem.path),
        )
        for problem in problems
    )
    return tuple(sorted(clean, key=lambda p: (p.file, p.line, p.col)))


def lint_lines(problems: Sequence[Problem]) -> list[str]:
    """All problems as `lint` prints them; variables that are not set share one line per file."""
    lines = []
    told: set[str] = set()
    for problem in problems:
        if problem.code != "missing_env":
            lines.append(problem.lint_line())
        elif problem.file not in told:
            told.add(problem.file)
            names = [
                p.message for p in problems if p.code == "missing_env" and p.file == problem.file
            ]
            text = f"required environment variables were not set: [{' '.join(names)}]"
            lines.append(replace(problem, message=text).lint_line())
    return lines


class Scrubber:
    """Takes secrets out of texts."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = frozenset(s for s in secrets if s)
        # The longest first: one may be the beginning of another. Very short ones are found only
        # where they stand alone; as parts of words they would be everywhere.
        self._parts = sorted((s for s in self._secrets if len(s) >= 4), key=len, reverse=True)

    def scrub(self, text: str) -> str:
        """The text, each secret replaced."""
        if text in self._secrets:
            return SCRUBBED
        for secret in self._parts:
            text = text.replace(secret, SCRUBBED)
        return text

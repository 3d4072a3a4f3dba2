"""Taking down faults while a config is read."""

from __future__ import annotations

from typing import Final

from openmeter_collector.config.lint import TOLERABLE, Problem
from openmeter_collector.config.tree import Mapping, Place, Scalar, Sequence, Tree

FAULTY: Final = object()
"""Stands where a value would, when there is a problem about it."""

_PLAIN: Final = {"array": "list", "int": "whole number", "float": "number", "string": "text"}


class Report:
    """The faults of one reading.

    Attributes:
        chilled: what only a linter minds does not stop anything.
        in_component: how many components deep the reading is; 0 in the root document's own fields.
    """

    def __init__(self, *, chilled: bool = False) -> None:
        self.chilled = chilled
        self.in_component = 0
        self.problems: list[Problem] = []
        self.components: list[tuple[str, str]] = []
        """Kind and name of every component that was read, in order."""

    def __call__(
        self,
        place: Place,
        code: str,
        message: str,
        path: str,
        *,
        hint: str = "",
        found: str = "",
        lint_at: tuple[int, int] | None = None,
        severity: str = "error",
    ) -> object:
        """Take one down; returns `FAULTY`, or None if it can be tolerated."""
        tolerated = severity != "error" or (self.chilled and code in TOLERABLE)
        if severity == "error" and tolerated:
            severity = "warning"
        self.problems.append(
            Problem(place.file, place.line, place.col, code, message, path, hint, found, lint_at,
                    severity)
        )  # fmt: skip
        return None if tolerated else FAULTY

    def wrong(self, tree: Tree, wanted: str, path: str, found: str = "", hint: str = "") -> object:
        """A value of another type stands there. Never quotes it: it may be a secret.

        Args:
            wanted: `object`, `array`, or a scalar's name in `lint`.
        """
        line_at = None
        message = f"expected {wanted} value"
        if wanted == "object":
            message += f", got {tree.tag}"
        if not self.in_component and path != "root":
            # The root's own fields are read before anything is linted, and told in other words.
            line_at = (1, 1)
            if wanted in ("object", "array"):
                detail = f"line {tree.place.line}: expected {wanted} value, got {tree.tag}"
            else:
                shown = f" `{_short(tree.text)}`" if isinstance(tree, Scalar) else ""
                detail = (
                    f"yaml: unmarshal errors:\n  line {tree.place.line}: "
                    f"cannot unmarshal {tree.tag}{shown} into {wanted}"
                )
            message = in_fields(path, detail)
        return self(
            tree.place,
            "wrong_type",
            message,
            path,
            found=found or f"found {describe(tree)}",
            hint=hint or ("" if found else f"write {article(_PLAIN.get(wanted, wanted))}"),
            lint_at=line_at,
        )


def in_fields(path: str, detail: str) -> str:
    """`field 'pipeline': field 'threads': ...`, as the root's own fields are told."""
    names = [name for name in path.split(".")[1:] if not name.isdigit()]
    return "".join(f"field '{name}': " for name in names) + detail


def _short(text: str) -> str:
    return text if len(text) <= 10 else text[:7] + "..."


def describe(tree: Tree) -> str:
    """What somebody wrote, without quoting it."""
    match tree:
        case Mapping():
            return "an object"
        case Sequence():
            return "a list"
    words = {"!!null": "nothing", "!!bool": "true or false", "!!str": "a text"}
    return words.get(tree.tag, "a number")


def article(word: str) -> str:
    """`an input`, `a list`."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word.replace('_', ' ')}"

"""A configured component at its place in a config: what the config layer hands to the engine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol


class Openable(Protocol):
    """A decoded component config. Frozen; opening it starts a life that ends with the block."""

    def open(self, env: Any) -> AbstractAsyncContextManager[Any]:
        """Connect, bind, allocate; undo it all on exit. `env` is a `component.env.Env`."""


@dataclass(frozen=True, slots=True)
class Node:
    """One component of a config.

    Attributes:
        kind: `input`, `processor`, `output`, `buffer`, `cache`, `rate_limit`, `metrics`, `tracer`.
        name: the component's name, such as `http_server`.
        config: the typed config, an instance of the component's class.
        path: where it is, in the field's terms: `root.output.drop_on.output`.
        label: the operator's label, empty when none was given.
        where: `file:line:col` of the component in the config text, empty when it has none.
        processors: for inputs and outputs, the processors attached to it.
    """

    kind: str
    name: str
    config: Openable
    path: str
    label: str = ""
    where: str = ""
    processors: tuple[Node, ...] = field(default=())

    def display(self) -> str:
        """How messages name it: the label if there is one, else the path."""
        return self.label or self.path

"""A configured component at its place in a config: what the config layer hands to the engine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # the language is large, and most configs need none of it here
    from openmeter_collector.bloblang import Mapping


class Openable(Protocol):
    """A decoded component config. Frozen; opening it starts a life that ends with the block."""

    def open(self, env: Any) -> AbstractAsyncContextManager[Any]:
        """Connect, bind, allocate; undo it all on exit. `env` is a `component.env.Env`."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A config as it is understood, defaults filled in and secrets hidden.

    Attributes:
        text: in YAML.
        value: as plain values.
    """

    text: str
    value: Any


class Decodes(Protocol):
    """Makes components of configs that come while the collector is running, and shows them."""

    def __call__(self, kind: str, text: str, path: str) -> Node:
        """Read the config of one component, in YAML or JSON, for its place `path`.

        What it may do is bounded as for everything that comes over the network.

        Raises:
            ConfigError: with every fault that was found.
        """

    def shown(self, node: Node) -> Shown:
        """A component's config, for people who may look at it over the network."""


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
        decodes: makes further components, for those that are told of them at run time.
        written: how it stands in the config, when a template made it of that.
        metric_names: mappings of the names and labels of its metrics, first to last: those of the
            templates it is in.
    """

    kind: str
    name: str
    config: Openable
    path: str
    label: str = ""
    where: str = ""
    processors: tuple[Node, ...] = field(default=())
    decodes: Decodes | None = field(default=None, compare=False, repr=False)
    written: Node | None = None
    metric_names: tuple[Mapping, ...] = field(default=(), compare=False, repr=False)

    def display(self) -> str:
        """How messages name it: the label if there is one, else the path."""
        return self.label or self.path

"""How a component says what it is: a decorator, typed fields, and a docstring that is the page.

A decorator turns the class into a frozen, keyword-only dataclass and puts a `ComponentSpec` on it as
`__spec__`. Importing a component has no other effect; a `Registry` collects specs.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    TypedDict,
    TypeVar,
    Unpack,
    dataclass_transform,
)

from openmeter_collector.spec.types import FieldType, type_of

if TYPE_CHECKING:  # the language is large, and most configs need none of it here
    from openmeter_collector.bloblang import Mapping as LanguageMapping

T = TypeVar("T")

Stability = Literal["stable", "beta", "experimental", "deprecated"]
KINDS: Final = (
    "input",
    "processor",
    "output",
    "buffer",
    "cache",
    "rate_limit",
    "metrics",
    "tracer",
    "scanner",
)
"""Every kind of component, in the order of the documentation."""


@dataclass(frozen=True, slots=True)
class Example:
    """A config that readers may copy. Checked for every component: it lints and decodes."""

    title: str
    yaml: str


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of a component or section.

    Attributes:
        default: what it is when left out; `MISSING` if there is none.
        default_factory: makes the default, for lists, maps and sections.
        default_config: YAML of the child component that is assumed when none is written.
        choices: words that are allowed, with what each does.
        minimum: smallest number, shortest list or text.
        maximum: largest number, longest list or text.
        lint: told the decoded value, says what is wrong with it, or None.
        ours: only this collector knows the field.
        file: whether a decoded value of it has files read or written that the config names; not
            every config may (see `spec.trust`). Not for components that are dangerous altogether.
    """

    name: str
    type: FieldType
    default: Any = MISSING
    default_factory: Any = MISSING
    default_config: str = ""
    doc: str = ""
    examples: Sequence[Any] = ()
    secret: bool = False
    advanced: bool = False
    deprecated: bool = False
    ours: bool = False
    choices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    minimum: float | None = None
    maximum: float | None = None
    lint: Callable[[Any], str | None] | None = None
    file: Callable[[Any], bool] | None = None

    @property
    def required(self) -> bool:
        """Nothing is assumed when it is left out."""
        return self.default is MISSING and self.default_factory is MISSING

    def make_default(self) -> Any:
        """The value of a field that was left out."""
        return self.default_factory() if self.default is MISSING else self.default


class _About(TypedDict, total=False):
    """What a component says about itself beside its fields."""

    summary: str
    stability: Stability
    since: str
    ours: bool
    categories: Sequence[str]
    examples: Sequence[Example]
    value: str
    dangerous: Literal["programs", "files"]


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """A component: what it is called, what it is made of, and what its page says.

    Attributes:
        cls: the config class.
        ours: only this collector knows the component.
        value: the field whose value stands for the whole config (`mapping: root = this`), or "".
        dangerous: what it can do that not every config may (see `spec.trust`), or "".
        expand: of a template: makes the component that stands for it, as plain values, of a config
            and a label. Raises `ConfigError`.
        metric_names: of a template: makes the mapping of metrics' names of a label.
    """

    kind: str
    name: str
    cls: type[Any]
    summary: str
    stability: Stability = "stable"
    since: str = "0.1.0"
    ours: bool = False
    categories: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    value: str = ""
    dangerous: Literal["", "programs", "files"] = ""
    expand: Callable[[Any, str], Any] | None = None
    metric_names: Callable[[str], LanguageMapping] | None = None

    @property
    def fields(self) -> Mapping[str, FieldSpec]:
        """The fields, in the order they are written in the class."""
        return fields_of(self.cls)

    @property
    def description(self) -> str:
        """The page: the class's docstring."""
        return inspect.cleandoc(self.cls.__doc__ or "")


def field(
    *,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    default_config: str = "",
    doc: str,
    examples: Sequence[Any] = (),
    secret: bool = False,
    advanced: bool = False,
    deprecated: bool = False,
    ours: bool = False,
    choices: Mapping[str, str] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    lint: Callable[[Any], str | None] | None = None,
    file: Callable[[Any], bool] | None = None,
) -> Any:
    """Describe one field; see `FieldSpec`. `default` must be given by keyword to be one."""
    if default_config:
        default = None  # for the dataclass: who makes one in code gives the component
    about = {
        "default_config": default_config,
        "doc": doc,
        "examples": tuple(examples),
        "secret": secret,
        "advanced": advanced,
        "deprecated": deprecated,
        "ours": ours,
        "choices": types.MappingProxyType(dict(choices or {})),
        "minimum": minimum,
        "maximum": maximum,
        "lint": lint,
        "file": file,
    }
    made: Any = dataclasses.field(
        default=default, default_factory=default_factory, metadata={"field": about}
    )
    return made


@functools.cache
def _read_fields(cls: Any) -> Mapping[str, FieldSpec]:
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for one in dataclasses.fields(cls):
        if "field" not in one.metadata:
            continue  # an attribute that no config can set
        try:
            kind = type_of(hints[one.name])
        except TypeError as error:
            raise TypeError(f"{cls.__qualname__}.{one.name}: {error}") from None
        name = one.name.removesuffix("_")  # `from_` and the like are Python's concern only
        found[name] = FieldSpec(
            name, kind, one.default, one.default_factory, **one.metadata["field"]
        )
    return types.MappingProxyType(found)


def fields_of(cls: type[Any]) -> Mapping[str, FieldSpec]:
    """The fields of a component or section class, in the order written, annotations resolved.

    Raises:
        TypeError: an annotation is nothing a config can hold; the text names the field.
    """
    key: Any = cls
    return _read_fields(key)


def attribute_of(cls: type[Any], field_name: str) -> str:
    """The attribute that holds a field: the same word, or with `_` where Python keeps the word."""
    return field_name if field_name in cls.__dataclass_fields__ else field_name + "_"


def _freeze(cls: type[T]) -> type[T]:
    # repr=False: a repr ends up in logs and tracebacks, and configs hold secrets.
    made = dataclass(frozen=True, slots=True, kw_only=True, repr=False)(cls)
    made.__repr__ = _quiet_repr  # type: ignore[method-assign]
    return made


def _quiet_repr(self: object) -> str:
    return f"<{type(self).__name__}>"


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def section(cls: type[T]) -> type[T]:
    """Make a class a nested config object."""
    made = _freeze(cls)
    made.__section__ = True  # type: ignore[attr-defined]
    return made


def _component(kind: str, name: str, about: _About) -> Callable[[type[T]], type[T]]:
    def decorate(cls: type[T]) -> type[T]:
        made: type[T] = specify(kind, name, cls, **about).cls
        return made

    return decorate


def specify(kind: str, name: str, cls: type[Any], **about: Unpack[_About]) -> ComponentSpec:
    """Make a class with annotated fields the config class of a component."""
    made: Any = _freeze(cls)
    made.__spec__ = ComponentSpec(
        kind=kind,
        name=name,
        cls=made,
        summary=about.get("summary") or _first_sentence(cls.__doc__ or ""),
        stability=about.get("stability", "stable"),
        since=about.get("since", "0.1.0"),
        ours=about.get("ours", False),
        categories=tuple(about.get("categories", ())),
        examples=tuple(about.get("examples", ())),
        value=about.get("value", ""),
        dangerous=about.get("dangerous", ""),
    )
    spec: ComponentSpec = made.__spec__
    return spec


def _first_sentence(text: str) -> str:
    paragraph = " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".") + "."


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def input(name: str, **about: Unpack[_About]) -> Callable[[type[T]], type[T]]:  # noqa: A001
    """Declare an input."""
    return _component("input", name, about)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def processor(name: str, **about: Unpack[_About]) -> Callable[[type[T]], type[T]]:
    """Declare a processor."""
    return _component("processor", name, about)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def output(name: str, **about: Unpack[_About]) -> Callable[[type[T]], type[T]]:
    """Declare an output."""
    return _component("output", name, about)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def buffer(name: str, **about: Unpack[_About]) -> Callable[[type[T]], type[T]]:
    """Declare a buffer."""
    return _component("buffer", name, about)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def cache(name: str, **about: Unpack[_About]) -> Callable[[type[T]], type[T]]:
    """Declare a cache."""
    return _component("cache", name, about)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def rate_limit(name: str, **about: Unpack[_About]) -> Callable[[type[T]], type[T]]:
    """Declare a rate limit."""
    return _component("rate_limit", name, about)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def metrics(name: str, **about: Unpack[_About]) -> Callable[[type[T]], type[T]]:
    """Declare a place for metrics."""
    return _component("metrics", name, about)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def tracer(name: str, **about: Unpack[_About]) -> Callable[[type[T]], type[T]]:
    """Declare a tracer."""
    return _component("tracer", name, about)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def scanner(name: str, **about: Unpack[_About]) -> Callable[[type[T]], type[T]]:
    """Declare a scanner."""
    return _component("scanner", name, about)

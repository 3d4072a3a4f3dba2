"""Which components there are: a value, not a place things announce themselves at.

A registry may know a component by name only and import its module when somebody asks, so that a run
imports what its config names and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from openmeter_collector.spec.component import KINDS, ComponentSpec

Key = tuple[str, str]
"""Kind and name."""

Entries = Mapping[Key, ComponentSpec | str]


class Registry:
    """Components by kind and name. Immutable: `with_`, `without` and `only` make new ones."""

    __slots__ = ("_entries", "_loaded", "_more")

    def __init__(
        self, entries: Entries | None = None, more: Callable[[], Entries] | None = None
    ) -> None:
        """Take specs, or `module:Class` for those to be imported when asked for.

        Args:
            more: further entries, looked up only when something is asked for that is not there.
        """
        self._entries = dict(entries or {})
        self._loaded: dict[Key, ComponentSpec] = {}
        self._more = more

    @classmethod
    def of(cls, *components: type) -> Registry:
        """A registry of these component classes."""
        return cls().with_(*components)

    @classmethod
    def from_index(
        cls,
        index: Mapping[str, Mapping[str, str]],
        more: Callable[[], Entries] | None = None,
    ) -> Registry:
        """A registry of `{kind: {name: "module:Class"}}`, imported when asked for."""
        return cls(
            {(kind, name): at for kind, names in index.items() for name, at in names.items()}, more
        )

    def with_(self, *components: type) -> Registry:
        """This and these classes; a class replaces one of the same kind and name."""
        more: dict[Key, ComponentSpec | str] = {}
        for component in components:
            spec: ComponentSpec = component.__spec__  # type: ignore[attr-defined]
            more[spec.kind, spec.name] = spec
        return Registry({**self._all(), **more})

    def with_specs(self, *specs: ComponentSpec) -> Registry:
        """This and these components; one replaces another of the same kind and name."""
        return Registry({**self._all(), **{(spec.kind, spec.name): spec for spec in specs}})

    def merged(self, other: Registry) -> Registry:
        """This and everything in `other`, which wins."""
        return Registry({**self._all(), **other._all()})

    def without(self, kind: str, *names: str) -> Registry:
        """All but these."""
        gone = {(kind, name) for name in names}
        return Registry({key: at for key, at in self._all().items() if key not in gone})

    def only(self, kind: str, *names: str) -> Registry:
        """Of this kind, these alone; other kinds stay as they are."""
        return Registry(
            {key: at for key, at in self._all().items() if key[0] != kind or key[1] in names}
        )

    def get(self, kind: str, name: str) -> ComponentSpec | None:
        """The spec, or None if there is no such component.

        Raises:
            ImportError: the component's module cannot be imported.
        """
        key = (kind, name)
        if (loaded := self._loaded.get(key)) is not None:
            return loaded
        if not self.has(kind, name):
            return None
        entry = self._entries[key]
        spec = _load(entry) if isinstance(entry, str) else entry
        self._loaded[key] = spec
        return spec

    def has(self, kind: str, name: str) -> bool:
        """Whether there is one, without importing it."""
        return (kind, name) in self._entries or (kind, name) in self._all()

    def names(self, kind: str) -> list[str]:
        """All names of a kind, sorted."""
        return sorted(name for one, name in self._all() if one == kind)

    def specs(self, kind: str | None = None) -> Iterator[ComponentSpec]:
        """All specs (of a kind), sorted by name; imports them."""
        for one, name in sorted(self._all()):
            if kind in (None, one) and (spec := self.get(one, name)) is not None:
                yield spec

    def suggest(self, kind: str, name: str) -> str | None:
        """What was probably meant by a name that is not there."""
        return closest(name, self.names(kind))

    def kinds_of(self, name: str) -> list[str]:
        """The kinds in which there is a component of this name."""
        return sorted(kind for kind, one in self._all() if one == name)

    def _all(self) -> Entries:
        if self._more is not None:
            more, self._more = self._more, None
            self._entries = {**more(), **self._entries}
        return self._entries


def entry_points() -> Entries:
    """Components of other installed packages: entry points named `kind.name`."""
    from importlib import metadata  # noqa: PLC0415 - slow to import, and rarely needed

    found: dict[Key, ComponentSpec | str] = {}
    for point in metadata.entry_points(group="openmeter_collector.components"):
        kind, _, name = point.name.partition(".")
        if kind in KINDS and name:
            found[kind, name] = point.value
    return found


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that looks most like `word`, if any looks like it."""
    import difflib  # noqa: PLC0415 - only needed when something is wrong

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def _load(at: str) -> ComponentSpec:
    module, _, name = at.partition(":")
    spec: ComponentSpec = getattr(importlib.import_module(module), name).__spec__
    return spec

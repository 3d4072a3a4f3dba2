"""From a tree and a spec to typed config; every fault is collected, none stops the rest.

A place that cannot be decoded yields `FAULTY` and has at least one problem; whatever contains it is
faulty too, so a component is only ever made from sound values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from typing import Any, Final

from openmeter_collector.component.node import Node
from openmeter_collector.config import scalars
from openmeter_collector.config.lint import Problem
from openmeter_collector.config.tree import Mapping, Place, Scalar, Sequence, Tree
from openmeter_collector.spec import types as t
from openmeter_collector.spec.component import (
    ComponentSpec,
    FieldSpec,
    attribute_of,
    fields_of,
)
from openmeter_collector.spec.registry import Registry, closest

FAULTY: Final = object()

_LABEL: Final = re.compile(r"[a-z0-9_\-]+")
_RESERVED: Final = ("type", "plugin", "label", "meta")
_WITH_PROCESSORS: Final = ("input", "output")


@dataclass(slots=True)
class Decoder:
    """One reading of one config, possibly out of several files.

    Attributes:
        labels: every label seen so far and where.
        references: resources that must exist: kind, label, path, place.
        resources: kind and label of resources that are there.
    """

    registry: Registry
    problems: list[Problem] = field(default_factory=list)
    labels: dict[str, Place] = field(default_factory=dict)
    references: list[tuple[str, str, str, Place]] = field(default_factory=list)
    resources: set[tuple[str, str]] = field(default_factory=set)
    deprecated: list[Problem] = field(default_factory=list)

    def report(
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
        """Take down a fault; returns `FAULTY`."""
        self.problems.append(
            Problem(
                place.file,
                place.line,
                place.col,
                code,
                message,
                path,
                hint,
                found,
                lint_at,
                severity,
            )
        )
        return FAULTY

    # Components

    def component(self, kind: str, tree: Tree, path: str) -> Any:
        """A `Node`, or `FAULTY`."""
        if not isinstance(tree, Mapping):
            return self.report(
                tree.place,
                "wrong_type",
                f"invalid type {tree.tag}, expected object",
                path,
                found=f"found {describe(tree)} where {article(kind)} stands",
                hint=f"write the name of {article(kind)} and its fields below it",
            )
        label = self._label(tree, path)
        processors = self._attached(kind, tree, path)
        name, body = self._infer(kind, tree, path)
        if name is None:
            return FAULTY
        spec = self.registry.get(kind, name)
        assert spec is not None
        where = tree.entries["type" if "type" in tree.entries else name].place
        self._check_siblings(kind, tree, name, path)
        config = self.config(spec, body, where, f"{path}.{name}")
        if FAULTY in (config, label, processors):
            return FAULTY
        return Node(kind, name, config, path, label, str(where), processors)

    def config(self, spec: ComponentSpec, body: Tree | None, where: Place, path: str) -> Any:
        """The typed config of a component, or `FAULTY`."""
        if spec.value:
            one = spec.fields[spec.value]
            value = (
                self.field(one, body, path) if body is not None else self._absent(one, where, path)
            )
            return (
                FAULTY if value is FAULTY else spec.cls(**{attribute_of(spec.cls, one.name): value})
            )
        return self.section(spec.cls, body if body is not None else Mapping({}, where), path)

    def _label(self, tree: Mapping, path: str) -> Any:
        entry = tree.entries.get("label")
        if entry is None:
            return ""
        value = entry.value
        if not isinstance(value, Scalar):
            return self.report(
                value.place, "wrong_type", "expected string value", f"{path}.label",
                hint="write a word",
            )  # fmt: skip
        label = "" if value.is_null else value.text
        if not label:
            return ""
        if not _LABEL.fullmatch(label) or label.startswith("_"):
            return self.report(
                value.place,
                "bad_label",
                f"invalid label '{label}': should match the regular expression /^[a-z0-9_\\-]+$/ "
                "and must not start with an underscore",
                f"{path}.label",
                found=f"{label!r} is not a label",
                hint="use small letters, digits, '_' and '-', not starting with '_'",
            )
        if (first := self.labels.get(label)) is not None:
            return self.report(
                value.place,
                "duplicate_label",
                f"label collides with a previously defined label at line {first.line}",
                f"{path}.label",
                found=f"label {label!r} is already used at {first}",
                hint="give each component a label of its own",
            )
        self.labels[label] = value.place
        return label

    def _attached(self, kind: str, tree: Mapping, path: str) -> Any:
        if kind not in _WITH_PROCESSORS or "processors" not in tree.entries:
            return ()
        value = tree.entries["processors"].value
        if isinstance(value, Sequence) and not value.items:
            self.report(
                value.place,
                "empty_processors",
                "field processors is empty and can be removed",
                f"{path}.processors",
                severity="warning",
            )
        return self.value(t.ListOf(t.Child("processor"), frozen=True), value, f"{path}.processors")

    def _infer(self, kind: str, tree: Mapping, path: str) -> tuple[str | None, Tree | None]:
        """The component's name and the tree of its config."""
        if (named := tree.entries.get("type")) is not None and isinstance(named.value, Scalar):
            return self._named(kind, tree, named.value, path)
        keys = [key for key in tree.entries if not _is_reserved(kind, key)]
        known = [key for key in keys if self.registry.has(kind, key)]
        if len(known) == 1:
            return known[0], tree.get(known[0])
        if known:
            first, second = sorted(known)[:2]
            self.report(
                tree.entries[known[1]].place,
                "ambiguous_component",
                f"unable to infer component type, multiple candidates '{first}' and '{second}'",
                path,
                found=f"{' and '.join(map(repr, known))} stand in the place of one {kind}",
                hint="keep one of them",
                lint_at=(tree.place.line, 1),
            )
        elif keys:
            self._unknown_component(kind, tree, keys, path)
        else:
            self.report(
                tree.place,
                "no_component",
                f"an explicit {kind} type must be specified",
                path,
                found=f"{article(kind)} is missing",
                hint=f"write one of: {', '.join(self.registry.names(kind)[:8])}, ...",
            )
        return None, None

    def _named(
        self, kind: str, tree: Mapping, named: Scalar, path: str
    ) -> tuple[str | None, Tree | None]:
        name = named.text
        if not self.registry.has(kind, name):
            self.report(
                named.place,
                "unknown_component",
                f"{kind} type '{name}' was not recognised",
                path,
                found=f"there is no {kind} {name!r}",
                hint=self._which(kind, name),
            )
            return None, None
        return name, tree.get(name) or tree.get("plugin")

    def _unknown_component(self, kind: str, tree: Mapping, keys: list[str], path: str) -> None:
        name = keys[0]
        self.report(
            tree.entries[name].place,
            "unknown_component",
            f"unable to infer component type: {name}",
            path,
            found=f"there is no {kind} {name!r}",
            hint=self._which(kind, name),
            lint_at=(tree.place.line, 1),
        )

    def _which(self, kind: str, name: str) -> str:
        if meant := self.registry.suggest(kind, name):
            return f"did you mean {meant!r}?"
        if kinds := self.registry.kinds_of(name):
            return f"{name!r} is {article(kinds[0])}"
        return f"'list {kind}s' shows all there are"

    def _check_siblings(self, kind: str, tree: Mapping, name: str, path: str) -> None:
        for key, entry in tree.entries.items():
            if key == name or _is_reserved(kind, key):
                continue
            self.report(
                entry.place,
                "unknown_field",
                f"field {key} is invalid when the component type is {name} ({kind})",
                path,
                found=f"{key!r} stands beside {name!r}",
                hint=f"move it below {name!r} if it is a field of it, else remove it",
            )

    # Values

    def section(self, cls: type[Any], tree: Tree, path: str) -> Any:
        """An object with fields: an instance of `cls`, or `FAULTY`."""
        if not isinstance(tree, Mapping):
            return self.wrong(tree, "object", path)
        fields = fields_of(cls)
        given: dict[str, Any] = {}
        sound = True
        for key, entry in tree.entries.items():
            if key not in fields:
                sound = False
                self.report(
                    entry.place,
                    "unknown_field",
                    f"field {key} not recognised",
                    path,
                    found=f"no field {key!r}",
                    hint=_which_field(key, fields),
                )
        for name, one in fields.items():
            found = tree.entries.get(name)
            value = (
                self._absent(one, tree.place, f"{path}.{name}")
                if found is None
                else self.field(one, found.value, f"{path}.{name}")
            )
            sound = sound and value is not FAULTY
            given[attribute_of(cls, name)] = value
        return cls(**given) if sound else FAULTY

    def _absent(self, one: FieldSpec, where: Place, path: str) -> Any:
        if not one.required:
            return one.make_default()
        return self.report(
            where,
            "missing_field",
            f"field {one.name} is required",
            path,
            found=f"field {one.name!r} is missing",
            hint=one.doc.partition("\n")[0],
        )

    def field(self, one: FieldSpec, tree: Tree, path: str) -> Any:
        """The value of a field, bounds and rules checked, or `FAULTY`."""
        value = self.value(one.type, tree, path, one)
        if value is FAULTY or value is None:
            return value
        if one.deprecated:
            self.report(
                tree.place, "deprecated", f"field {one.name} is deprecated", path,
                severity="deprecated",
            )  # fmt: skip
        shown = "the value" if one.secret else describe(tree)
        if fault := scalars.out_of_bounds(value, one.minimum, one.maximum):
            return self.report(tree.place, "out_of_bounds", f"{shown} {fault}", path)
        if one.choices and isinstance(value, str) and value not in one.choices:
            return self._bad_option(tree, value, tuple(one.choices), path, hidden=one.secret)
        if one.lint and (fault := one.lint(value)):
            return self.report(tree.place, "rule", fault, path)
        return value

    def value(self, kind: t.FieldType, tree: Tree, path: str, one: FieldSpec | None = None) -> Any:
        """A value of any type, or `FAULTY`."""
        match kind:
            case t.Optional(inner):
                return self._optional(inner, tree, path, one)
            case t.Scalar():
                return self._scalar(kind, tree, path, hidden=one is not None and one.secret)
            case t.Choice(options):
                return self._choice(options, tree, path, hidden=one is not None and one.secret)
            case t.ListOf(inner, frozen):
                return self._list(inner, tree, path, one, frozen=frozen)
            case t.MapOf(inner):
                return self._map(inner, tree, path, one)
            case t.SectionOf(cls):
                return self.section(cls, tree, path)
            case t.Child(child):
                return self.component(child, tree, path)
            case t.Ref(resource):
                return self._reference(resource, tree, path)
            case t.AnyValue():
                return tree.value()

    def _optional(self, inner: t.FieldType, tree: Tree, path: str, one: FieldSpec | None) -> Any:
        if isinstance(tree, Scalar):
            empty = not tree.text and inner != t.Scalar("string")
            if tree.is_null or empty:
                return None
        return self.value(inner, tree, path, one)

    def _scalar(self, kind: t.Scalar, tree: Tree, path: str, *, hidden: bool) -> Any:
        if not isinstance(tree, Scalar):
            return self.wrong(tree, scalars.GO_NAME[kind.kind], path)
        try:
            return scalars.DECODE[kind.kind](tree)
        except scalars.CodeFault as fault:
            return self.report(
                tree.place,
                "bad_code",
                fault.text,
                path,
                found=fault.text,
                lint_at=fault.lint_at(tree),
            )
        except ValueError as error:
            text = f"the value is not {article(kind.kind)}" if hidden else str(error)
            found, _, hint = text.partition("; ")
            return self.report(
                tree.place,
                "wrong_type",
                f"expected {scalars.GO_NAME[kind.kind]} value",
                path,
                found=found,
                hint=hint,
            )

    def _choice(self, options: tuple[str, ...], tree: Tree, path: str, *, hidden: bool) -> Any:
        text = self._scalar(t.Scalar("string"), tree, path, hidden=hidden)
        if text is FAULTY or text in options:
            return text
        for option in options:
            if option.lower() == text.lower():
                return option
        return self._bad_option(tree, text, options, path, hidden=hidden)

    def _bad_option(
        self, tree: Tree, text: str, options: tuple[str, ...], path: str, *, hidden: bool
    ) -> object:
        shown = "the value" if hidden else repr(text)
        meant = closest(text, options)
        return self.report(
            tree.place,
            "bad_option",
            f"value {'' if hidden else text} is not a valid option for this field",
            path,
            found=f"{shown} is none of the options",
            hint=f"did you mean {meant!r}?" if meant else f"use one of: {', '.join(options)}",
        )

    def _list(
        self, inner: t.FieldType, tree: Tree, path: str, one: FieldSpec | None, *, frozen: bool
    ) -> Any:
        if not isinstance(tree, Sequence):
            return self.wrong(tree, "array", path)
        made = [self.value(inner, item, f"{path}.{i}", one) for i, item in enumerate(tree.items)]
        if any(value is FAULTY for value in made):
            return FAULTY
        return tuple(made) if frozen else made

    def _map(self, inner: t.FieldType, tree: Tree, path: str, one: FieldSpec | None) -> Any:
        if not isinstance(tree, Mapping):
            return self.wrong(tree, "object", path)
        made = {
            key: self.value(inner, entry.value, f"{path}.{key}", one)
            for key, entry in tree.entries.items()
        }
        return FAULTY if any(value is FAULTY for value in made.values()) else made

    def _reference(self, kind: str, tree: Tree, path: str) -> Any:
        label = self._scalar(t.Scalar("string"), tree, path, hidden=False)
        if label is not FAULTY and label:
            self.references.append((kind, label, path, tree.place))
        return label

    def check_references(self) -> None:
        """Report references to resources that are not there; call it when all files are read."""
        for kind, label, path, place in self.references:
            if (kind, label) in self.resources:
                continue
            labels = [name for one, name in self.resources if one == kind]
            meant = closest(label, labels)
            self.report(
                place,
                "unknown_resource",
                f"{kind} resource '{label}' was not found",
                path,
                hint=f"did you mean {meant!r}?" if meant else f"add it to {kind}_resources",
            )

    def wrong(self, tree: Tree, wanted: str, path: str) -> object:
        """Report a list where a word stands, and the like."""
        return self.report(
            tree.place,
            "wrong_type",
            f"expected {wanted} value" + (f", got {tree.tag}" if wanted == "object" else ""),
            path,
            found=f"found {describe(tree)}",
            hint=f"write {article(_PLAIN.get(wanted, wanted))}",
        )


_PLAIN: Final = {"array": "list", "int": "whole number", "float": "number", "string": "text"}


def _is_reserved(kind: str, key: str) -> bool:
    if key == "processors":
        return kind in _WITH_PROCESSORS
    return key in _RESERVED or (key == "mapping" and kind == "metrics")


def _which_field(key: str, fields: MappingType[str, FieldSpec]) -> str:
    if meant := closest(key, fields):
        return f"did you mean {meant!r}?"
    if not fields:
        return "it has none"
    names = list(fields)
    return f"it has: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"


def describe(tree: Tree) -> str:
    """What somebody wrote, in few words and never the value of a long text."""
    match tree:
        case Mapping():
            return "an object"
        case Sequence():
            return "a list"
        case Scalar() if tree.is_null:
            return "nothing (null)"
    text = tree.text if len(tree.text) <= 60 else tree.text[:57] + "..."
    return repr(text)


def article(word: str) -> str:
    """`an input`, `a list`."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word.replace('_', ' ')}"

"""From a tree and a spec to typed config; every fault is collected, none stops the rest.

A place that cannot be decoded yields `FAULTY` and has at least one problem; whatever contains it is
faulty too, so a component is only ever made from sound values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping as MappingType
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from openmeter_collector.component.node import Node, Shown
from openmeter_collector.config import codecs, scalars
from openmeter_collector.config.lint import SCRUBBED
from openmeter_collector.config.placing import WITH_PROCESSORS, place
from openmeter_collector.config.pointers import tree_of
from openmeter_collector.config.report import FAULTY, Report, article, describe, in_fields
from openmeter_collector.config.shapes import assumed, is_nothing, is_resource, which_field
from openmeter_collector.config.tree import BadYaml, Mapping, Place, Scalar, Sequence, Tree
from openmeter_collector.config.tree import parse as parse_tree
from openmeter_collector.errors import ConfigError
from openmeter_collector.spec import types as t
from openmeter_collector.spec.component import ComponentSpec, FieldSpec, attribute_of, fields_of
from openmeter_collector.spec.fields import CodeError
from openmeter_collector.spec.registry import Registry, closest
from openmeter_collector.spec.trust import POWERS, Trust, of_the_api, of_this_machine

if TYPE_CHECKING:  # the language is large, and most configs need none of it here
    from openmeter_collector.bloblang import Mapping as LanguageMapping

_LABEL: Final = re.compile(r"[a-z0-9_\-]+")
_LABELLED: Final = ("input", "processor", "output", "cache", "rate_limit")
_TEXT: Final = t.Scalar("string")
_DEEPEST: Final = 50
"""Components in components, beyond which a template is taken to be made of itself."""


class Decoder:
    """One reading of one configuration, possibly out of several files."""

    def __init__(
        self,
        registry: Registry,
        report: Report | None = None,
        trust: Trust | None = None,
        metric_names: tuple[LanguageMapping, ...] = (),
    ) -> None:
        """See `Node.metric_names`.

        Args:
            trust: what components may do; that of a file of the operator's when it is left out.
        """
        self.registry = registry
        self.report = report or Report()
        self._trust = trust or of_this_machine()
        self._metric_names = metric_names
        self._decodes = RunTimeConfigs(registry, self._trust, metric_names)
        self._labels: dict[str, Place] = {}
        self._references: list[tuple[str, str, str, Place]] = []

    # Components

    def component(self, kind: str, tree: Tree, path: str, *, resource: bool = False) -> Any:
        """A `Node`, or `FAULTY`."""
        if kind == "scanner" and isinstance(tree, Scalar) and path.endswith(".codec"):
            try:
                tree = codecs.as_scanner(tree)
            except ValueError as fault:
                found, _, hint = str(fault).partition("; ")
                return self.report(tree.place, "rule", str(fault), path, found=found, hint=hint)
        if not isinstance(tree, Mapping):
            return self.report(
                tree.place,
                "wrong_type",
                f"invalid type {tree.tag}, expected object",
                path,
                found=f"found {describe(tree)} where {article(kind)} stands",
                hint=f"write the name of {article(kind)} and its fields below it",
            )
        self.report.in_component += 1
        try:
            return self._component(kind, tree, path, resource=resource)
        finally:
            self.report.in_component -= 1

    def _component(self, kind: str, tree: Mapping, path: str, *, resource: bool) -> Any:
        before = len(self.report.problems)
        label = self._label(tree, path, resource=resource)
        processors = self._attached(kind, tree, path)
        placed = place(self.registry, self.report, kind, tree, path)
        if placed is None:
            return FAULTY
        name, body = placed
        self.report.components.append((kind, name))
        if label and name == "resource":
            self.report(
                tree.entries["label"].place,
                "resource_label",
                "label field should be omitted when pointing to a resource",
                f"{path}.label",
                hint="remove the label; the resource has its own",
                severity="lint",
            )
        spec = self.registry.get(kind, name)
        assert spec is not None
        where = tree.entries["type" if "type" in tree.entries else name].place
        self._check_trust(spec, where, path)
        if not label and kind in _LABELLED:
            text = f"label is required for {path}"
            self.report(where, "unlabelled", text, path, severity="unlabelled")
        if spec.stability == "deprecated":
            text = f"component {name} is deprecated"
            self.report(where, "deprecated", text, path, severity="deprecated")
        if spec.ours:
            self._ours(where, f"{kind} {name!r}", path)
        config = self.config(spec, body, where, f"{path}.{name}")
        if any(problem.severity == "error" for problem in self.report.problems[before:]):
            return FAULTY
        node = Node(
            kind, name, config, path, label, str(where), processors, self._decodes,
            metric_names=self._metric_names,
        )  # fmt: skip
        return node if spec.expand is None else self._expanded(spec, node, where)

    def _expanded(self, spec: ComponentSpec, node: Node, where: Place) -> Any:
        """What a template makes of its fields, in the template's place."""
        assert spec.expand is not None
        if self.report.in_component > _DEEPEST:
            text = f"template {spec.name} is made of itself"
            return self.report(where, "template", text, node.path)
        try:
            tree = tree_of(spec.expand(node.config, node.label), where)
        except ConfigError as error:
            return self.report(where, "template", str(error), node.path)
        if isinstance(tree, Mapping):  # the label is known already, as that of the template
            kept = {key: entry for key, entry in tree.entries.items() if key != "label"}
            tree = Mapping(kept, tree.place)
        with self._named_by(spec, node.label):
            made = self.component(node.kind, tree, node.path)
        if not isinstance(made, Node):
            return FAULTY
        inner, outer = made.processors, node.processors
        both = (*inner, *outer) if node.kind == "input" else (*outer, *inner)
        return replace(made, label=node.label, where=node.where, processors=both, written=node)

    @contextmanager
    def _named_by(self, spec: ComponentSpec, label: str) -> Iterator[None]:
        """Everything read in the block has its metrics named by a template, then by those around it."""
        if spec.metric_names is None:
            yield
            return
        before = self._metric_names, self._decodes
        self._metric_names = (spec.metric_names(label), *self._metric_names)
        self._decodes = RunTimeConfigs(self.registry, self._trust, self._metric_names)
        try:
            yield
        finally:
            self._metric_names, self._decodes = before

    def _check_trust(self, spec: ComponentSpec, where: Place, path: str) -> None:
        if (power := self._trust.refused(spec)) is None:
            return
        self.report(
            where,
            "not_allowed",
            f"component {spec.name} is not allowed here: it {POWERS[power]}",
            path,
            found=f"{spec.kind} {spec.name!r} is not allowed here: it {POWERS[power]}",
            hint=self._trust.how.format(power, power),
        )

    def config(self, spec: ComponentSpec, body: Tree | None, where: Place, path: str) -> Any:
        """The typed config of a component, or `FAULTY`."""
        if not spec.value:
            return self.section(spec.cls, Mapping({}, where) if body is None else body, path)
        one = spec.fields[spec.value]
        value = self._absent(one, where, path) if body is None else self.field(one, body, path)
        return FAULTY if value is FAULTY else spec.cls(**{attribute_of(spec.cls, one.name): value})

    def _label(self, tree: Mapping, path: str, *, resource: bool) -> Any:
        value = tree.get("label")
        if value is not None and not isinstance(value, Scalar):
            return self.report.wrong(value, "string", f"{path}.label")
        if value is None or value.is_null or not value.text:
            if resource:
                return self.report(
                    tree.place,
                    "no_label",
                    "the label field for resources must be unique and not empty",
                    path,
                    found="a resource without a label",
                    hint="write label: and a word by which others refer to it",
                )
            return ""
        label = value.text
        if not _LABEL.fullmatch(label) or label.startswith("_"):
            self.report(
                value.place,
                "bad_label",
                f"invalid label '{label}': should match the regular expression /^[a-z0-9_\\-]+$/ "
                "and must not start with an underscore",
                f"{path}.label",
                found=f"{label!r} is not a label",
                hint="use small letters, digits, '_' and '-', not starting with '_'",
            )
        elif (first := self._labels.get(label)) is not None:
            self.report(
                value.place,
                "duplicate_label",
                f"label collides with a previously defined label at line {first.line}",
                f"{path}.label",
                found=f"label {label!r} is already used at {first}",
                hint="give each component a label of its own",
            )
        self._labels.setdefault(label, value.place)
        return label

    def _attached(self, kind: str, tree: Mapping, path: str) -> Any:
        value = tree.get("processors") if kind in WITH_PROCESSORS else None
        if value is None:
            return ()
        if isinstance(value, Sequence) and not value.items:
            self.report(
                value.place,
                "empty_processors",
                "field processors is empty and can be removed",
                f"{path}.processors",
                severity="lint",
            )
        return self.value(t.ListOf(t.Child("processor"), frozen=True), value, f"{path}.processors")

    @property
    def _files(self) -> bool:
        return "files" in self._trust.powers

    def _no_file(self, place: Place, what: str, path: str) -> object:
        return self.report(
            place,
            "not_allowed",
            f"{what} is not allowed here: it reads or writes files",
            path,
            hint=self._how_to_read_files,
        )

    @property
    def _how_to_read_files(self) -> str:
        return self._trust.how.format("files", "files")

    def _ours(self, place: Place, what: str, path: str) -> None:
        self.report(place, "ours", f"{what} is known to this collector only", path, severity="ours")

    # Values

    def section(self, cls: type[Any], tree: Tree, path: str, base: object = None) -> Any:
        """An object with fields: an instance of `cls`, or `FAULTY`.

        Args:
            base: what fields that are left out are taken from, if not from `cls`.
        """
        if not isinstance(tree, Mapping):
            return self.report.wrong(tree, "object", path)
        fields = fields_of(cls)
        sound = True
        for key, entry in tree.entries.items():
            sound &= self._known(key, entry.place, fields, path)
        given: dict[str, Any] = {}
        for name, one in fields.items():
            found, inner = tree.get(name), f"{path}.{name}"
            value = (
                self._absent(one, tree.place, inner, base)
                if found is None
                else self.field(one, found, inner)
            )
            sound = sound and value is not FAULTY
            given[attribute_of(cls, name)] = value
        return cls(**given) if sound else FAULTY

    def _known(
        self, key: str, place: Place, fields: MappingType[str, FieldSpec], path: str
    ) -> bool:
        if key in fields:
            return True
        told = self.report(
            place,
            "unknown_field",
            f"field {key} not recognised",
            path,
            found=f"no field {key!r}",
            hint=which_field(key, fields),
        )
        return told is not FAULTY

    def _absent(self, one: FieldSpec, where: Place, path: str, base: object = None) -> Any:
        if one.default_config:
            return self.value(one.type, assumed(one.default_config), path)
        if base is not None:
            return getattr(base, attribute_of(type(base), one.name))
        if not one.required:
            return one.make_default()
        message, lint_at = f"field {one.name} is required", None
        if not self.report.in_component:
            outer = path.rpartition(".")[0]
            detail = f"field '{one.name}' is required and was not present in the config"
            message, lint_at = in_fields(outer, detail), (1, 1)
        return self.report(
            where,
            "missing_field",
            message,
            path,
            found=f"field {one.name!r} is missing",
            hint=one.doc.partition("\n")[0],
            lint_at=lint_at,
        )

    def field(self, one: FieldSpec, tree: Tree, path: str) -> Any:
        """The value of a field, bounds and rules checked, or `FAULTY`."""
        if isinstance(one.type, t.SectionOf):
            # The place may have defaults of its own, such as a batching policy with a count.
            base = None if one.required else one.make_default()
            value = self.section(one.type.cls, tree, path, base)
        else:
            value = self.value(one.type, tree, path, hidden=one.secret)
        if value is FAULTY or value is None:
            return value
        if one.file and not self._files and one.file(value):
            return self._no_file(tree.place, f"field {one.name!r}", path)
        if one.ours:
            self._ours(tree.place, f"field {one.name!r}", path)
        if one.deprecated:
            text = f"field {one.name} is deprecated"
            self.report(tree.place, "deprecated", text, path, severity="deprecated")
        if fault := scalars.out_of_bounds(value, one.minimum, one.maximum):
            return self.report(tree.place, "out_of_bounds", fault, path)
        if one.choices and isinstance(value, str) and value not in one.choices:
            return self._bad_option(tree, value, tuple(one.choices), path, hidden=one.secret)
        if one.lint and (fault := one.lint(value)):
            if one.secret:
                fault = fault.replace(str(value), SCRUBBED)
            found, _, hint = fault.partition("; ")
            return self.report(tree.place, "rule", fault, path, found=found, hint=hint)
        return value

    def value(self, kind: t.FieldType, tree: Tree, path: str, *, hidden: bool = False) -> Any:
        """A value of any type, or `FAULTY`. What is `hidden` is never quoted."""
        match kind:
            case t.Optional(inner):
                if is_nothing(tree, inner):
                    return None
                return self.value(inner, tree, path, hidden=hidden)
            case t.Scalar():
                return self._scalar(kind, tree, path, hidden=hidden)
            case t.Choice(options):
                return self._choice(options, tree, path, hidden=hidden)
            case t.ListOf(inner, frozen):
                return self._list(inner, tree, path, frozen=frozen, hidden=hidden)
            case t.MapOf(inner):
                return self._map(inner, tree, path, hidden=hidden)
            case t.SectionOf(cls):
                return self.section(cls, tree, path)
            case t.Child(child):
                return self.component(child, tree, path, resource=is_resource(path))
            case t.Ref(resource):
                return self._reference(resource, tree, path)
            case t.AnyValue():
                return tree.value()

    def _scalar(self, kind: t.Scalar, tree: Tree, path: str, *, hidden: bool) -> Any:
        go_name = scalars.GO_NAME[kind.kind]
        if not isinstance(tree, Scalar):
            return self.report.wrong(tree, go_name, path)
        try:
            return scalars.decode(kind.kind, tree, "" if self._files else self._how_to_read_files)
        except CodeError as error:
            quiet = "the code in a secret value does not compile"
            found, _, hint = str(error).partition("; ")
            return self.report(
                scalars.place_in(tree, error.line, error.column),
                "bad_code",
                quiet if hidden else error.lint,
                path,
                found=quiet if hidden else found,
                hint="" if hidden else hint,
                lint_at=scalars.lint_place_in(tree, error.line, error.column),
            )
        except ValueError as error:
            text = f"the value is not {article(kind.kind)}" if hidden else str(error)
            found, _, hint = text.partition("; ")
            if hidden:
                tree = Scalar("", "'", tree.place)
            return self.report.wrong(tree, go_name, path, found, hint)

    def _choice(self, options: tuple[str, ...], tree: Tree, path: str, *, hidden: bool) -> Any:
        text = self._scalar(_TEXT, tree, path, hidden=hidden)
        if text is FAULTY or text in options:
            return text
        for option in options:
            if option.lower() == text.lower():
                return option
        return self._bad_option(tree, text, options, path, hidden=hidden)

    def _bad_option(
        self, tree: Tree, text: str, options: tuple[str, ...], path: str, *, hidden: bool
    ) -> object:
        meant = None if hidden else closest(text, options)
        return self.report(
            tree.place,
            "bad_option",
            f"value {'' if hidden else text + ' '}is not a valid option for this field",
            path,
            found=f"{'the value' if hidden else repr(text)} is none of the options",
            hint=f"did you mean {meant!r}?" if meant else f"use one of: {', '.join(options)}",
        )

    def _list(
        self, inner: t.FieldType, tree: Tree, path: str, *, frozen: bool, hidden: bool
    ) -> Any:
        if not isinstance(tree, Sequence):
            return self.report.wrong(tree, "array", path)
        made = [
            self.value(inner, item, f"{path}.{index}", hidden=hidden)
            for index, item in enumerate(tree.items)
        ]
        if any(value is FAULTY for value in made):
            return FAULTY
        return tuple(made) if frozen else made

    def _map(self, inner: t.FieldType, tree: Tree, path: str, *, hidden: bool) -> Any:
        if not isinstance(tree, Mapping):
            return self.report.wrong(tree, "object", path)
        made = {
            key: self.value(inner, entry.value, f"{path}.{key}", hidden=hidden)
            for key, entry in tree.entries.items()
        }
        return FAULTY if any(value is FAULTY for value in made.values()) else made

    def _reference(self, kind: str, tree: Tree, path: str) -> Any:
        label = self._scalar(_TEXT, tree, path, hidden=False)
        if label is not FAULTY and label:
            self._references.append((kind, label, path, tree.place))
        return label

    def check_references(self, resources: set[tuple[str, str]]) -> None:
        """Report references to resources (kind, label) that are not there, when all is read."""
        for kind, label, path, where in self._references:
            if (kind, label) in resources:
                continue
            meant = closest(label, [name for one, name in resources if one == kind])
            self.report(
                where,
                "unknown_resource",
                f"{kind} resource '{label}' was not found",
                path,
                hint=f"did you mean {meant!r}?" if meant else f"add it to {kind}_resources",
            )


class RunTimeConfigs:
    """See `component.node.Decodes`."""

    def __init__(
        self, registry: Registry, trust: Trust, metric_names: tuple[LanguageMapping, ...] = ()
    ) -> None:
        """`trust` in the config whose components are told of others; see `Node.metric_names`."""
        self._registry = registry
        self._metric_names = metric_names
        self._trust = of_the_api(*trust.network)

    def __call__(self, kind: str, text: str, path: str) -> Node:
        decoder = Decoder(self._registry, trust=self._trust, metric_names=self._metric_names)
        try:
            tree = parse_tree(text, kind) or Scalar("", "plain", Place(kind, 1, 1))
        except BadYaml as fault:
            raise ConfigError(f"{fault.place}: {fault.text}") from None
        node = decoder.component(kind, tree, path)
        faults = [one for one in decoder.report.problems if one.severity == "error"]
        if faults:
            raise ConfigError([one.friendly() for one in faults])
        assert isinstance(node, Node)
        return node

    def shown(self, node: Node) -> Shown:
        from openmeter_collector.config.render import shown  # noqa: PLC0415 - it knows the root

        return shown(node)

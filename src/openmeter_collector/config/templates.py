"""Templates: components that a file defines by a mapping from their fields to another component."""

from __future__ import annotations

import json as plain_json
import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from openmeter_collector.bloblang import DELETED, MappingFailed
from openmeter_collector.config import source_text
from openmeter_collector.config.decode import Decoder
from openmeter_collector.config.lint import InvalidConfig, Problem
from openmeter_collector.config.load import parse
from openmeter_collector.config.pointers import tree_of
from openmeter_collector.config.report import FAULTY, Report
from openmeter_collector.config.skeleton import plain
from openmeter_collector.config.tree import Place
from openmeter_collector.errors import ConfigError
from openmeter_collector.message import Message
from openmeter_collector.spec.component import ComponentSpec, attribute_of, field, section, specify
from openmeter_collector.spec.fields import MappingText
from openmeter_collector.spec.registry import Registry
from openmeter_collector.values import json
from openmeter_collector.values.kinds import Float64, Int64

_ABSENT: Final = object()
_NAME: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_TYPES: Final[dict[str, Any]] = {
    "string": str,
    "string_enum": str,
    "string_annotated_enum": str,
    "int": int,
    "float": float,
    "bool": bool,
    "bloblang": MappingText,
    "unknown": Any,
}


def _is_name(text: str) -> str | None:
    if _NAME.fullmatch(text):
        return None
    return f"{text!r} is no name; use small letters and digits, with '_' between words"


@section
class TemplateField:
    """A field of a template."""

    name: str = field(doc="Name of the field.", lint=_is_name)
    description: str = field(default="", doc="What the field is for.")
    type: Literal[
        "string",
        "string_enum",
        "string_annotated_enum",
        "int",
        "float",
        "bool",
        "bloblang",
        "unknown",
    ] = field(default="string", doc="What the value is.")
    kind: Literal["scalar", "map", "list"] = field(
        default="scalar", doc="One value, names to values, or a list of values."
    )
    default: Any = field(default=_ABSENT, doc="The value when it is left out; without, required.")
    advanced: bool = field(default=False, doc="Rarely needed.")
    options: Any = field(
        default_factory=list,
        doc="Words that are allowed; for an annotated enum, pairs with a text.",
    )


@section
class TemplateTest:
    """A test of a template."""

    name: str = field(doc="What is tested.")
    label: str = field(default="", doc="Label of the component.")
    config: Any = field(default=None, doc="Fields that are given.")
    expected: Any = field(default=None, doc="The component that must come out.")


@section
class Template:
    """A file that defines a component."""

    name: str = field(doc="Name of the component.", lint=_is_name)
    type: Literal["cache", "input", "output", "processor", "rate_limit"] = field(
        doc="Kind of the component."
    )
    status: Literal["stable", "beta", "experimental"] = field(default="stable", doc="Stability.")
    categories: list[str] = field(default_factory=list, doc="Groups for documentation.")
    summary: str = field(default="", doc="One sentence.")
    description: str = field(default="", doc="More than one sentence.")
    fields: list[TemplateField] = field(default_factory=list, doc="The fields.")
    mapping: MappingText = field(doc="Makes a component of the fields; `@label` is the label.")
    metrics_mapping: MappingText | None = field(
        default=None,
        doc="Renames metrics of what is inside: `this` is a name, metadata are the labels, `$label` is "
        "the label of the component; `deleted()` leaves a metric out.",
    )
    tests: list[TemplateTest] = field(default_factory=list, doc="Tests, run by `template lint`.")


def with_templates(registry: Registry, paths: Iterable[Path], env: Mapping[str, str]) -> Registry:
    """A registry that knows the components of template files as well.

    Raises:
        InvalidConfig: a file is no template; with all faults of all files.
    """
    problems: list[Problem] = []
    made = []
    for path in paths:
        template, found = read_template(path, registry, env)
        problems += found
        if template is not None:
            made.append(component_of(template))
    if any(problem.severity == "error" for problem in problems):
        raise InvalidConfig(problem for problem in problems if problem.severity == "error")
    return registry.with_specs(*made)


def read_template(
    path: Path, registry: Registry, env: Mapping[str, str]
) -> tuple[Template | None, list[Problem]]:
    """Read a template file, and say what is wrong with it."""
    report = Report()
    try:
        text = source_text.interpolate(source_text.read(path), env, str(path))
    except InvalidConfig as error:
        return None, list(error.faults)
    root = parse(text, report)
    if root is None:
        return None, report.problems
    made = Decoder(registry, report).section(Template, root, "root")
    if made is FAULTY:
        return None, report.problems
    for index, one in enumerate(made.fields):
        place = root.place
        if fault := _bad_default(one):
            report(place, "rule", fault, f"root.fields.{index}.default")
    return (None if report.problems and _stops(report) else made), report.problems


def _stops(report: Report) -> bool:
    return any(problem.severity == "error" for problem in report.problems)


def _bad_default(one: TemplateField) -> str | None:
    if one.default is _ABSENT:
        return None
    wanted = {"list": list, "map": dict}.get(one.kind)
    if wanted is not None and not isinstance(one.default, wanted):
        return f"the default of field {one.name!r} is no {one.kind}"
    return None


def component_of(template: Template) -> ComponentSpec:
    """The component that a template defines; no run of it needs the file any more."""
    annotations: dict[str, Any] = {}
    namespace: dict[str, Any] = {}
    for one in template.fields:
        attribute = one.name + "_" if keyword.iskeyword(one.name) else one.name
        annotations[attribute] = _annotation(one)
        namespace[attribute] = _declared(one)
    namespace["__annotations__"] = annotations
    namespace["__doc__"] = template.description or template.summary or "Defined by a template."
    namespace["__module__"] = __name__
    cls = type(template.name, (), namespace)
    spec = specify(
        template.type,
        template.name,
        cls,
        summary=template.summary,
        stability=template.status,
        categories=template.categories,
    )
    program = template.mapping.program

    def expand(config: Any, label: str) -> Any:
        values = {
            name: plain(getattr(config, attribute_of(type(config), name))) for name in spec.fields
        }
        document = Message(None, {"label": label}, value=_computed(values))
        try:
            body, _ = program.run([document], 0)
        except MappingFailed as error:
            raise ConfigError(f"mapping failed for template component: {error}") from None
        if body is DELETED or isinstance(body, bytes):
            raise ConfigError("mapping of the template made no component")
        return plain_json.loads(json.dumps(body))

    names = template.metrics_mapping
    if names is None:
        return replace(spec, expand=expand)
    naming = names.program
    return replace(
        spec, expand=expand, metric_names=lambda label: naming.with_variable("label", label)
    )


def _computed(value: Any) -> Any:
    """Numbers of a config are those of a program, not those of a JSON text."""
    match value:
        case bool():
            return value
        case int():
            return Int64(value)
        case float():
            return Float64(value)
        case dict():
            return {key: _computed(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_computed(inner) for inner in value]
    return value


def _annotation(one: TemplateField) -> Any:
    scalar = _TYPES[one.type]
    if one.kind == "list":
        return list[scalar]  # type: ignore[valid-type]
    if one.kind == "map":
        return dict[str, scalar]  # type: ignore[valid-type]
    return scalar


def _declared(one: TemplateField) -> Any:
    about: dict[str, Any] = {"doc": one.description or "No description.", "advanced": one.advanced}
    if one.type == "string_enum":
        about["choices"] = {str(option): "" for option in one.options}
    elif one.type == "string_annotated_enum":
        about["choices"] = {str(pair[0]): str(pair[1]) for pair in one.options}
    if one.default is _ABSENT:
        return field(**about)
    if isinstance(one.default, list | dict):
        made = one.default
        return field(default_factory=lambda: type(made)(made), **about)
    default = one.default
    if one.type == "bloblang":
        default = MappingText(str(default))
    elif one.type in ("string", "string_enum", "string_annotated_enum"):
        default = "" if default is None else str(default)
    return field(default=default, **about)


def lint_template(path: Path, registry: Registry, env: Mapping[str, str]) -> list[str]:
    """All that is wrong with a template, and with what its tests make, as `template lint` says it."""
    template, problems = read_template(path, registry, env)
    lines = [one.lint_line() for one in problems if one.severity in ("error", "lint")]
    if template is None:
        return lines
    spec = component_of(template)
    known = registry.with_specs(spec)
    for test in template.tests:
        lines += [f"{path}(1,1) test '{test.name}': {text}" for text in _tested(spec, test, known)]
    return lines


def _tested(spec: ComponentSpec, test: TemplateTest, registry: Registry) -> list[str]:
    place = Place("", 0, 1)
    report = Report()
    decoder = Decoder(registry, report)
    config = decoder.config(spec, tree_of(test.config or {}, place), place, "root")
    if config is FAULTY:
        return [f"lint error in the config: {one.message}" for one in report.problems]
    assert spec.expand is not None
    try:
        made = spec.expand(config, test.label)
    except ConfigError as error:
        return [str(error)]
    found = []
    decoder.component(spec.kind, tree_of(made, place), "root")
    found += [
        f"lint error in resulting config: ({one.line},1) {one.message}"
        for one in report.problems
        if one.severity == "error"
    ]
    if test.expected is not None and made != test.expected:
        found.append(
            f"mismatch between expected and actual config: expected "
            f"{plain_json.dumps(test.expected)}, got {plain_json.dumps(made)}"
        )
    return found

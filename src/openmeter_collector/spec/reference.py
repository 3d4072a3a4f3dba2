"""Reference pages in Markdown, derived from specs and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

from openmeter_collector.spec import types as t
from openmeter_collector.spec.component import KINDS, ComponentSpec, FieldSpec, fields_of
from openmeter_collector.spec.registry import Registry
from openmeter_collector.spec.trust import POWERS

PLURAL: Final = {kind: f"{kind}s" for kind in KINDS} | {"metrics": "metrics"}
"""Folder and heading of each kind."""

_ALLOWED: Final = {
    "programs": "`--allow programs` must be given.",
    "files": "in streams made over the API, `--allow-api files` must be given.",
}
_STABILITY: Final = {
    "stable": "",
    "beta": "Beta: fields may still change in a minor release.",
    "experimental": "Experimental: may change or go away at any time.",
    "deprecated": "Deprecated: still works, and will be removed one day.",
}
_WORDS: Final = {
    "string": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "duration": "duration",
    "byte_size": "byte size",
    "url": "address",
    "interpolated": "text with expressions",
    "mapping": "mapping",
}


def pages(registry: Registry) -> dict[str, str]:
    """All pages: a path such as `inputs/http_server.md` to its text."""
    made = {"README.md": index_page(registry)}
    for spec in registry.specs():
        made[f"{PLURAL[spec.kind]}/{spec.name}.md"] = component_page(spec)
    return made


def index_page(registry: Registry) -> str:
    """The list of all components."""
    lines = ["# Components", "", "Generated from the components themselves; do not edit."]
    for kind in KINDS:
        specs = list(registry.specs(kind))
        if not specs:
            continue
        lines += ["", f"## {_title(PLURAL[kind])}", "", "| Name | What it does |", "| --- | --- |"]
        for spec in specs:
            note = "" if spec.stability == "stable" else f" ({spec.stability})"
            link = f"[`{spec.name}`]({PLURAL[kind]}/{spec.name}.md)"
            lines.append(f"| {link}{note} | {_cell(spec.summary)} |")
    return "\n".join(lines) + "\n"


def component_page(spec: ComponentSpec) -> str:
    """The page of one component."""
    return "\n".join(_page(spec)).rstrip() + "\n"


def _page(spec: ComponentSpec) -> Iterator[str]:
    kind = spec.kind.replace("_", " ")
    yield f"# `{spec.name}` {kind}"
    yield ""
    yield spec.description
    notes = [_STABILITY[spec.stability], f"Since {spec.since}."]
    if spec.ours:
        notes.append("Known to this collector only.")
    if spec.dangerous:
        notes.append(f"It {POWERS[spec.dangerous]}: {_ALLOWED[spec.dangerous]}")
    yield ""
    yield " ".join(note for note in notes if note)
    for example in spec.examples:
        yield from ("", f"## {example.title}", "", "```yaml")
        yield inspect.cleandoc(example.yaml)
        yield "```"
    if spec.value:
        yield from ("", "## Value", "")
        yield f"Stands directly below `{spec.name}`."
        yield from _field(spec.fields[spec.value], "")
    elif spec.fields:
        yield from ("", "## Fields")
        for one in spec.fields.values():
            yield from _field(one, "")


def _field(one: FieldSpec, outer: str) -> Iterator[str]:
    name = f"{outer}{one.name}"
    yield from ("", f"### `{name}`", "", one.doc, "")
    yield f"- Type: {_type(one.type)}"
    yield f"- {_default(one)}"
    if bounds := _bounds(one):
        yield f"- {bounds}"
    if one.secret:
        yield "- Secret: never shown in logs, errors or `echo`."
    if one.advanced:
        yield "- Advanced: rarely needed."
    if one.deprecated:
        yield "- Deprecated."
    if one.ours:
        yield "- Known to this collector only."
    if one.choices:
        yield from ("", "| Option | Meaning |", "| --- | --- |")
        for option, meaning in one.choices.items():
            yield f"| `{option}` | {_cell(meaning)} |"
    if one.examples:
        yield from (
            "",
            "For example " + ", ".join(f"`{example}`" for example in one.examples) + ".",
        )
    if (inner := _section_in(one.type)) is not None:
        for field in fields_of(inner).values():
            yield from _field(field, f"{name}{_step(one.type)}.")


def _default(one: FieldSpec) -> str:
    if one.required:
        return "Required"
    if one.default_config:
        return f"Default: `{one.default_config}`"
    value = one.make_default()
    if value is None:
        return "Default: none"
    if isinstance(value, bool):
        return f"Default: `{str(value).lower()}`"
    if isinstance(value, list | tuple | dict) and not value:
        return "Default: empty"
    if hasattr(type(value), "__section__"):
        changed = _own_defaults(value)
        return f"Default: {changed}" if changed else "Default: as its fields say"
    text = getattr(value, "text", value)
    return f"Default: `{text}`" if text != "" else "Default: empty"


def _own_defaults(section: Any) -> str:
    told = []
    for name, one in fields_of(type(section)).items():
        value = getattr(section, name)
        if one.required or value != one.make_default():
            told.append(f"`{name}: {getattr(value, 'text', value)}`")
    return ", ".join(told)


def _bounds(one: FieldSpec) -> str:
    low = "" if one.minimum is None else f"at least {one.minimum:g}"
    high = "" if one.maximum is None else f"at most {one.maximum:g}"
    both = " and ".join(bound for bound in (low, high) if bound)
    return f"Bounds: {both}" if both else ""


def _type(kind: t.FieldType) -> str:
    match kind:
        case t.Scalar(name):
            return _WORDS[name]
        case t.Choice(options):
            return "one of " + ", ".join(f"`{option}`" for option in options)
        case t.Optional(inner):
            return _type(inner)
        case t.ListOf(inner):
            return f"list of {_type(inner)}"
        case t.MapOf(inner):
            return f"names to {_type(inner)}"
        case t.SectionOf():
            return "object"
        case t.Child(child):
            return child.replace("_", " ")
        case t.Ref(resource):
            return f"label of a {resource.replace('_', ' ')} resource"
        case t.AnyValue():
            return "anything"


def _section_in(kind: t.FieldType) -> type[Any] | None:
    match kind:
        case t.SectionOf(cls):
            return cls
        case t.Optional(inner) | t.ListOf(inner) | t.MapOf(inner):
            return _section_in(inner)
    return None


def _step(kind: t.FieldType) -> str:
    """How fields of a section inside a list or map are written: `cases[].check`."""
    match kind:
        case t.Optional(inner):
            return _step(inner)
        case t.ListOf(inner):
            return "[]" + _step(inner)
        case t.MapOf(inner):
            return ".<name>" + _step(inner)
    return ""


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

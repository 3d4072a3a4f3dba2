"""All components and their fields as plain values, in the shape that tools around configs read."""

from __future__ import annotations

from typing import Any, Final

from openmeter_collector.spec import types as t
from openmeter_collector.spec.component import KINDS, ComponentSpec, FieldSpec, fields_of
from openmeter_collector.spec.reference import PLURAL
from openmeter_collector.spec.registry import Registry

_SCALAR: Final = {"int": "int", "float": "float", "bool": "bool"}


def catalogue(
    registry: Registry, document: type[Any], version: str, *, texts: bool = True
) -> dict[str, Any]:
    """Everything there is to know about configs.

    Args:
        texts: with summaries, descriptions and examples.
    """
    made: dict[str, Any] = {
        "version": version,
        "config": [_field(one, texts=texts) for one in fields_of(document).values()],
    }
    for kind in KINDS:
        name = PLURAL[kind].replace("_", "-")
        made[name] = [_component(spec, texts=texts) for spec in registry.specs(kind)]
    return made


def _component(spec: ComponentSpec, *, texts: bool) -> dict[str, Any]:
    if spec.value:
        config = _field(spec.fields[spec.value], texts=texts) | {"name": ""}
    else:
        fields = [_field(one, texts=texts) for one in spec.fields.values()]
        config = {"name": "", "type": "object", "kind": "scalar", "children": fields}
    made: dict[str, Any] = {
        "name": spec.name,
        "type": spec.kind,
        "status": spec.stability,
        "plugin": True,
        "categories": list(spec.categories),
        "version": spec.since,
        "config": config,
    }
    if texts:
        made |= {"summary": spec.summary, "description": spec.description}
        made["examples"] = [{"title": e.title, "config": e.yaml} for e in spec.examples]
    if spec.ours:
        made["ours"] = True
    return made


def _field(one: FieldSpec, *, texts: bool) -> dict[str, Any]:
    name, kind, children = _shape(one.type)
    made: dict[str, Any] = {"name": one.name, "type": name, "kind": kind}
    marks = {
        "is_advanced": one.advanced,
        "is_deprecated": one.deprecated,
        "is_optional": not one.required,
        "is_secret": one.secret,
        "interpolated": _leaf(one.type) == t.Scalar("interpolated"),
        "bloblang": _leaf(one.type) == t.Scalar("mapping"),
        "ours": one.ours,
    }
    made |= {mark: True for mark, on in marks.items() if on}
    options = list(one.choices) or (
        list(leaf.options) if isinstance(leaf := _leaf(one.type), t.Choice) else []
    )
    if options:
        made["options"] = options
    if not one.required and not one.secret:
        default = one.default_factory() if one.default_factory is list else one.default
        default = getattr(default, "text", default)
        if isinstance(default, str | bool | int | float | list):
            made["default"] = default
    if children is not None:
        made["children"] = [_field(inner, texts=texts) for inner in children]
    if texts:
        made["description"] = one.doc
        if one.examples:
            made["examples"] = list(one.examples)
    return made


def _leaf(kind: t.FieldType) -> t.FieldType:
    match kind:
        case t.Optional(inner) | t.ListOf(inner) | t.MapOf(inner):
            return _leaf(inner)
    return kind


def _shape(kind: t.FieldType) -> tuple[str, str, list[FieldSpec] | None]:
    """Type, kind and children, in the words of the catalogue."""
    match kind:
        case t.Optional(inner):
            return _shape(inner)
        case t.ListOf(inner):
            name, deeper, children = _shape(inner)
            return name, "2darray" if deeper == "array" else "array", children
        case t.MapOf(inner):
            name, _, children = _shape(inner)
            return name, "map", children
        case t.SectionOf(cls):
            return "object", "scalar", list(fields_of(cls).values())
        case t.Child(child):
            return child, "scalar", None
        case t.Scalar(name):
            return _SCALAR.get(name, "string"), "scalar", None
        case t.AnyValue():
            return "unknown", "scalar", None
    return "string", "scalar", None

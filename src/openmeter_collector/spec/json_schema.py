"""JSON Schema of a whole configuration, for editors that complete and check YAML.

Scalars admit text as well as their own type: an environment variable may stand anywhere.
"""

from __future__ import annotations

from typing import Any, Final

from openmeter_collector.spec import types as t
from openmeter_collector.spec.component import (
    KINDS,
    ComponentSpec,
    FieldSpec,
    fields_of,
)
from openmeter_collector.spec.registry import Registry

_SCALARS: Final[dict[str, list[str]]] = {
    "int": ["integer", "string", "null"],
    "float": ["number", "string", "null"],
    "bool": ["boolean", "string", "null"],
}
_TEXT: Final = ["string", "number", "boolean", "null"]
_SCANNERS: Final = (t.Child("scanner"), t.Optional(t.Child("scanner")))
_LABEL: Final = {
    "type": _TEXT,
    "description": "Name of this component in logs and metrics, and for references.",
}


def json_schema(registry: Registry, document: type[Any]) -> dict[str, Any]:
    """The schema of `document`, a section such as the root of a configuration."""
    definitions: dict[str, Any] = {}
    for kind in KINDS:
        definitions[kind] = _place(registry, kind)
        for spec in registry.specs(kind):
            definitions[f"{kind}.{spec.name}"] = _component(spec)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OpenMeter Collector configuration",
        **_section(document),
        "$defs": definitions,
    }


def _place(registry: Registry, kind: str) -> dict[str, Any]:
    properties: dict[str, Any] = {
        name: {"$ref": f"#/$defs/{kind}.{name}"} for name in registry.names(kind)
    }
    properties |= {
        "label": _LABEL,
        "type": {"enum": registry.names(kind)},
        "plugin": {},
        "meta": {},
    }
    if kind in ("input", "output"):
        properties["processors"] = {
            "type": "array",
            "items": {"$ref": "#/$defs/processor"},
            "description": f"Processors that belong to this {kind}.",
        }
    if kind == "metrics":
        properties["mapping"] = {"type": "string", "description": "Renames and drops metrics."}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _component(spec: ComponentSpec) -> dict[str, Any]:
    schema = _field(spec.fields[spec.value]) if spec.value else _section(spec.cls)
    schema["description"] = spec.description
    if spec.stability == "deprecated":
        schema["deprecated"] = True
    return schema


def _section(cls: type[Any]) -> dict[str, Any]:
    fields = fields_of(cls)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _field(one) for name, one in fields.items()},
        "additionalProperties": False,
    }
    if required := [name for name, one in fields.items() if one.required]:
        schema["required"] = required
    return schema


def _field(one: FieldSpec) -> dict[str, Any]:
    schema = _type(one.type)
    description = one.doc
    if one.choices:
        description += "".join(f"\n- `{name}`: {doc}" for name, doc in one.choices.items())
        if one.type == t.Scalar("string"):
            schema = _type(t.Choice(tuple(one.choices)))
    if one.name == "codec" and one.type in _SCANNERS:  # the word of before there were scanners
        schema = {"anyOf": [schema, {"type": ["string", "null"]}]}
    schema["description"] = description
    default = one.default if not one.required and not one.secret else None
    if isinstance(default, str | bool | int | float) and default != "":
        schema["default"] = getattr(default, "text", default)
    if one.examples:
        schema["examples"] = list(one.examples)
    if one.deprecated:
        schema["deprecated"] = True
    return schema


def _type(kind: t.FieldType) -> dict[str, Any]:
    match kind:
        case t.Scalar(name):
            return {"type": _SCALARS.get(name, _TEXT)}
        case t.Choice(options):
            return {"anyOf": [{"enum": list(options)}, {"type": "string"}]}
        case t.Optional(inner):
            return {"anyOf": [_type(inner), {"type": "null"}]}
        case t.ListOf(inner):
            return {"type": "array", "items": _type(inner)}
        case t.MapOf(inner):
            return {"type": "object", "additionalProperties": _type(inner)}
        case t.SectionOf(cls):
            return _section(cls)
        case t.Child(child):
            return {"$ref": f"#/$defs/{child}"}
        case t.Ref(resource):
            return {"type": "string", "title": f"label of a {resource.replace('_', ' ')} resource"}
        case t.AnyValue():
            return {}

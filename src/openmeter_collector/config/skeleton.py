"""Configs to start from: every field with its default, what has none with an example."""

from __future__ import annotations

from typing import Any

from openmeter_collector.component.node import Node
from openmeter_collector.config.emit import Remark
from openmeter_collector.config.shapes import assumed
from openmeter_collector.errors import ConfigError
from openmeter_collector.spec import types as t
from openmeter_collector.spec.component import FieldSpec, fields_of
from openmeter_collector.spec.fields import CodeText
from openmeter_collector.spec.registry import Registry


def component(registry: Registry, kind: str, name: str, *, small: bool) -> dict[str, Any]:
    """A component with its fields; `small` leaves out advanced ones.

    Raises:
        ConfigError: there is no such component.
    """
    spec = registry.get(kind, name)
    if spec is None:
        meant = registry.suggest(kind, name)
        raise ConfigError(
            f"there is no {kind} {name!r}; "
            + (f"did you mean {meant!r}?" if meant else f"`list {kind}s` shows all")
        )
    body: Any = document(spec.cls, small=small)
    if spec.value:
        body = body[spec.value]
    return {name: body} if small else {"label": "", name: body}


def document(cls: type[Any], *, small: bool) -> dict[str, Any]:
    """The fields of a section, with those defaults that can be written down."""
    made: dict[str, Any] = {}
    for name, one in fields_of(cls).items():
        if one.deprecated or (small and one.advanced):
            continue
        if one.required:
            made[name] = Remark(_example(one), "Required. " + one.doc)
        elif one.default_config:
            made[name] = assumed(one.default_config).value()
        elif (value := plain(one.make_default())) is not None:
            made[name] = value
    return made


def plain(value: Any) -> Any:
    """A default as plain YAML values; None for what is not there."""
    if isinstance(value, CodeText):
        return value.text
    if hasattr(type(value), "__section__"):
        fields = {name: plain(getattr(value, name)) for name in fields_of(type(value))}
        return {name: inner for name, inner in fields.items() if inner is not None}
    if isinstance(value, Node):
        return None
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return getattr(value, "text", value)


def _example(one: FieldSpec) -> Any:
    if one.examples:
        return one.examples[0]
    return _empty(one.type)


def _empty(kind: t.FieldType) -> Any:
    match kind:
        case t.Scalar("int") | t.Scalar("float"):
            return 0
        case t.Scalar("bool"):
            return False
        case t.Scalar("duration"):
            return "1s"
        case t.Choice(options):
            return options[0]
        case t.ListOf():
            return []
        case t.MapOf():
            return {}
        case t.SectionOf(cls):
            return document(cls, small=True)
        case t.Child("output"):
            return {"drop": {}}
        case t.Child():
            return {}
    return ""

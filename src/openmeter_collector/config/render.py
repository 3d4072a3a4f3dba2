"""A typed config as a document again: everything said, secrets hidden."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from openmeter_collector.component.node import Node, Shown
from openmeter_collector.config.emit import to_yaml
from openmeter_collector.config.lint import SCRUBBED, Scrubber
from openmeter_collector.config.model import Config
from openmeter_collector.spec.component import ComponentSpec, FieldSpec, attribute_of, fields_of
from openmeter_collector.spec.fields import CodeText
from openmeter_collector.values.units import ByteSize, Duration

_PASSWORD: Final = re.compile(r"(?<=://)([^/?#\s]*:)[^/?#\s]*(?=@)")


def render(config: object, secrets: Iterable[str] = (), *, scrub: bool = True) -> str:
    """Write a document (`Config`, `Stream`, `Resources`) with all its defaults.

    Args:
        secrets: values that must not appear, such as `Reading.secrets`.
        scrub: hide those, fields that are secret, and passwords in addresses.
    """
    return to_yaml(_Renderer(Scrubber(secrets if scrub else ()), scrub=scrub).section(config))


def shown(node: Node) -> Shown:
    """One component with all its defaults, secrets hidden."""
    value = _Renderer(Scrubber(()), scrub=True).node(node)
    return Shown(to_yaml(value), value)


class _Renderer:
    def __init__(self, scrubber: Scrubber, *, scrub: bool) -> None:
        self._scrubber = scrubber
        self._scrub = scrub

    def section(self, config: object) -> dict[str, Any]:
        written = {
            name: self._field(one, getattr(config, attribute_of(type(config), name)))
            for name, one in fields_of(type(config)).items()
        }
        if isinstance(config, Config) and config.metrics and config.metrics_mapping:
            written["metrics"]["mapping"] = self._text(config.metrics_mapping.text)
        return written

    def node(self, node: Node) -> dict[str, Any]:
        node = node.written or node
        spec: ComponentSpec = type(node.config).__spec__  # type: ignore[attr-defined]
        body: Any = self.section(node.config)
        if spec.value:
            body = body[spec.value]
        written: dict[str, Any] = {"label": node.label} if node.label else {}
        written[node.name] = body
        if node.processors:
            written["processors"] = [self.node(one) for one in node.processors]
        return written

    def _field(self, one: FieldSpec, value: Any) -> Any:
        if one.secret and value and self._scrub:
            return dict.fromkeys(value, SCRUBBED) if isinstance(value, Mapping) else SCRUBBED
        return self._value(value)

    def _value(self, value: Any) -> Any:
        match value:
            case Node():
                return self.node(value)
            case CodeText():
                return self._text(value.text)
            case Duration() | ByteSize():
                return self._text(value.text)
            case str():
                return self._text(value)
            case list() | tuple():
                return [self._value(item) for item in value]
            case Mapping():
                return {self._text(str(key)): self._value(item) for key, item in value.items()}
            case _ if hasattr(type(value), "__section__"):
                return self.section(value)
        return value

    def _text(self, text: str) -> str:
        if not self._scrub:
            return text
        return _PASSWORD.sub(rf"\1{SCRUBBED}", self._scrubber.scrub(text))

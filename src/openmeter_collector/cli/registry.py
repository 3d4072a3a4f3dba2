"""The components this collector has."""

from __future__ import annotations

import os
from collections.abc import Iterable

from openmeter_collector.cli.files import expand
from openmeter_collector.components.index import INDEX
from openmeter_collector.spec.registry import Registry, entry_points


def standard_registry() -> Registry:
    """All components that come with the collector, and those of installed plug-ins."""
    return Registry.from_index(INDEX, more=entry_points)


def registry_with(templates: Iterable[str]) -> Registry:
    """The same, with those that template files define.

    Raises:
        ConfigError: a file is not there, or is no template.
    """
    registry = standard_registry()
    paths = expand(templates)
    if not paths:
        return registry
    from openmeter_collector.config.templates import with_templates  # noqa: PLC0415 - few need it

    return with_templates(registry, paths, os.environ)

"""The components this collector has."""

from __future__ import annotations

from openmeter_collector.components.index import INDEX
from openmeter_collector.spec.registry import Registry, entry_points


def standard_registry() -> Registry:
    """All components that come with the collector, and those of installed plug-ins."""
    return Registry.from_index(INDEX, more=entry_points)

"""The components this collector has."""

from __future__ import annotations

from openmeter_collector.components.index import INDEX
from openmeter_collector.spec.registry import Registry


def standard_registry() -> Registry:
    """All components that come with the collector, and those of installed plug-ins."""
    return Registry.from_entry_points().merged(Registry.from_index(INDEX))

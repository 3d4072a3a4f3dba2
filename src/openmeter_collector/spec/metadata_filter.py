"""Choosing metadata keys by prefix or pattern."""

from __future__ import annotations

import re

from openmeter_collector.message import Metadata
from openmeter_collector.spec.component import field, section


@section
class MetadataFilter:
    """Which metadata keys are meant; none unless something is set."""

    include_prefixes: list[str] = field(
        default_factory=list, doc="Keys that begin with one of these."
    )
    include_patterns: list[str] = field(
        default_factory=list, doc="Keys in which one of these regular expressions is found."
    )

    def select(self, metadata: Metadata) -> Metadata:
        """The part of `metadata` that is meant."""
        if not self.include_prefixes and not self.include_patterns:
            return {}
        prefixes = tuple(self.include_prefixes)
        return {
            key: value
            for key, value in metadata.items()
            if key.startswith(prefixes)
            or any(re.search(pattern, key) for pattern in self.include_patterns)
        }

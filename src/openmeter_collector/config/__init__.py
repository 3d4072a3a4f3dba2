"""YAML text to typed configuration, with every fault named at its place."""

from openmeter_collector.config.lint import InvalidConfig, Problem, Scrubber, lint_lines
from openmeter_collector.config.load import Reading, load, read
from openmeter_collector.config.model import Config, Resources, Stream, resources_of

__all__ = [
    "Config",
    "InvalidConfig",
    "Problem",
    "Reading",
    "Resources",
    "Scrubber",
    "Stream",
    "lint_lines",
    "load",
    "read",
    "resources_of",
]

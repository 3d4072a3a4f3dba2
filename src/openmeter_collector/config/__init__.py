"""YAML text to typed configuration, with every fault named at its place."""

from openmeter_collector.config.lint import InvalidConfig, Problem
from openmeter_collector.config.load import load
from openmeter_collector.config.model import Config

__all__ = ["Config", "InvalidConfig", "Problem", "load"]

"""Ready configurations, one folder each: `config.yaml`, with its unit tests in it.

A folder is all there is to a preset; nothing lists them. The first line of the config, a comment, says
what it is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openmeter_collector.errors import ConfigError

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Preset:
    """One of them.

    Attributes:
        path: its config.
        summary: a sentence about it.
    """

    name: str
    path: Path
    summary: str


def presets() -> list[Preset]:
    """All of them, by name."""
    return [_preset(path) for path in sorted(_HERE.glob("*/config.yaml"))]


def preset(name: str) -> Preset:
    """The one of a name.

    Raises:
        ConfigError: there is none; the text names those there are.
    """
    for one in presets():
        if one.name == name:
            return one
    known = ", ".join(one.name for one in presets())
    raise ConfigError(f"--preset: there is no preset {name!r}; known: {known}")


def _preset(path: Path) -> Preset:
    with path.open(encoding="utf-8") as file:
        return Preset(path.parent.name, path, file.readline().removeprefix("#").strip())

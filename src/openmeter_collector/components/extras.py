"""Libraries that only some components need, imported when one of those is opened."""

from __future__ import annotations

import importlib
from typing import Any

from openmeter_collector.api import ConfigError, install_extra


def load(where: str, extra: str, *names: str) -> list[Any]:
    """Import modules of an extra.

    Args:
        where: the component that needs them, such as `input.otlp`.
        extra: its name in pyproject.toml.
        names: modules, with dots.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise ConfigError(
            f"{where}: {error}; install what it needs: {install_extra(extra)}"
        ) from error

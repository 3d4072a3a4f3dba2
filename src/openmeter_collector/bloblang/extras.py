"""Libraries that only few mappings need, and what to do when one is missing."""

from __future__ import annotations

import importlib
from typing import Any

from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.errors import install_extra


def extra(module: str, purpose: str) -> Any:
    """Import a library of the extra `bloblang`; `purpose` says what for."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Fail(
            f"cannot {purpose}: {module} is not installed; run: {install_extra('bloblang')}"
        ) from None

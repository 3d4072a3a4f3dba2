"""Libraries that only few mappings need, and what to do when one is missing."""

from __future__ import annotations

import importlib
from typing import Any

from openmeter_collector.bloblang.failure import Fail


def extra(module: str, purpose: str) -> Any:
    """Import a library of the extra `bloblang`; `purpose` says what for."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Fail(
            f"cannot {purpose}: {module} is not installed; "
            "run: pip install 'openmeter-collector[bloblang]'"
        ) from None

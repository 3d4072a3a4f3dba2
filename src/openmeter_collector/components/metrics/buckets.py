"""Buckets of timers that are kept as histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

USUAL: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds, as Prometheus clients have them."""


def check_buckets(buckets: Sequence[float]) -> str | None:
    """What is wrong with bounds that somebody wrote."""
    if list(buckets) != sorted(set(buckets)):
        return "the bounds of buckets are not in ascending order; sort them"
    return None

"""The contract of rate limits."""

from __future__ import annotations

from typing import Protocol


class RateLimit(Protocol):
    """Says whether one more may pass."""

    async def access(self) -> float:
        """Take one unit. Returns 0 when it may pass, else the seconds until it is worth asking."""

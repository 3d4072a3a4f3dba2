"""The contract of caches.

Every method raises `Retryable` when the cache cannot be reached or read; not finding is no error.
"""

from __future__ import annotations

from typing import Protocol


class Cache(Protocol):
    """Keys to bytes, shared between components by label."""

    async def get(self, key: str) -> bytes | None:
        """The value, or None when there is none (any more)."""

    async def set(self, key: str, value: bytes, ttl: float | None = None) -> None:
        """Put a value; `ttl` in seconds, None for the cache's own default."""

    async def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        """Put a value only if there is none; False when there was one."""

    async def delete(self, key: str) -> None:
        """Remove a value; no error when there is none."""

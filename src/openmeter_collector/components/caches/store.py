"""Keys to values in memory, bounded, with times after which they are gone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping


class Store:
    """A cache in this process; see `component.cache.Cache`.

    Which one goes when there is no room is decided by the order of `_items`: the first.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        most: int,
        ttl: float | None,
        sweep_every: float = 60.0,
        by_use: bool = False,
        renew: bool = False,
    ) -> None:
        """Make an empty one.

        Args:
            now: a clock that never goes back.
            most: values kept; a new one pushes another out. 0 is no limit.
            ttl: seconds a value is kept, None for ever.
            sweep_every: seconds between removals of what is over.
            by_use: what was not used for longest is pushed out first, else what was put first.
            renew: being read lengthens a value's life.
        """
        self._now = now
        self._most = most
        self._ttl = ttl
        self._sweep_every = sweep_every
        self._by_use = by_use
        self._renew = renew
        self._items: OrderedDict[str, tuple[bytes, float, float]] = OrderedDict()
        self._swept = now()

    def fill(self, values: Mapping[str, str]) -> None:
        """Values to begin with; they stay until they are pushed out or replaced."""
        for key, value in values.items():
            self._put(key, value.encode(), float("inf"))

    async def get(self, key: str) -> bytes | None:
        found = self._items.get(key)
        if found is None:
            return None
        value, length, ends = found
        now = self._now()
        if ends <= now:
            del self._items[key]
            return None
        if self._by_use:
            self._items.move_to_end(key)
        if self._renew:
            self._items[key] = (value, length, now + length)
        return value

    async def set(self, key: str, value: bytes, ttl: float | None = None) -> None:
        length = self._ttl if ttl is None else ttl
        self._put(key, value, float("inf") if length is None else length)

    async def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        found = self._items.get(key)
        if found is not None and found[2] > self._now():
            return False
        await self.set(key, value, ttl)
        return True

    async def delete(self, key: str) -> None:
        self._items.pop(key, None)

    def __len__(self) -> int:
        return len(self._items)

    def _put(self, key: str, value: bytes, length: float) -> None:
        now = self._now()
        if now - self._swept >= self._sweep_every:
            self._swept = now
            for old in [one for one, item in self._items.items() if item[2] <= now]:
                del self._items[old]
        self._items[key] = (value, length, now + length)
        self._items.move_to_end(key)
        if self._most and len(self._items) > self._most:
            self._items.popitem(last=False)

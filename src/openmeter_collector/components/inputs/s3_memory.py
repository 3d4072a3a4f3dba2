"""What the input `aws_s3` remembers of the objects it read: which are done, and how far the next one is.

Everything here tells only what is settled; it becomes true in the same transaction as the events of a
later delivery. So after a crash some events come again, with the same ids, and none is left out.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import orjson
import xxhash

from openmeter_collector.api import Checkpoint, Env, Position

_SHARDS: Final = 256


@dataclass(slots=True, eq=False)
class Entry:
    """An object on its way.

    Attributes:
        reached: up to where everything of it is settled.
        finished: all of it is.
    """

    key: str
    etag: str
    reached: Position
    finished: bool = False

    def written(self) -> dict[str, Any]:
        """As it is remembered."""
        at = self.reached
        return {"key": self.key, "etag": self.etag, "records": at.records, "offset": at.offset}


class _Memory:
    """Objects that are being read, in the order they were begun."""

    def __init__(self, env: Env) -> None:
        self._state = env.state
        self._open: deque[Entry] = deque()
        self._found: dict[str, Any] = {}
        """The object that was being read when the last life ended, and how far."""
        self._changed = False

    def start_of(self, key: str, etag: str) -> Position | None:
        """Where to begin with an object; None when it was not begun."""
        found = self._found
        if found.get("key") != key or found.get("etag") != etag:
            return None
        return Position(found["records"], found["offset"])

    def begin(self, key: str, etag: str, start: Position) -> Entry:
        """An object is being read from now on."""
        entry = Entry(key, etag, start)
        self._open.append(entry)
        return entry

    def drop(self, entry: Entry) -> None:
        """It is not being read any more, and was not finished."""
        if entry in self._open:
            self._open.remove(entry)

    def moved(self) -> None:
        """An entry has changed."""
        self._changed = True

    def _oldest(self) -> dict[str, Any] | None:
        """The object to go on with after a crash, if anything of it is settled."""
        if not self._open or not self._open[0].reached.records:
            return None
        return self._open[0].written()


class WalkMemory(_Memory):
    """A walk through a bucket in the order of keys. Remembered while it goes on, so that a crash does
    not begin it anew; forgotten at its end, because the next run is another walk.
    """

    def __init__(self, env: Env, scope: str) -> None:
        """`scope` names what is walked through; what is remembered of another one is not used."""
        super().__init__(env)
        self._scope = scope
        self.after = ""
        """Everything up to this key is done."""

    async def load(self) -> None:
        """Take up what was remembered.

        Raises:
            Retryable: it cannot be read now.
        """
        kept = orjson.loads(await self._state.load("walk") or b"{}")
        if kept.get("scope") == self._scope:
            self.after = kept["after"]
            self._found = kept.get("object") or {}

    def moved(self) -> None:
        super().moved()
        while self._open and self._open[0].finished:
            self.after = self._open.popleft().key

    def ended(self) -> None:
        """The walk is over; the next one begins at the first key."""
        self._scope = self.after = ""
        self._changed = True

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """What has changed since the last time, to be made true; nothing when nothing has."""
        if not self._changed:
            return ()
        self._changed = False
        value = {"scope": self._scope, "after": self.after, "object": self._oldest()}
        return (self._state.checkpoint("walk", orjson.dumps(value)),)


class Marks:
    """A set of 64-bit numbers in eight bytes each, in parts."""

    def __init__(self) -> None:
        self.parts = [array("Q") for _ in range(_SHARDS)]

    def __contains__(self, mark: int) -> bool:
        part = self.parts[mark % _SHARDS]
        at = bisect_left(part, mark)
        return at < len(part) and part[at] == mark

    def add(self, mark: int) -> bool:
        """Put it in; False when it was."""
        part = self.parts[mark % _SHARDS]
        at = bisect_left(part, mark)
        if at < len(part) and part[at] == mark:
            return False
        part.insert(at, mark)
        return True


class SeenMemory(_Memory):
    """A bucket that is looked at again and again: every object once, in whichever order it came.

    An object is known by 64 bits of its key and content tag. They are kept in parts, so that an object
    more writes little.
    """

    def __init__(self, env: Env, scope: str) -> None:
        """`scope` is part of what an object is known by."""
        super().__init__(env)
        self._scope = scope
        self._seen = Marks()
        self._dirty: set[int] = set()

    async def load(self) -> None:
        """Take up what was remembered.

        Raises:
            Retryable: it cannot be read now.
        """
        for shard in range(_SHARDS):
            kept = await self._state.load(_part_name(shard))
            if kept:
                self._seen.parts[shard] = array("Q", kept)
        self._found = orjson.loads(await self._state.load("object") or b"{}")

    def mark(self, key: str, etag: str) -> int:
        """What an object is known by."""
        named = f"{self._scope}\0{key}\0{etag}".encode("utf-8", "surrogatepass")
        return xxhash.xxh3_64_intdigest(named)

    def __contains__(self, mark: int) -> bool:
        return mark in self._seen

    def moved(self) -> None:
        super().moved()
        for entry in [one for one in self._open if one.finished]:
            self._open.remove(entry)
            mark = self.mark(entry.key, entry.etag)
            if self._seen.add(mark):
                self._dirty.add(mark % _SHARDS)

    def forget_all_but(self, there: Marks) -> None:
        """Forget objects that are not in the bucket any more."""
        for shard, part in enumerate(self._seen.parts):
            kept = array("Q", (mark for mark in part if mark in there))
            if len(kept) < len(part):
                self._seen.parts[shard] = kept
                self._dirty.add(shard)
                self._changed = True

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """What has changed since the last time, to be made true; nothing when nothing has."""
        if not self._changed:
            return ()
        self._changed = False
        made = [
            self._state.checkpoint(_part_name(shard), self._seen.parts[shard].tobytes())
            for shard in sorted(self._dirty)
        ]
        self._dirty.clear()
        oldest = self._oldest()
        if oldest is not None:
            made.append(self._state.checkpoint("object", orjson.dumps(oldest)))
        return tuple(made)


def _part_name(shard: int) -> str:
    return f"seen/{shard:02x}"

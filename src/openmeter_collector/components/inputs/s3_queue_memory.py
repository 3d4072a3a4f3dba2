"""What the input `aws_s3` remembers of the messages of its queue: how far their objects are safe.

A message stays in the queue until all its objects are safe and it is deleted. A crash in between (and
everything else that makes it come again) costs nothing twice: what is finished is not read again, and
what is not goes on where it was. As in `s3_memory`, only what is settled is told, and it becomes true
with the events of a later delivery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson
import xxhash

from openmeter_collector.api import BEGINNING, Checkpoint, Env, Position

_NAME: Final = "objects"
_MOST: Final = 2000
"""Objects that are remembered; beyond it the oldest are forgotten, and would be read again."""
_HIDDEN: Final = 12 * 3600.0
"""Seconds for which a queue keeps a message from others at most. What a former life worked on and did
not come until then was dealt with by somebody else.
"""


@dataclass(slots=True, eq=False)
class Told:
    """An object that a message tells of.

    Attributes:
        etag: of the content that is read.
        reached: up to where everything of that content is settled.
        finished: nothing is left to be done for this message.
    """

    etag: str = ""
    reached: Position = BEGINNING
    finished: bool = False

    def start(self, etag: str) -> Position:
        """Where to begin with this content."""
        if etag != self.etag:
            self.etag, self.reached = etag, BEGINNING
        return self.reached

    def safe(self, etag: str, position: Position) -> None:
        """Everything of a content up to here is settled."""
        if etag == self.etag and position.records > self.reached.records:
            self.reached = position

    def written(self) -> list[Any] | None:
        """As it is remembered; None for what is finished."""
        if self.finished:
            return None
        return [self.etag, self.reached.records, self.reached.offset]


class QueueMemory:
    """See the module."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._told: dict[str, Told] = {}
        self._of: dict[str, list[str]] = {}
        """Names in `_told` of the messages that came in this life."""
        self._found: set[str] = set()
        """What came from a former life and was not asked for yet."""
        self._loaded = 0.0
        self._changed = False

    async def load(self) -> None:
        """Take up what was remembered.

        Raises:
            Retryable: it cannot be read now.
        """
        kept = orjson.loads(await self._env.state.load(_NAME) or b"{}")
        for name, at in kept.items():
            known = Told(finished=True) if at is None else Told(at[0], Position(at[1], at[2]))
            self._told.setdefault(name, known)
        self._found = set(kept)
        self._loaded = self._env.monotonic()

    def begin(self, message: str, bucket: str, key: str) -> Told:
        """What is known of an object that a message tells of."""
        named = f"{message}\0{bucket}\0{key}".encode("utf-8", "surrogatepass")
        name = xxhash.xxh3_128_hexdigest(named)
        self._found.discard(name)
        # To the end: what is worked on now is the last to be forgotten.
        told = self._told.pop(name) if name in self._told else Told()
        self._told[name] = told
        names = self._of.setdefault(message, [])
        if name not in names:
            names.append(name)
        return told

    def moved(self) -> None:
        """Something of it has changed."""
        self._changed = True

    def deleted(self, message: str) -> None:
        """A message is gone from the queue, and does not come again."""
        for name in self._of.pop(message, ()):
            if self._told.pop(name, None) is not None:
                self._changed = True

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """What has changed since the last time, to be made true; nothing when nothing has."""
        if not self._changed:
            return ()
        self._changed = False
        self._forget_old()
        value = {
            name: told.written()
            for name, told in self._told.items()
            if told.finished or told.reached.records
        }
        return (self._env.state.checkpoint(_NAME, orjson.dumps(value)),)

    def _forget_old(self) -> None:
        if self._found and self._env.monotonic() - self._loaded > _HIDDEN:
            for name in self._found:
                self._told.pop(name, None)
            self._found.clear()
        while len(self._told) > _MOST:
            name = next(iter(self._told))
            del self._told[name]
            self._found.discard(name)

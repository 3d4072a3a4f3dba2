"""Reading the objects of a bucket one after the other, once or again and again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from openmeter_collector.api import (
    Checkpoint,
    Delivery,
    EndOfInput,
    Env,
    Interpolated,
    Message,
    Position,
    Reading,
    Scanner,
    Source,
    Unreadable,
)
from openmeter_collector.components.inputs.object_memory import (
    Entry,
    Marks,
    SeenMemory,
    WalkMemory,
)
from openmeter_collector.components.objects.ahead import Ahead
from openmeter_collector.components.objects.stored import (
    Changed,
    Deleter,
    Found,
    Missing,
    Store,
    Stored,
    open_object,
)

_AHEAD: Final = 4
"""Objects that are asked for while another one is read: small ones would wait for each answer."""


@dataclass(frozen=True, slots=True)
class Walk:
    """What is read.

    Attributes:
        prefix: evaluated before each listing, because it may tell the time.
        interval: seconds until the bucket is looked at again; None to end instead.
        delete: remove objects that are read and safe.
    """

    bucket: str
    prefix: Interpolated
    start_after: str
    interval: float | None
    delete: bool


@dataclass(slots=True)
class _Open:
    """An object that is being read."""

    found: Found
    entry: Entry
    stream: Stored
    chunks: AsyncGenerator[bytes, None]
    reading: Reading
    ahead: Ahead

    async def close(self) -> None:
        await self.reading.close()
        await self.chunks.aclose()
        self.stream.close()


class Walker:
    """A `Puller`."""

    def __init__(self, env: Env, store: Store, scanner: Scanner, walk: Walk) -> None:
        """Nothing is asked for until the first `read`."""
        self._env = env
        self._store = store
        self._scanner = scanner
        self._walk = walk
        self._memory: WalkMemory | SeenMemory | None = None
        self._list: AsyncGenerator[Found, None] | None = None
        self._ahead: deque[tuple[Found, Position, asyncio.Task[Stored]]] = deque()
        self._now: _Open | None = None
        self._under_way = 0
        self._marking = False
        self._over = False
        self._settled = asyncio.Event()
        self._deleter = Deleter(env, store)
        self._skipped: set[int] = set()
        self._unreadable = env.metrics.counter(
            "input_source_unreadable", "Objects that could not be read to their end."
        )
        self._objects = env.metrics.counter(
            f"{store.name}_objects_read", "Objects of which all is safe."
        )

    async def read(self) -> Delivery:
        """The next messages.

        Raises:
            EndOfInput: all objects are read and safe, and nobody asked to look again.
            Retryable: the store does not answer, or refuses us.
        """
        while True:
            if self._over:
                raise EndOfInput("all objects are read")
            if self._now is None:
                self._now = await self._next()
                if self._now is None:
                    last = await self._at_end()
                    if last is not None:
                        return last
                continue
            try:
                delivery = await self._now.reading.next()
            except Changed:
                self._memory_of().drop(self._now.entry)
                self._ask_for(self._now.found, Position(), first=True)
                delivery = None
            except Unreadable as error:
                self._say(self._now.entry.key, error)
                self._skip(self._now.entry)
                delivery = None
            if delivery is not None:
                await self._now.ahead.wait()
                return self._marked(delivery, self._now.ahead)
            now, self._now = self._now, None
            await now.close()

    async def close(self) -> None:
        """Stop reading, and let deletions that are under way be finished for a moment."""
        if self._now is not None:
            await self._now.close()
        for _, _, task in self._ahead:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is None:
                task.result().close()
        if self._list is not None:
            await self._list.aclose()
        await self._deleter.close()

    # ---- deliveries -------------------------------------------------------------------------

    def _marked(self, delivery: Delivery, ahead: Ahead) -> Delivery:
        """The same, carrying what is settled by now, unless an earlier one still does."""
        assert self._memory is not None
        checkpoints = () if self._marking else self._memory.checkpoints()
        made = self._carrying(delivery, checkpoints)
        made.tell_also(lambda _: ahead.settled())
        return made

    def _carrying(self, delivery: Delivery, checkpoints: tuple[Checkpoint, ...]) -> Delivery:
        self._marking = self._marking or bool(checkpoints)
        self._under_way += 1

        def settle(failure: Exception | None) -> None:
            self._under_way -= 1
            if checkpoints:
                self._marking = False
            delivery.settle(failure)
            self._settled.set()

        return Delivery(delivery.batch, settle, checkpoints)

    async def _at_end(self) -> Delivery | None:
        """Once all is settled: a last delivery with what is to be remembered of it, if anything is;
        else the pause before the bucket is looked at again.
        """
        assert self._memory is not None
        while self._under_way:
            self._settled.clear()
            await self._settled.wait()
        await self._deleter.wait()
        if self._walk.interval is None:
            self._memory.ended()
            self._over = True
        checkpoints = self._memory.checkpoints()
        if checkpoints:
            return self._carrying(Delivery([]), checkpoints)
        if self._walk.interval is not None:
            self._list = None
            await self._env.sleep(self._walk.interval)
        return None

    # ---- objects ----------------------------------------------------------------------------

    async def _next(self) -> _Open | None:
        """Open the next object; None when there is none."""
        while True:
            await self._look_ahead()
            if not self._ahead:
                return None
            found, start, task = self._ahead.popleft()
            try:
                opened = await task
            except Missing:
                if start != Position():
                    # Not the content that was begun with: from the beginning, then.
                    self._ask_for(found, Position(), first=True)
                    continue
                self._env.log.warning("an object was deleted before it was read", key=found.key)
                self._memory_of().begin(found.key, found.etag, start).finished = True
                self._memory_of().moved()
                continue
            except Unreadable as error:
                self._say(found.key, error)
                self._skip(self._memory_of().begin(found.key, found.etag, start))
                continue
            return self._open(found, start, opened)

    def _open(self, found: Found, start: Position, opened: Stored) -> _Open:
        memory = self._memory_of()
        # Overwritten since it was listed: what is read is remembered under its own tag.
        entry = memory.begin(found.key, opened.place.etag, start)
        offset = self._offset(found.key, start)
        chunks = opened.chunks(offset)

        def safe(position: Position) -> None:
            entry.reached = position
            memory.moved()

        def finished() -> None:
            entry.finished = True
            memory.moved()
            self._objects.add()
            if self._walk.delete:
                self._deleter.delete(opened)

        source = Source(found.key, chunks, opened.metadata, start)
        reading = Reading(self._scanner, source, safe=safe, finished=finished)
        return _Open(found, entry, opened, chunks, reading, Ahead())

    async def _look_ahead(self) -> None:
        while len(self._ahead) < _AHEAD:
            if self._list is None:
                self._list = await self._listing()
            found = await anext(self._list, None)
            if found is None:
                return
            start = self._memory_of().start_of(found.key, found.etag)
            self._ask_for(found, start or Position())

    def _ask_for(self, found: Found, start: Position, *, first: bool = False) -> None:
        asked = open_object(
            self._env,
            self._store,
            self._walk.bucket,
            found.key,
            start=self._offset(found.key, start),
            etag=found.etag if start != Position() else "",
        )
        one = (found, start, asyncio.ensure_future(asked))
        if first:
            self._ahead.appendleft(one)
        else:
            self._ahead.append(one)

    def _offset(self, key: str, start: Position) -> int:
        """Byte to begin at: where the scanner can begin."""
        return (start.offset or 0) if self._scanner.seeks(key) else 0

    def _memory_of(self) -> WalkMemory | SeenMemory:
        assert self._memory is not None
        return self._memory

    # ---- listing ----------------------------------------------------------------------------

    async def _listing(self) -> AsyncGenerator[Found, None]:
        walk = self._walk
        prefix = walk.prefix.resolve([Message(b"")], 0)
        memory = self._memory
        if memory is None:
            if walk.interval is not None:
                memory = SeenMemory(self._env, walk.bucket)
            elif self._store.in_order:
                memory = WalkMemory(self._env, f"{walk.bucket}/{prefix}")
            else:
                # Without an order, "everything up to this key" says nothing of what was read.
                memory = SeenMemory(self._env, f"once\0{walk.bucket}/{prefix}")
            await memory.load()
            self._memory = memory
        if isinstance(memory, WalkMemory):
            return self._objects_from(prefix, max(walk.start_after, memory.after))
        return self._new_objects(prefix, memory)

    async def _new_objects(self, prefix: str, memory: SeenMemory) -> AsyncGenerator[Found, None]:
        there = Marks()
        async for found in self._objects_from(prefix, self._walk.start_after):
            mark = memory.mark(found.key, found.etag)
            there.add(mark)
            if mark not in memory and mark not in self._skipped:
                yield found
        if self._walk.prefix.static is not None:
            # With a prefix that moves, what is not in this list may be there all the same.
            memory.forget_all_but(there)

    def _objects_from(self, prefix: str, after: str) -> AsyncGenerator[Found, None]:
        return self._store.found(self._walk.bucket, prefix, after)

    # ---- what is left of an object ----------------------------------------------------------

    def _say(self, key: str, error: Exception) -> None:
        self._unreadable.add()
        self._env.log.error(
            "an object cannot be read to its end; it stays where it is, and what was read of it is "
            "passed on",
            key=key,
            error=str(error),
        )

    def _skip(self, entry: Entry) -> None:
        """Go on behind an object that cannot be read: not again in this life, again in the next."""
        memory = self._memory_of()
        if isinstance(memory, SeenMemory):
            self._skipped.add(memory.mark(entry.key, entry.etag))
            memory.drop(entry)
            return
        entry.finished = True
        memory.moved()

"""The journal: where an acknowledged event is safe until it is delivered.

    write ──> GroupWriter (thread) ── one transaction, one fsync ──> committed ──> settle(None)
                                                                        │
    read  <── FrameReader <── memory while it keeps up, else disk ──────┘
      │
      └── settle(None) ──> deleted with the next group
          settle(failure) ──> the failed messages come again after a delay
          settle(Undeliverable) ──> dead letter and mark, in one transaction
          settle(Dropped) ──> as delivered, and counted under its rule

    and with each of these, in the same transaction, the books (see `ledger`)

Constraints that shape the code:

- One process has the journal (a lock file), one thread writes, one reads.
- A frame is deleted only when each of its events was delivered, dropped by a rule, or is a dead
  letter on disk.
- A frame that cannot be read stays in the file, is counted and reported; the others go on.
- Partly settled frames are remembered on an orderly stop, so a restart repeats nothing that was
  confirmed; after a kill, what was in flight is sent again with the same ids.
- Everything in memory is bounded: writes by `max_pending_bytes`, reads by what the caller holds.

Not promised: that a delivery arrives only once (a receiver that answers after it was killed will see
it again; the id is the same), nor order between frames after a failure.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from openmeter_collector.component.buffer import BufferStatus
from openmeter_collector.errors import EndOfInput, Overloaded, Rejected, StorageError
from openmeter_collector.message import Batch, Delivery, Message
from openmeter_collector.storage.group import Group, StoredFrame
from openmeter_collector.storage.outstanding import Outstanding
from openmeter_collector.storage.reader import DamagedFrame, FrameReader
from openmeter_collector.storage.recovery import mark_damaged, open_or_set_aside
from openmeter_collector.storage.schema import Durability, FileLock
from openmeter_collector.storage.writer import GroupWriter, Keeping

_ACK_DELAY: Final = 0.02
_CHECK_DISK_EVERY: Final = 1.0
_REDELIVER_FIRST: Final = 0.5
_REDELIVER_MOST: Final = 30.0
_SENDER_RETRY: Final = 1.0


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """How a journal behaves.

    Attributes:
        max_bytes: content bytes that may wait for delivery; 0 for no bound but the disk.
        min_free_bytes: refuse to write below this much free space, while there is still room
            for the deletes that make space.
        max_pending_bytes: bytes that may wait in memory for their commit.
        keep_books: seconds for which lines of the books are kept after all of it is dealt with.
        keep_sent: seconds for which what was delivered is kept; 0 for not at all.
        keep_sent_bytes: compressed bytes of that at the most; 0 for no bound.
        detect_conflicts: seconds for which ids are remembered at the least; 0 for not at all.
    """

    path: Path
    durability: Durability = "durable"
    max_bytes: int = 0
    min_free_bytes: int = 64 << 20
    max_pending_bytes: int = 64 << 20
    keep_books: float = 90 * 86_400
    keep_sent: float = 0.0
    detect_conflicts: float = 0.0
    keep_sent_bytes: int = 0


class Journal:
    """The durable buffer. Belongs to one event loop; see `component.buffer.Buffer`."""

    def __init__(self, options: JournalOptions) -> None:
        """Use `Journal.open`."""
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._lock = FileLock(options.path)
        try:
            opened = open_or_set_aside(options.path, options.durability)
        except BaseException:
            self._lock.release()
            raise
        self.set_aside = opened.report
        self._checkpoints = opened.checkpoints
        self._dead_letters = opened.dead_letters
        self._events = opened.events
        self._bytes = opened.size
        self._frames = opened.frames
        self._oldest_on_disk_ms = opened.oldest_ms
        self._reader = FrameReader(options.path, opened.last_id)
        self._writer = GroupWriter(
            options.path,
            options.durability,
            opened.last_id + 1,
            opened.last_letter_id + 1,
            committed=lambda group: self._from_thread(self._committed, group),
            failed=lambda group, text: self._from_thread(self._failed, group, text),
            recovered=lambda: self._from_thread(self._recovered),
            damaged=lambda text: self._from_thread(self._found_damage, text),
            visited=lambda letters: self._from_thread(self._visited, letters),
            keeping=Keeping(
                int(options.keep_books * 1000),
                int(options.keep_sent * 1000),
                int(options.detect_conflicts * 1000),
                options.keep_sent_bytes,
            ),
        )
        self._outstanding: dict[int, Outstanding] = {}
        self._again: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._pending = 0
        self._pending_bytes = 0
        self._failure: str | None = None
        self._damage: str | None = None
        self._free_bytes: int | None = None
        self._free_checked = 0.0
        self._room = asyncio.Event()
        self._room.set()
        self._ack_timer: asyncio.TimerHandle | None = None
        self._draining = False
        self._closed = False
        self.on_group: Callable[[Group], None] | None = None
        """Called on the loop after each commit; the buffer component counts with it."""
        self.on_damaged_frame: Callable[[DamagedFrame], None] | None = None
        """Called on the loop for each frame that cannot be read."""
        self.damaged_frames = 0
        self._read_failure: str | None = None
        self._writer.start()

    @classmethod
    @asynccontextmanager
    async def open(cls, options: JournalOptions) -> AsyncIterator[Journal]:
        """Open, and on leaving write what has gathered and close.

        Raises:
            StorageError: the file is in use, or not ours, or cannot be made.
        """
        journal = cls(options)
        try:
            yield journal
        finally:
            await journal._close()

    # ---- writing ---------------------------------------------------------------------------

    def write(self, delivery: Delivery) -> None:
        """See `Buffer.write`."""
        try:
            size = sum(len(message.content) for message in delivery.batch)
        except (TypeError, ValueError, RecursionError) as error:
            delivery.settle(Rejected(f"a message has no JSON form: {error}"))
            return
        problem = self._why_not(size)
        if problem:
            self._room.clear()
            raise Overloaded(problem, _SENDER_RETRY)
        self._pending += 1
        self._pending_bytes += size
        if self._options.durability == "memory":
            self._writer.add(Delivery(delivery.batch, None, delivery.checkpoints))
            delivery.settle(None)
        else:
            self._writer.add(delivery)

    def dropped(self, messages: Sequence[Message], rule: str) -> None:
        """See `KeepsBooks.dropped`."""
        self._writer.note("dropped", rule, [message.content for message in messages])

    def refused(self, contents: Sequence[bytes], reason: str) -> None:
        """See `KeepsBooks.refused`."""
        self._writer.note("rejected", reason, contents)

    @property
    def keeps_sent(self) -> bool:
        """See `KeepsSent`."""
        return self._options.keep_sent > 0

    def sent(self, batch: Batch) -> None:
        """See `KeepsSent.sent`."""
        self._writer.sent(batch)

    def _why_not(self, size: int) -> str | None:
        options = self._options
        if self._failure is not None:
            return f"the journal cannot be written: {self._failure}"
        if self._closed:
            return f"the journal {options.path} is closed"
        if self._pending_bytes + size > options.max_pending_bytes and self._pending_bytes:
            return (
                f"{options.path}: {self._pending_bytes} bytes wait for the disk; "
                "it is slower than what comes in"
            )
        held = self._bytes + self._pending_bytes
        # What is larger than all the room there is goes alone, or it would never go.
        if options.max_bytes and held and held + max(size, 1) > options.max_bytes:
            return f"{options.path}: holds {held} bytes of at most {int(options.max_bytes)} (max_bytes)"
        return self._disk_is_full()

    def _disk_is_full(self) -> str | None:
        options = self._options
        free = self._free()
        if free is None or free >= options.min_free_bytes:
            return None
        return (
            f"{options.path}: {free} bytes are free on its disk; "
            f"at least {int(options.min_free_bytes)} are kept free (min_free_bytes)"
        )

    async def wait_for_room(self) -> None:
        """See `Buffer.wait_for_room`."""
        # A refused write leaves `_room` cleared: whoever was refused waits for something to
        # change, or looks again after a while, and never goes round without waiting.
        while self._why_not(0) or not self._room.is_set():
            self._room.clear()
            try:
                async with asyncio.timeout(_CHECK_DISK_EVERY):
                    await self._room.wait()
            except TimeoutError:
                self._room.set()

    def _free(self) -> int | None:
        now = time.monotonic()
        if now - self._free_checked >= _CHECK_DISK_EVERY:
            self._free_checked = now
            try:
                stat = os.statvfs(self._options.path.parent)
                self._free_bytes = stat.f_bavail * stat.f_frsize
            except OSError:
                # The folder is gone or the disk is; the next commit says so with its own words.
                self._free_bytes = None
        return self._free_bytes

    # ---- told by the writer's thread ---------------------------------------------------------

    def _from_thread(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop is closed: the process is going down without an orderly stop. What was
            # committed is on disk, and nobody is left who could be told.
            return

    def _committed(self, group: Group) -> None:
        frames = group.all_frames
        for frame in frames:
            self._events += len(frame.batch)
            self._bytes += frame.size
            self._frames += 1
        if not group.refused:
            self._no_longer_pending(group)
        self._dead_letters += len(group.letters)
        self._reader.committed(frames)
        self._arrived.set()
        for delivery in group.deliveries:
            for checkpoint in delivery.checkpoints:
                self._checkpoints[checkpoint.key] = checkpoint.value
            self._settle(delivery, None)
        self._room.set()
        if self.on_group is not None:
            self.on_group(group)

    def _failed(self, group: Group, text: str) -> None:
        self._failure = text
        self._no_longer_pending(group)
        refusal = Overloaded(f"the journal cannot be written: {text}", _SENDER_RETRY)
        for delivery in group.deliveries:
            self._settle(delivery, refusal)

    def _no_longer_pending(self, group: Group) -> None:
        self._pending -= len(group.deliveries)
        self._pending_bytes -= sum(frame.size for frame in group.frames)
        if self._draining:
            self._arrived.set()

    def _settle(self, delivery: Delivery, failure: Exception | None) -> None:
        try:
            delivery.settle(failure)
        except Exception as error:  # noqa: BLE001 - a defect of one must not cost the others
            self._loop.call_exception_handler(
                {"message": "the settling of a delivery raised", "exception": error}
            )

    def _recovered(self) -> None:
        self._failure = None
        self._room.set()

    def _visited(self, dead_letters: int) -> None:
        """A person's command changed the file."""
        self._dead_letters = dead_letters

    def _found_damage(self, text: str) -> None:
        """The file broke while in use. Reading ends with that, and the next start mends it."""
        self._damage = text
        mark_damaged(self._options.path, text)
        self._arrived.set()

    # ---- reading ---------------------------------------------------------------------------

    async def read(self) -> Delivery:
        """See `Buffer.read`."""
        while True:
            if self._damage is not None:
                raise StorageError(
                    f"{self._options.path}: is damaged ({self._damage}); "
                    "start again: it is then set aside, and what can be read is saved"
                )
            if self._again:
                return self._again.popleft()
            frame = self._reader.pop()
            if frame is not None:
                lent = self._give_out(frame)
                if lent.batch:
                    return lent
                # All of it was dealt with before a kill took the acknowledgement.
                lent.settle(None)
            elif self._reader.behind:
                await self._read_more()
            elif self._draining and not self._outstanding and not self._pending:
                raise EndOfInput("the journal is drained")
            else:
                self._arrived.clear()
                await self._arrived.wait()

    async def _read_more(self) -> None:
        try:
            damaged = await self._reader.read_more()
        except apsw.Error as error:
            # A disk that does not read now may read later; what is on it is not lost by waiting.
            self._read_failure = str(error)
            await asyncio.sleep(_CHECK_DISK_EVERY)
            return
        self._read_failure = None
        for frame in damaged:
            self._events -= frame.events
            self._bytes -= frame.size
            self._frames -= 1
            self.damaged_frames += 1
            if self.on_damaged_frame is not None:
                self.on_damaged_frame(frame)

    def _give_out(self, frame: StoredFrame) -> Delivery:
        batch = frame.batch
        positions: Sequence[int] = range(len(batch))
        if frame.done:
            positions = [at for at in positions if not frame.done[at]]
            batch = [batch[at] for at in positions]
        self._outstanding[frame.id] = Outstanding.of(frame)
        return _Lent(batch, self, frame.id, positions)

    def settled(self, lent: _Lent, failure: Exception | None) -> None:
        """A delivery of a frame came back."""
        frame = self._outstanding[lent.frame_id]
        again: list[int] = []
        before = frame.open
        if failure is None:
            frame.delivered(lent.messages, lent.positions)
        else:
            again = frame.judged(lent.messages, lent.positions, failure)
        self._events -= before - frame.open
        if frame.open == 0:
            del self._outstanding[lent.frame_id]
            self._forget(lent.frame_id, frame)
            return
        if frame.has_letters:
            self._writer.settle(frame.settlement(lent.frame_id))
            self._writer.nudge()
        if again:
            self._give_again(lent, frame, again)

    def _give_again(self, lent: _Lent, frame: Outstanding, indexes: list[int]) -> None:
        """Give messages of a delivery out once more, after a delay that grows."""
        frame.attempts += 1
        delay = min(_REDELIVER_MOST, _REDELIVER_FIRST * 2 ** min(frame.attempts - 1, 10))
        again = _Lent(
            [lent.messages[index] for index in indexes],
            self,
            lent.frame_id,
            [lent.positions[index] for index in indexes],
        )
        self._loop.call_later(delay, self._queue_again, again)

    def _queue_again(self, delivery: Delivery) -> None:
        self._again.append(delivery)
        self._arrived.set()

    def _forget(self, frame_id: int, frame: Outstanding) -> None:
        self._bytes -= frame.size
        self._frames -= 1
        self._writer.settle(frame.settlement(frame_id))
        self._room.set()
        if self._draining:
            self._arrived.set()
        if self._ack_timer is None:
            self._ack_timer = self._loop.call_later(_ACK_DELAY, self._nudge)

    def _nudge(self) -> None:
        self._ack_timer = None
        self._writer.nudge()

    def drain(self) -> None:
        """See `Buffer.drain`."""
        self._draining = True
        self._arrived.set()

    # ---- looking ---------------------------------------------------------------------------

    def checkpoint(self, key: str) -> bytes | None:
        """The value last committed for `key`."""
        return self._checkpoints.get(key)

    def status(self) -> BufferStatus:
        """See `Buffer.status`."""
        return BufferStatus(
            events=self._events,
            size_bytes=self._bytes,
            frames=self._frames,
            oldest_age=self._oldest_age(),
            dead_letters=self._dead_letters,
            free_bytes=self._free(),
            failure=self._failure or self._read_failure or self._disk_is_full(),
            room_bytes=self._room_bytes(),
        )

    def _room_bytes(self) -> int | None:
        """What is nearer: the bound on what may wait, or the space that has to stay free."""
        options, free = self._options, self._free()
        bounds = [] if free is None else [free - options.min_free_bytes]
        if options.max_bytes:
            bounds.append(options.max_bytes - self._bytes - self._pending_bytes)
        return max(0, min(bounds)) if bounds else None

    def _oldest_age(self) -> float:
        if self._frames == 0:
            return 0.0
        known = [frame.received_ms for frame in self._outstanding.values()]
        waiting = self._reader.oldest_ms()
        if waiting is not None:
            known.append(waiting)
        elif self._reader.behind and self._oldest_on_disk_ms:
            known.append(self._oldest_on_disk_ms)
        return max(0.0, time.time() - min(known) / 1000) if known else 0.0

    async def _close(self) -> None:
        """Write what has gathered, remember what is half done, close."""
        self._closed = True
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        for frame_id, frame in self._outstanding.items():
            if frame.has_news:
                self._writer.settle(frame.settlement(frame_id))
        # Joining the thread waits for its last commit, whose report then waits in the loop's
        # queue: the turn after this await settles those deliveries.
        # The reader goes first: the last one to close the file empties the log into it.
        await asyncio.to_thread(self._reader.close)
        await asyncio.to_thread(self._writer.stop)
        self._lock.release()
        await asyncio.sleep(0)


class _Lent(Delivery):
    """A delivery that was read from the journal and knows its place in it."""

    __slots__ = ("_journal", "frame_id", "messages", "positions")

    def __init__(
        self, batch: Batch, journal: Journal, frame_id: int, positions: Sequence[int]
    ) -> None:
        super().__init__(batch, self._settled)
        self.messages = batch
        self.frame_id = frame_id
        self.positions = positions
        self._journal = journal

    def _settled(self, failure: Exception | None) -> None:
        self._journal.settled(self, failure)

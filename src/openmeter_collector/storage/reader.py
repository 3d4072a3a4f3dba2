"""Reading the journal in order, from memory while the reader keeps up and from disk when not.

Read by key (`id > last`), so the price of a read does not depend on how much is waiting. Frames that
were just committed are handed over as they are, without a read and without decoding; only when the
backlog outgrows what may stay in memory does the reader turn to the disk, and back again once it has
caught up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import apsw
import msgspec

from openmeter_collector.errors import StorageError
from openmeter_collector.message import Batch
from openmeter_collector.storage.frame import decode_frame
from openmeter_collector.storage.group import StoredFrame
from openmeter_collector.storage.ledger import Tally, tally_of, unpack_tally
from openmeter_collector.storage.schema import close_quietly, open_reader

HOT_BYTES: Final = 32 << 20
_PAGE_BYTES: Final = 8 << 20
_PAGE_FRAMES: Final = 64
FARTHEST: Final = 1 << 62

_READ: Final = """
SELECT id, received_ms, events, size, done, tally, payload FROM frames
WHERE id > ? ORDER BY id LIMIT ?
"""
_NEXT: Final = "SELECT id, events, size FROM frames WHERE id > ? ORDER BY id LIMIT 1"


@dataclass(frozen=True, slots=True)
class DamagedFrame:
    """A frame that is in the file and cannot be read. `id` is the last one when it is a stretch."""

    id: int
    events: int
    size: int
    reason: str


@dataclass(slots=True)
class _Page:
    """What one look at the disk brought."""

    frames: list[StoredFrame] = field(default_factory=list)
    damaged: list[DamagedFrame] = field(default_factory=list)
    read_to: int = 0
    last: bool = False
    """Nothing follows: everything that was committed before the look has been seen."""


class FrameReader:
    """Gives out frames in order of their ids. Belongs to the event loop."""

    def __init__(self, path: Path, last_id: int) -> None:
        """Begin after the beginning; `last_id` is the highest id that was there on opening."""
        self._path = path
        self._read_to = 0
        self._committed_to = last_id
        self._ready: deque[StoredFrame] = deque()
        self._ready_bytes = 0
        # True while everything committed since `_read_to` is in `_ready`.
        self._keeping_up = last_id == 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="journal-reader")
        self._connection: apsw.Connection | None = None

    def committed(self, frames: list[StoredFrame]) -> None:
        """Take note of new frames; called in the order of their ids."""
        for frame in frames:
            self._committed_to = frame.id
            if frame.id <= self._read_to:
                # The disk was read between its commit and this call: it is in `_ready` already.
                continue
            if self._keeping_up and self._ready_bytes + frame.size <= HOT_BYTES:
                self._read_to = frame.id
                self._ready.append(frame)
                self._ready_bytes += frame.size
            else:
                self._keeping_up = False

    def pop(self) -> StoredFrame | None:
        """The next frame, if it is in memory."""
        if not self._ready:
            return None
        frame = self._ready.popleft()
        self._ready_bytes -= frame.size
        return frame

    def oldest_ms(self) -> int | None:
        """When the next frame in memory was received; None when none is in memory."""
        return self._ready[0].received_ms if self._ready else None

    @property
    def behind(self) -> bool:
        """There are, or may be, frames that only a `read_more` can bring."""
        return not self._keeping_up

    async def read_more(self) -> list[DamagedFrame]:
        """Fetch from disk; returns what could not be read, once.

        Cancelling it loses nothing: the same is fetched next time.

        Raises:
            apsw.Error: the disk does not answer; the same is fetched next time.
        """
        # Before the look: what is committed while it lasts may or may not be in it.
        known = self._committed_to
        page = await asyncio.get_running_loop().run_in_executor(
            self._executor, self._fetch, self._read_to
        )
        self._read_to = max(self._read_to, page.read_to, known if page.last else 0)
        self._keeping_up = self._read_to >= self._committed_to
        self._ready.extend(page.frames)
        self._ready_bytes += sum(frame.size for frame in page.frames)
        return page.damaged

    def close(self) -> None:
        """Close the connection and end the thread. Blocks until a look under way has ended."""
        self._executor.shutdown(wait=True)
        if self._connection is not None:
            close_quietly(self._connection)

    # ---- in the thread ---------------------------------------------------------------------

    def _fetch(self, after: int) -> _Page:
        """A few megabytes of frames after an id."""
        if self._connection is None:
            self._connection = open_reader(self._path)
        try:
            return _read_page(self._connection, after, _PAGE_FRAMES)
        except apsw.CorruptError:
            return _read_carefully(self._connection, after)


def _read_page(connection: apsw.Connection, after: int, most: int) -> _Page:
    page = _Page(read_to=after)
    size = rows = 0
    cursor = connection.execute(_READ, (after, most))
    try:
        for frame_id, received_ms, events, length, done, packed, payload in cursor:
            page.read_to = int(frame_id)
            rows += 1
            try:
                batch = decode_frame(payload)
                tally = _tally(batch, done, packed)
                frame = StoredFrame(page.read_to, int(received_ms), int(length), batch, tally, done)
            except (StorageError, TypeError, ValueError, msgspec.MsgspecError) as error:
                # A flipped bit in the head of a row makes a number of a blob, or nothing of it.
                page.damaged.append(
                    DamagedFrame(page.read_to, _whole(events), _whole(length), str(error))
                )
                continue
            page.frames.append(frame)
            size += frame.size
            if size >= _PAGE_BYTES:
                break
        else:
            page.last = rows < most
    finally:
        cursor.close()
    return page


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _tally(batch: Batch, done: bytes | None, packed: bytes | None) -> Tally:
    """The tally of what is not done; the stored one is of the whole frame, older files have none."""
    if done:
        return tally_of(one for one, closed in zip(batch, done, strict=True) if not closed)
    return tally_of(batch) if packed is None else unpack_tally(packed)


def _read_carefully(connection: apsw.Connection, after: int) -> _Page:
    """One frame, or what stands in its place, where a page of the file cannot be read."""
    try:
        row = connection.execute(_NEXT, (after,)).get
    except apsw.CorruptError as error:
        here = next_readable(connection, after)
        damaged = DamagedFrame(max(after, here), 0, 0, f"a stretch of the file: {error}")
        return _Page(damaged=[damaged], read_to=here, last=here == FARTHEST)
    if row is None:
        return _Page(last=True)
    try:
        page = _read_page(connection, after, 1)
    except apsw.CorruptError as error:
        frame_id, events, size = row
        return _Page(damaged=[DamagedFrame(frame_id, events, size, str(error))], read_to=frame_id)
    page.last = False
    return page


def next_readable(connection: apsw.Connection, after: int) -> int:
    """The lowest id behind a broken page after which the file can be read on."""

    def works(at: int) -> bool:
        try:
            connection.execute(_NEXT, (at,)).get  # noqa: B018 - fetching is the question
        except apsw.CorruptError:
            return False
        return True

    low, step = after, 1
    while not works(low + step):
        low += step
        step *= 2
        if low + step >= FARTHEST:
            return FARTHEST
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        if works(middle):
            high = middle
        else:
            low = middle
    return high

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
from pathlib import Path
from typing import Final

import apsw

from openmeter_collector.errors import StorageError
from openmeter_collector.storage.frame import decode_frame
from openmeter_collector.storage.schema import open_reader
from openmeter_collector.storage.writer import StoredFrame

HOT_BYTES: Final = 32 << 20
_PAGE_BYTES: Final = 8 << 20

_READ: Final = """
SELECT id, received_ms, size, done, payload FROM frames WHERE id > ? ORDER BY id LIMIT 64
"""


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
        self.damaged: list[tuple[int, str]] = []

    def committed(self, frames: list[StoredFrame]) -> None:
        """Take note of new frames; called in the order of their ids."""
        for frame in frames:
            self._committed_to = frame.id
            if self._keeping_up and self._ready_bytes + frame.size <= HOT_BYTES:
                self._read_to = frame.id
                self._ready.append(frame)
                self._ready_bytes += frame.size
            elif frame.id > self._read_to:
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

    async def read_more(self) -> None:
        """Fetch from disk. Cancelling it loses nothing: the same is fetched next time."""
        loop = asyncio.get_running_loop()
        frames, read_to = await loop.run_in_executor(self._executor, self._fetch, self._read_to)
        self._read_to = max(self._read_to, read_to)
        # On the loop again, so nothing can be committed between this line and the next.
        if self._read_to >= self._committed_to:
            self._keeping_up = True
        elif not frames and read_to == 0:
            # Told of a commit that a read does not see: it was acked and deleted already.
            self._read_to = self._committed_to
            self._keeping_up = True
        self._ready.extend(frames)
        self._ready_bytes += sum(frame.size for frame in frames)

    def _fetch(self, after: int) -> tuple[list[StoredFrame], int]:
        """Frames after an id, a few megabytes at a time, and how far the read came. In a thread."""
        if self._connection is None:
            self._connection = open_reader(self._path)
        frames: list[StoredFrame] = []
        size = 0
        read_to = 0
        cursor = self._connection.execute(_READ, (after,))
        for frame_id, received_ms, length, done, payload in cursor:
            read_to = int(frame_id)
            try:
                batch = decode_frame(bytes(payload))
            except StorageError as error:
                self.damaged.append((read_to, str(error)))
                continue
            frames.append(StoredFrame(read_to, int(received_ms), int(length), batch, done))
            size += int(length)
            if size >= _PAGE_BYTES:
                break
        cursor.close()
        return frames, read_to

    def close(self) -> None:
        """Close the connection and end the thread."""
        self._executor.shutdown(wait=True)
        if self._connection is not None:
            self._connection.close()

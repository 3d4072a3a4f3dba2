"""A message an element of a JSON array."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    MOST_AT_ONCE,
    Batch,
    ByteSize,
    Env,
    Example,
    Scanned,
    Scanner,
    Source,
    field,
    scanner,
)
from openmeter_collector.components.scanners.common import Track
from openmeter_collector.components.scanners.json_cutter import Cutter, message_of, past_space

EXPORT = Example(
    "An export that is one large array",
    """
    input:
      file:
        paths: [ ./export.json ]
        scanner:
          json_array: {}
    """,
)

_ARRAY, _FIRST, _ELEMENT, _COMMA = range(4)
"""What may come: an array, its first element or its end, an element, a comma or the end."""
_WORDS = {
    _ARRAY: "an array",
    _FIRST: "an element",
    _ELEMENT: "an element",
    _COMMA: "a comma or the end of the array",
}
_AFTER = {
    (_ARRAY, "["): _FIRST,
    (_FIRST, "]"): _ARRAY,
    (_COMMA, ","): _ELEMENT,
    (_COMMA, "]"): _ARRAY,
}


@scanner("json_array", examples=[EXPORT])
class JsonArray:
    """Makes a message of each element of a JSON array, or of several that follow each other.

    The array is never in memory as a whole. A message has the bytes of its element as they are. What
    is no JSON between two commas is flagged, and reading goes on behind it.
    """

    max_bytes: ByteSize = field(
        default=ByteSize("256MiB"), ours=True, advanced=True, doc="Bytes of an element at most."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        del env
        yield _JsonArray(int(self.max_bytes))


class _JsonArray:
    def __init__(self, most: int) -> None:
        self._most = most

    def seeks(self, name: str) -> bool:
        # Behind an element stands a comma or a bracket, so a place alone is not enough.
        del name
        return False

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        reading = _Reading(source)
        async for chunk in source.chunks:
            for found in reading.feed(chunk, last=False):
                yield found
            if reading.size > self._most:
                raise reading.track.unreadable(
                    f"the element is larger than max_bytes ({self._most})"
                )
        for found in reading.feed(b"", last=True):
            yield found


class _Reading:
    """One source: elements, and what is expected next."""

    def __init__(self, source: Source) -> None:
        self.track = Track(source)
        self._metadata = source.metadata
        self._cutter = Cutter()
        self._held = bytearray()
        self._expected = _ARRAY
        self._fault = ""
        self._batch: Batch = []
        self._passed = 0

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return len(self._held)

    def feed(self, chunk: bytes, *, last: bool) -> Iterator[Scanned]:
        """What these bytes complete."""
        self._held += chunk
        while not self._fault and self._step(last=last):
            if len(self._batch) == MOST_AT_ONCE:
                yield self._group()
        if self._batch:
            yield self._group()
        self.track.skip(self._passed)
        self._passed = 0
        if self._fault:
            raise self.track.unreadable(self._fault)
        if last and (self._held or self._expected != _ARRAY):
            raise self.track.unreadable("the array does not end; check that the file is whole")

    def _group(self) -> Scanned:
        batch, self._batch = self._batch, []
        passed, self._passed = self._passed, 0
        return self.track.group(batch, passed)

    def _step(self, *, last: bool) -> bool:
        """Take one thing off; False when there is nothing whole."""
        held = self._held
        if not self._cutter.under_way:
            self._drop(past_space(held))
            if held and (self._expected in {_ARRAY, _COMMA} or held[:1] == b"]"):
                self._mark(chr(held[0]))
                return True
        end = self._cutter.end_of_value(held, last=last) if held else -1
        if end < 0:
            return False
        self._batch.append(message_of(bytes(held[:end]), self._metadata, "json_array"))
        self._drop(end)
        self._expected = _COMMA
        return True

    def _mark(self, mark: str) -> None:
        """One of `[`, `,` and `]`, where it may stand."""
        expected = _AFTER.get((self._expected, mark))
        if expected is None:
            self._fault = (
                f"found {mark!r} where {_WORDS[self._expected]} was expected; check the file, or "
                "choose another scanner"
            )
            return
        self._expected = expected
        self._drop(1)

    def _drop(self, size: int) -> None:
        del self._held[:size]
        self._passed += size

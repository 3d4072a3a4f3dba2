"""A message a line."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    MOST_AT_ONCE,
    Env,
    Example,
    Message,
    Scanned,
    Scanner,
    Source,
    field,
    scanner,
)
from openmeter_collector.components.scanners.common import Track

JSONL = Example(
    "Events, one a line",
    """
    input:
      file:
        paths: [ ./events.jsonl ]
        scanner:
          lines:
            omit_empty: true
    """,
)


@scanner("lines", examples=[JSONL])
class Lines:
    """Makes a message of each line.

    Lines end with a line feed, with a carriage return before it or not; neither is part of the
    message. The last line need not end. Empty lines are messages too, unless they are left out.
    """

    custom_delimiter: str | None = field(
        default=None,
        doc="What stands between messages instead of the end of a line.",
        examples=["---END---"],
    )
    max_buffer_size: int = field(
        default=65536,
        minimum=1,
        doc="Bytes of a line at most; a longer one makes the source unreadable from there on.",
    )
    omit_empty: bool = field(default=False, doc="Leave out empty lines.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        del env
        yield _Lines(self)


class _Lines:
    def __init__(self, config: Lines) -> None:
        self._between = (config.custom_delimiter or "\n").encode()
        self._most = config.max_buffer_size
        self._omit_empty = config.omit_empty

    def seeks(self, name: str) -> bool:
        del name
        return True

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        between = self._between
        track = Track(source)
        pending = bytearray()
        async for chunk in source.chunks:
            looked = max(0, len(pending) - len(between) + 1)
            pending += chunk
            if pending.find(between, looked) >= 0:
                lines = bytes(pending).split(between)
                returns = between == b"\n" and b"\r" in pending
                pending = bytearray(lines.pop())
                for found in self._groups(track, source, lines, len(between), returns=returns):
                    yield found
            # Without the delimiter's own bytes, of which all but the last may be there already.
            if len(pending) >= self._most + len(between):
                raise self._too_long(track)
        if pending:
            returns = between == b"\n"
            for found in self._groups(track, source, [bytes(pending)], 0, returns=returns):
                yield found

    def _groups(
        self, track: Track, source: Source, lines: list[bytes], between: int, *, returns: bool
    ) -> Iterator[Scanned]:
        metadata = source.metadata
        for at in range(0, len(lines), MOST_AT_ONCE):
            some = lines[at : at + MOST_AT_ONCE]
            lengths = list(map(len, some))
            fits = max(lengths) <= self._most
            if not fits:
                good = next(at for at, length in enumerate(lengths) if length > self._most)
                some, lengths = some[:good], lengths[:good]
            size = sum(lengths) + len(some) * between
            kept = self._kept(some, returns=returns)
            if kept:
                yield track.group([Message(line, metadata) for line in kept], size)
            else:
                track.skip(size)
            if not fits:
                raise self._too_long(track)

    def _kept(self, lines: list[bytes], *, returns: bool) -> list[bytes]:
        """What of these is messages; `returns` says that some may end with a carriage return."""
        if returns:
            lines = [line.removesuffix(b"\r") for line in lines]
        return [line for line in lines if line] if self._omit_empty else lines

    def _too_long(self, track: Track) -> Exception:
        return track.unreadable(
            f"the line is longer than max_buffer_size ({self._most}); make that larger, or choose "
            "a scanner that fits what is in there"
        )

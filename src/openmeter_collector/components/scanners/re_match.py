"""Messages that begin where an expression matches."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Env,
    Example,
    Scanned,
    Scanner,
    Source,
    field,
    scanner,
)
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.gotext.regex import Pattern, compile_pattern
from openmeter_collector.components.scanners.common import Track, groups

STAMPED = Example(
    "Entries of a log that begin with a time and may have several lines",
    r"""
    input:
      file:
        paths: [ ./app.log ]
        scanner:
          re_match:
            pattern: '(?m)^\d\d:\d\d:\d\d'
    """,
)


def _pattern_problem(pattern: str) -> str | None:
    try:
        compile_pattern(pattern)
    except Fail as error:
        return str(error)
    return None


@scanner("re_match", examples=[STAMPED])
class ReMatch:
    """Makes messages that each begin where a regular expression matches.

    What stands before the first match is a message as well.
    """

    pattern: str = field(
        doc="The expression. `(?m)` makes `^` match at the beginning of a line.",
        examples=[r"(?m)^\d\d:\d\d:\d\d"],
        lint=_pattern_problem,
    )
    max_buffer_size: int = field(
        default=65536,
        minimum=1,
        doc="Bytes of a message at most; a longer one makes the source unreadable from there on.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        del env
        yield _ReMatch(compile_pattern(self.pattern), self.max_buffer_size)


class _ReMatch:
    def __init__(self, pattern: Pattern, most: int) -> None:
        self._pattern = pattern
        self._most = most

    def seeks(self, name: str) -> bool:
        del name
        return True

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        track = Track(source)
        # Bytes that are no UTF-8 come out again as they came in.
        decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        held = ""
        async for chunk in source.chunks:
            held += decode(chunk)
            *records, held = self._cut(held, last=False)
            for found in self._groups(track, source, records):
                yield found
            if len(held) > self._most:
                raise self._too_long(track)
        *records, held = self._cut(held + decode(b"", final=True), last=True)
        for found in self._groups(track, source, [*records, held] if held else records):
            yield found

    def _cut(self, text: str, *, last: bool) -> Iterator[str]:
        """Records that are whole, and then the one that may still grow.

        A match that reaches the end may become none with more text, so it waits for more.
        """
        begin = 0
        for match in self._pattern.found(text):
            if match.start() > begin and (last or match.end() < len(text)):
                yield text[begin : match.start()]
                begin = match.start()
        yield text[begin:]

    def _groups(self, track: Track, source: Source, records: list[str]) -> Iterator[Scanned]:
        encoded = [record.encode("utf-8", "surrogateescape") for record in records]
        good = next((at for at, one in enumerate(encoded) if len(one) > self._most), len(encoded))
        yield from groups(track, source, encoded[:good], 0)
        if good < len(encoded):
            raise self._too_long(track)

    def _too_long(self, track: Track) -> Exception:
        return track.unreadable(
            f"longer than max_buffer_size ({self._most}) without a match; make that larger, or "
            "change the pattern"
        )

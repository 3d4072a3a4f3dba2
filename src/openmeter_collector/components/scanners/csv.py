"""A message a row of comma separated values."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from openmeter_collector.api import (
    MOST_AT_ONCE,
    Batch,
    ByteSize,
    Env,
    Example,
    Message,
    ProcessingError,
    Scanned,
    Scanner,
    Source,
    Value,
    field,
    scanner,
)
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.gotext.csv import Rows
from openmeter_collector.components.scanners.common import Track

BILLING = Example(
    "A billing export with semicolons",
    """
    input:
      file:
        paths: [ ./billing.csv ]
        scanner:
          csv:
            custom_delimiter: ";"
    """,
)
_FORBIDDEN: Final = '"\r\n\ufffd'


def delimiter_problem(text: str | None) -> str | None:
    """What is wrong with what is to stand between columns."""
    if text and (len(text) != 1 or text in _FORBIDDEN):
        return f"{text!r} cannot stand between columns; give one character, no quote or line end"
    return None


@scanner("csv", examples=[BILLING])
class Csv:
    """Makes a message of each row, with its number from 0 in the metadata `csv_row`.

    With a header row, a message is an object with the names of the columns; all values are texts. A
    row with more or fewer columns than the first one is an error.
    """

    custom_delimiter: str | None = field(
        default=None,
        doc="What stands between columns instead of a comma: one character.",
        examples=[";", "\t"],
        lint=delimiter_problem,
    )
    parse_header_row: bool = field(
        default=True,
        doc="The first row names the columns. If not, each message is an array of the row's values.",
    )
    lazy_quotes: bool = field(
        default=False,
        doc="Allow a quote inside a value that is not quoted, and a single one inside a quoted value.",
    )
    continue_on_error: bool = field(
        default=False,
        doc="Give out a row that is wrong as a message that is flagged with the error, and go on with "
        "the next one. Otherwise reading the source ends there.",
    )
    max_row_bytes: ByteSize = field(
        default=ByteSize("1MiB"),
        ours=True,
        advanced=True,
        doc="Bytes of a row at most. A quote that is never closed makes a row of all that follows.",
    )

    any_length: bool = False
    """What the input `csv` does: rows need not have as many columns as the first, and the names are
    in the metadata `header`. No field: it is that input's way alone."""

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        del env
        yield _Csv(self)


class _Csv:
    def __init__(self, config: Csv) -> None:
        self._config = config

    def seeks(self, name: str) -> bool:
        del name
        return False

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        rows = _Rows(self._config, source)
        async for chunk in source.chunks:
            for found in rows.feed(decode(chunk), last=False):
                yield found
        for found in rows.feed(decode(b"", final=True), last=True):
            yield found


class _Rows:
    """Rows of one source on their way to messages."""

    def __init__(self, config: Csv, source: Source) -> None:
        self._header = config.parse_header_row
        self._any_length = config.any_length
        self._go_on = config.continue_on_error
        self._most = int(config.max_row_bytes)
        self._metadata = source.metadata
        self._track = Track(source, offsets=False)
        self._rows = Rows(config.custom_delimiter or ",", config.lazy_quotes)
        self._names: list[str] | None = None
        self._columns = 0
        self._row = 0

    def feed(self, text: str, *, last: bool) -> Iterator[Scanned]:
        """The messages that this text completes, in groups."""
        self._rows.feed(text, last=last)
        batch: Batch = []
        failure = ""
        while not failure:
            try:
                message = self._next()
            except Fail as error:
                failure = f"{error}; correct it, or set continue_on_error"
                break
            if message is None:
                break
            batch.append(message)
            if len(batch) == MOST_AT_ONCE:
                yield self._track.group(batch, 0)
                batch = []
        if batch:
            yield self._track.group(batch, 0)
        if not failure and self._rows.held > self._most and not last:
            failure = (
                f"the row is longer than max_row_bytes ({self._most}); look for a quote that is not "
                "closed"
            )
        if failure:
            raise self._track.unreadable(failure)

    def _next(self) -> Message | None:
        """The next row; None when there is none that is whole.

        Raises:
            Fail: it is wrong, and that is not to be passed on.
        """
        try:
            values = self._rows.next()
            if values is not None and not self._columns:
                self._columns = len(values)
                if self._header:
                    self._names = values
                    if self._any_length:
                        self._metadata = {**self._metadata, "header": values}
                    values = self._rows.next()
        except Fail as error:
            return self._flagged([], error)
        if values is None:
            return None
        if len(values) != self._columns and not self._any_length:
            text = f"record on line {self._rows.first}: wrong number of fields"
            return self._flagged(values, Fail(text))
        return self._message(values)

    def _flagged(self, values: list[str], error: Fail) -> Message:
        if not self._go_on or (self._header and self._names is None):
            raise error
        return self._message(values).with_error(ProcessingError(str(error), "csv"))

    def _message(self, values: list[str]) -> Message:
        metadata = {**self._metadata, "csv_row": self._row}
        self._row += 1
        value: Value = values
        if self._names is not None and not (self._any_length and len(values) > self._columns):
            value = dict(zip(self._names, values, strict=False))
        return Message(None, metadata, value=value)

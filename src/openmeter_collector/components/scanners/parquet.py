"""A message a row of a Parquet file."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import IO, Any, Final

from openmeter_collector.api import (
    MOST_AT_ONCE,
    Env,
    Example,
    Message,
    Scanned,
    Scanner,
    Source,
    scanner,
)
from openmeter_collector.components import extras
from openmeter_collector.components.rows import plain
from openmeter_collector.components.scanners.common import Track
from openmeter_collector.values.moment import nanoseconds_text

_ROWS: Final = 4 * MOST_AT_ONCE
_UNITS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}

EXPORT = Example(
    "Rows of Parquet files in a bucket",
    """
    input:
      aws_s3:
        bucket: exports
        prefix: usage/
        scanner:
          parquet: {}
    """,
)


@scanner("parquet", ours=True, examples=[EXPORT])
class Parquet:
    """Makes a message of each row of a Parquet file: an object with the names of the columns.

    Decimals are exact numbers, timestamps RFC 3339 (without a zone: in UTC) to the nanosecond, dates
    ISO 8601, bytes base64. What is in a Parquet file is told at its end, so the file is put on disk
    first (the system's folder for temporary files) and read from there, some rows at a time.
    """

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        """Loads the library.

        Raises:
            ConfigError: it is not installed.
        """
        arrow, parquet = extras.load(
            f"{env.node.path}.parquet", "files", "pyarrow", "pyarrow.parquet"
        )
        yield _Parquet(arrow, parquet)


class _Parquet:
    def __init__(self, arrow: Any, parquet: Any) -> None:
        self._arrow = arrow
        self._parquet = parquet

    def seeks(self, name: str) -> bool:
        del name
        return False

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        track = Track(source, offsets=False)
        with tempfile.TemporaryFile() as spool:
            async for chunk in source.chunks:
                await asyncio.to_thread(spool.write, chunk)
            if not spool.tell():
                return
            try:
                batches = await asyncio.to_thread(self._opened, spool)
                while (rows := await asyncio.to_thread(next, batches, None)) is not None:
                    for at in range(0, len(rows), MOST_AT_ONCE):
                        some = rows[at : at + MOST_AT_ONCE]
                        batch = [Message(None, source.metadata, value=row) for row in some]
                        yield track.group(batch, 0)
            except (self._arrow.ArrowException, OSError, ValueError) as error:
                raise track.unreadable(
                    f"not a whole Parquet file: {error}; check how it was made"
                ) from error

    def _opened(self, spool: IO[bytes]) -> Iterator[list[dict[str, Any]]]:
        spool.seek(0)
        file = self._parquet.ParquetFile(spool, pre_buffer=False)
        return (self._rows(batch) for batch in file.iter_batches(batch_size=_ROWS))

    def _rows(self, batch: Any) -> list[dict[str, Any]]:
        names = batch.schema.names
        columns = [
            self._column(field.type, column)
            for field, column in zip(batch.schema, batch.columns, strict=True)
        ]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def _column(self, kind: Any, column: Any) -> list[Any]:
        types = self._arrow.types
        if types.is_timestamp(kind):
            # By number: Python's moments end at the microsecond.
            unit = _UNITS[kind.unit]
            found = column.cast(self._arrow.int64()).to_pylist()
            return [None if one is None else nanoseconds_text(one * unit) for one in found]
        values: list[Any] = column.to_pylist()
        simple = types.is_integer(kind) or types.is_boolean(kind) or types.is_string(kind)
        return values if simple else [plain(one) for one in values]

"""Reads messages from files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Env,
    Example,
    Puller,
    ScannerNode,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.inputs.reading_files import Files, find_files

JSONL = Example(
    "Lines of all files of a folder",
    """
    input:
      file:
        paths: [ ./data/*.jsonl ]
        scanner:
          lines: {}
    """,
)
EXPORTS = Example(
    "Compressed CSV files, deleted when all of their rows are safe",
    """
    input:
      file:
        paths: [ ./exports/**/*.csv.gz ]
        delete_on_finish: true
        scanner:
          decompress:
            algorithm: gzip
            into:
              csv: {}
    """,
)


@input("file", dangerous="files", categories=("Local",), examples=[JSONL, EXPORTS])
class FileInput:
    """Reads files, one after the other, and ends.

    The files are those that are there when the input is opened. Messages carry the metadata `path`,
    `mod_time_unix` (a number) and `mod_time` (RFC 3339) of their file.

    A file that cannot be read to its end (no permission, a line that is too long, damaged compression)
    is said in the log with the place, counted in `input_source_unreadable` and never deleted; what was
    read of it is passed on, and the next file is read.
    """

    paths: list[str] = field(
        doc="Files or globs (`**` for all folders below), in this order.", minimum=1
    )
    codec: ScannerNode | None = field(
        default=None,
        deprecated=True,
        doc="An older way to name the scanner: `lines`, `delim:x`, `all-bytes`, `csv`, `gzip/csv`, ...",
    )
    max_buffer: int = field(
        default=1000000,
        deprecated=True,
        doc="Not used: records of a `codec` may have up to 64 MiB.",
    )
    scanner: ScannerNode = field(
        default_config="lines: {}", doc="How the bytes of a file become messages."
    )
    delete_on_finish: bool = field(
        default=False,
        advanced=True,
        doc="Delete a file when it was read to its end and all of it is safe.",
    )
    auto_replay_nacks: bool = field(
        default=True, doc="Repeat messages that could not be delivered. There is no other way."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller]:
        """Finds the files.

        Raises:
            ConfigError: a path names none.
        """
        files = await asyncio.to_thread(find_files, self.paths, f"{env.node.path}.file.paths")
        async with env.scanner(self.codec or self.scanner) as scanner:
            reader = Files(env, scanner, files, delete=self.delete_on_finish)
            try:
                yield reader
            finally:
                await reader.close()

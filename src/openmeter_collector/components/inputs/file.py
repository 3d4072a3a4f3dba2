"""Reads messages from files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from openmeter_collector.api import (
    ConfigError,
    Duration,
    Env,
    Example,
    Puller,
    ScannerNode,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.inputs.following import Follow, Follower
from openmeter_collector.components.inputs.numbered import Numbered
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

    **Following.** With `follow` the input does not end: it goes on with what is appended, and with
    files that come. A file is known by its inode, so that one that is rotated to another name is read to
    its end and not again; let the glob cover the rotated names (`app.log*`) so that it is found after
    a restart, too. One that is truncated is read from its beginning. How far a file was read is
    remembered with the events (in the same transaction with the buffer `sqlite`), and reading goes on
    there after a restart or a crash. Messages then carry `file_id` as well: the same for the same
    record of the same file, to be used as the id of events.
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
    follow: bool = field(
        default=False, ours=True, doc="Do not end: go on with what is appended and with new files."
    )
    poll_interval: Duration = field(
        default=Duration("250ms"), ours=True, doc="With `follow`: how often is looked for more."
    )
    start_at: Literal["beginning", "end"] = field(
        default="beginning",
        ours=True,
        choices={
            "beginning": "All that is in a file.",
            "end": "Of files that are there when the input first runs, only what is appended.",
        },
        doc="With `follow`: where to begin with a file that is not known yet.",
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
        if self.follow:
            async with self._following(env) as follower:
                yield follower
            return
        files = await asyncio.to_thread(find_files, self.paths, f"{env.node.path}.file.paths")
        async with env.scanner(self.codec or self.scanner) as scanner:
            reader = Files(env, scanner, files, delete=self.delete_on_finish)
            try:
                yield reader
            finally:
                await reader.close()

    @asynccontextmanager
    async def _following(self, env: Env) -> AsyncIterator[Puller]:
        if self.delete_on_finish:
            raise ConfigError(
                f"{env.node.path}.file: delete_on_finish and follow do not go together; a file that is "
                "followed has no end"
            )
        follow = Follow(tuple(self.paths), float(self.poll_interval), at_end=self.start_at == "end")
        async with env.scanner(self.codec or self.scanner) as scanner:
            follower = Follower(env, Numbered(scanner, "file_id"), follow)
            try:
                yield follower
            finally:
                await follower.close()

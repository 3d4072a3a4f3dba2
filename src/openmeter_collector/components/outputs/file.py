"""Appends messages to files."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from openmeter_collector.api import (
    Batch,
    CollectorError,
    Env,
    Example,
    Interpolated,
    Output,
    Rejected,
    Retryable,
    as_failure,
    field,
    output,
)
from openmeter_collector.components.outputs.stdout import check_codec, delimiter, ended

BY_DAY = Example(
    "A file for each day",
    """
    output:
      file:
        path: /var/lib/collector/${! now().ts_format("2006-01-02") }.jsonl
        codec: lines
    """,
)


@output("file", dangerous="files", categories=("Local",), examples=[BY_DAY])
class File:
    """Writes messages to files. Folders are made when they are missing.

    A message counts as delivered when it is on the disk (the file is synchronised after each batch).
    """

    path: Interpolated = field(
        doc="The file. May hold expressions, evaluated for each message.",
        examples=["/tmp/data.txt", "/tmp/${! this.document.id }.json"],  # noqa: S108 - an example
    )
    codec: str = field(
        default="lines",
        doc="How messages are written: `lines` adds a line break to each that has none, `append` nothing, "
        "`delim:x` the text x; `all-bytes` replaces the file with each message.",
        examples=["lines", "append", "delim:|", "all-bytes"],
        lint=check_codec,
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        del env
        yield _Writer(self)


class _Writer:
    def __init__(self, config: File) -> None:
        self._path = config.path
        self._replace = config.codec == "all-bytes"
        self._after = delimiter(config.codec)
        self._turn = asyncio.Lock()

    async def write(self, batch: Batch) -> None:
        verdicts: dict[int, Exception] = {}
        of_files: dict[str, list[int]] = {}
        for index in range(len(batch)):
            try:
                of_files.setdefault(self._path.resolve(batch, index), []).append(index)
            except CollectorError as error:
                verdicts[index] = Rejected(f"file: the path of this message: {error}")
        async with self._turn:
            for path, indexes in of_files.items():
                contents = [batch[index].content for index in indexes]
                try:
                    await asyncio.to_thread(self._store, Path(path), contents)
                except (OSError, ValueError) as error:
                    verdicts |= dict.fromkeys(indexes, Retryable(f"file {path}: {error}"))
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure

    def _store(self, path: Path, contents: list[bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = (
            contents[-1]
            if self._replace
            else b"".join([ended(one, self._after) for one in contents])
        )
        with path.open("wb" if self._replace else "ab") as file:
            # A pipe or a device has no place to go back to, and no disk behind it.
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            before = file.tell() if regular and not self._replace else 0
            try:
                file.write(data)
                file.flush()
                if regular:
                    os.fsync(file.fileno())
            except OSError:
                # Half a line must not stay: the batch is written again, whole.
                if regular:
                    os.ftruncate(file.fileno(), before)
                raise

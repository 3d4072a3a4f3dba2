"""Reads messages from files."""

from __future__ import annotations

import asyncio
import glob
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from openmeter_collector.api import (
    ConfigError,
    Delivery,
    EndOfInput,
    Env,
    Example,
    Message,
    Puller,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.inputs.lines import codec_problem, reader_of
from openmeter_collector.components.inputs.stdin import scanner_codec

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
_AT_ONCE = 100


@input("file", dangerous="files", categories=("Local",), examples=[JSONL])
class FileInput:
    """Reads files, one after the other, and ends.

    Messages carry the metadata `path`, `mod_time_unix` and `mod_time` (RFC 3339) of their file. A
    file with `delete_on_finish` is deleted when all of its messages are safe.
    """

    paths: list[str] = field(
        doc="Files or globs (`**` for all folders below), in this order.", minimum=1
    )
    codec: str = field(
        default="lines",
        doc="Where a message ends: `lines`, `delim:x` at the text x, `all-bytes` at the file's end.",
        lint=codec_problem,
    )
    scanner: Any = field(
        default=None, doc="The same as a component: `lines: {}` or `to_the_end: {}`."
    )
    delete_on_finish: bool = field(default=False, doc="Delete a file that was read and is safe.")
    auto_replay_nacks: bool = field(
        default=True, doc="Repeat messages that could not be delivered. There is no other way."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller]:
        """Finds the files.

        Raises:
            ConfigError: a path names none.
        """
        codec = scanner_codec(self.scanner, self.codec, env.node.path)
        files = await asyncio.to_thread(_find, self.paths)
        reader = _Reader(self, env, codec, files)
        try:
            yield reader
        finally:
            reader.close()


class _Open:
    """A file that is being read."""

    def __init__(self, path: Path, codec: str) -> None:
        self.path = path
        self.stream = path.open("rb")
        self.messages: Iterator[bytes] = reader_of(codec)(self.stream)
        changed = path.stat().st_mtime
        self.metadata = {
            "path": str(path),
            "mod_time_unix": str(int(changed)),
            "mod_time": datetime.fromtimestamp(changed, UTC).isoformat().replace("+00:00", "Z"),
        }
        self.under_way = 0
        self.finished = False

    def next_ones(self) -> list[bytes]:
        """The next messages; none at the end."""
        return list(islice(self.messages, _AT_ONCE))


class _Reader:
    def __init__(self, config: FileInput, env: Env, codec: str, files: list[Path]) -> None:
        self._env = env
        self._codec = codec
        self._delete = config.delete_on_finish
        self._files = iter(files)
        self._now: _Open | None = None

    async def read(self) -> Delivery:
        while True:
            if self._now is None:
                path = next(self._files, None)
                if path is None:
                    raise EndOfInput("all files are read")
                try:
                    self._now = await asyncio.to_thread(_Open, path, self._codec)
                except OSError as error:
                    self._env.log.warning("a file cannot be read", file=str(path), error=str(error))
                    continue
            file = self._now
            contents = await asyncio.to_thread(file.next_ones)
            if contents:
                file.under_way += 1
                batch = [Message(content, file.metadata) for content in contents]
                return Delivery(batch, partial(self._settled, file))
            file.finished = True
            file.stream.close()
            self._now = None
            self._done(file)

    def close(self) -> None:
        """Close what is being read."""
        if self._now is not None:
            self._now.stream.close()

    def _settled(self, file: _Open, failure: Exception | None) -> None:
        if failure is None:
            file.under_way -= 1
            self._done(file)

    def _done(self, file: _Open) -> None:
        if file.finished and not file.under_way and self._delete:
            file.path.unlink(missing_ok=True)


def _find(patterns: list[str]) -> list[Path]:
    found: dict[Path, None] = {}
    for pattern in patterns:
        if Path(pattern).is_file():
            found[Path(pattern)] = None
            continue
        matches = [Path(one) for one in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - absolute patterns
        files = [one for one in matches if one.is_file()]
        if not files and not glob.has_magic(pattern):
            raise ConfigError(f"input.file.paths: {pattern}: no such file")
        found |= dict.fromkeys(files)
    return list(found)

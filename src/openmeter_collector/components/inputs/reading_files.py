"""Reading files one after the other, for inputs whose sources are files."""

from __future__ import annotations

import asyncio
import glob
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from openmeter_collector.api import (
    ConfigError,
    Delivery,
    EndOfInput,
    Env,
    Metadata,
    Reading,
    Scanner,
    Source,
    Unreadable,
)

CHUNK: Final = 256 << 10
"""Bytes read at a time."""


class Files:
    """A `Puller` that reads files in their order, and ends."""

    def __init__(self, env: Env, scanner: Scanner, files: list[Path], *, delete: bool) -> None:
        """`delete`: remove a file when all of it was read and is safe."""
        self._env = env
        self._scanner = scanner
        self._files = iter(files)
        self._delete = delete
        self._now: _Open | None = None
        self._unreadable = env.metrics.counter(
            "input_source_unreadable", "Files that could not be read to their end."
        )

    async def read(self) -> Delivery:
        """The next messages.

        Raises:
            EndOfInput: all files are read.
        """
        while True:
            if self._now is None:
                self._now = await self._next_file()
                continue
            try:
                delivery = await self._now.reading.next()
            except (Unreadable, OSError) as error:
                self._say(self._now.path, error)
                delivery = None
            if delivery is not None:
                return delivery
            await self.close()

    async def close(self) -> None:
        """Close the file that is being read."""
        if self._now is not None:
            now, self._now = self._now, None
            await now.close()

    async def _next_file(self) -> _Open | None:
        path = next(self._files, None)
        if path is None:
            raise EndOfInput("all files are read")
        try:
            opened = await asyncio.to_thread(path.open, "rb")
        except OSError as error:
            self._say(path, error)
            return None
        finished = partial(path.unlink, missing_ok=True) if self._delete else None
        return _Open(self._scanner, path, opened, finished)

    def _say(self, path: Path, error: Exception) -> None:
        self._unreadable.add()
        self._env.log.error(
            "a file cannot be read to its end; it stays where it is, and what was read of it is "
            "passed on",
            file=str(path),
            error=str(error),
        )


class _Open:
    """A file that is being read."""

    def __init__(
        self,
        scanner: Scanner,
        path: Path,
        stream: BinaryIO,
        finished: Callable[[], None] | None,
    ) -> None:
        self.path = path
        self._stream = stream
        self._chunks = chunks_of(stream)
        source = Source(str(path), self._chunks, metadata_of(path))
        self.reading = Reading(scanner, source, finished=finished)

    async def close(self) -> None:
        await self.reading.close()
        await self._chunks.aclose()
        self._stream.close()


async def chunks_of(stream: BinaryIO) -> AsyncGenerator[bytes, None]:
    """The bytes of a stream, read in a thread: whoever writes into it may take their time."""
    read = getattr(stream, "read1", stream.read)
    while chunk := await asyncio.to_thread(read, CHUNK):
        yield chunk


def metadata_of(path: Path) -> Metadata:
    """What every message of a file carries."""
    changed = path.stat().st_mtime
    return {
        "path": str(path),
        "mod_time_unix": int(changed),
        "mod_time": datetime.fromtimestamp(int(changed), UTC).isoformat().replace("+00:00", "Z"),
    }


def find_files(patterns: list[str], where: str) -> list[Path]:
    """The files that paths and globs name, each once, in this order.

    Raises:
        ConfigError: a path that is no glob names none.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if Path(pattern).is_file():
            found[Path(pattern)] = None
            continue
        matches = [Path(one) for one in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - absolute patterns
        files = [one for one in matches if one.is_file()]
        if not files and not glob.has_magic(pattern):
            raise ConfigError(
                f"{where}: {pattern}: no such file; correct the path, or use a glob if it may be "
                "missing"
            )
        found |= dict.fromkeys(files)
    return list(found)

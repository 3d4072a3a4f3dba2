"""A cache in files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from openmeter_collector.api import Cache, ConfigError, Env, Example, Retryable, cache, field

FOLDER = Example(
    "Values in a folder",
    """
    cache_resources:
      - label: names
        file:
          directory: ./names
    """,
)


@cache("file", dangerous="files", categories=("Local",), examples=[FOLDER])
class File:
    """Keeps each value in a file of its own in a folder, until it is deleted.

    A file is named like its key; what cannot stand in a file's name is written with `%`. A value is
    there as a whole or not at all, whenever the process ends. Times to live have no effect.
    """

    directory: str = field(doc="The folder; made when it is not there.", minimum=1)

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Cache]:
        folder = Path(self.directory)
        try:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{env.node.where} cache file: {error}; check directory") from error
        yield _Folder(folder)


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def get(self, key: str) -> bytes | None:
        return await asyncio.to_thread(self._read, self._path(key))

    async def set(self, key: str, value: bytes, ttl: float | None = None) -> None:
        del ttl
        await asyncio.to_thread(self._write, self._path(key), value, exclusive=False)

    async def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        del ttl
        return await asyncio.to_thread(self._write, self._path(key), value, exclusive=True)

    async def delete(self, key: str) -> None:
        try:
            await asyncio.to_thread(self._path(key).unlink, missing_ok=True)
        except OSError as error:
            raise Retryable(f"cache file: {error}") from error

    def _path(self, key: str) -> Path:
        return self._folder / file_name(key)

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Retryable(f"cache file: {error}") from error

    def _write(self, path: Path, value: bytes, *, exclusive: bool) -> bool:
        try:
            number, name = tempfile.mkstemp(prefix="%tmp-", dir=self._folder)
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(value)
                    file.flush()
                    os.fsync(file.fileno())
                if exclusive:
                    os.link(name, path)  # fails if there is one, whoever else is writing
                else:
                    os.replace(name, path)  # noqa: PTH105 - beside os.link
            finally:
                with suppress(FileNotFoundError):
                    Path(name).unlink()
        except FileExistsError:
            return False
        except OSError as error:
            raise Retryable(f"cache file: {error}") from error
        return True


def file_name(key: str) -> str:
    """A name for a key: never another folder, never too long."""
    name = urllib.parse.quote(key, safe=" !#$&'()+,;=@[]^_`{}~-.", errors="surrogateescape")
    if name in {"", ".", ".."}:
        return name.replace(".", "%2E") or "%"
    if len(name) > 200:
        return f"{name[:100]}%{hashlib.sha256(name.encode()).hexdigest()}"
    return name

"""Positions in a file, for replicas on one machine or on a shared file system that has locks."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import orjson

from openmeter_collector.engine.stores.shared import Kept, merged, refuse_older
from openmeter_collector.errors import Retryable

T = TypeVar("T")


class FileBackend:
    """See `engine.stores.shared.Backend`. The file is replaced as a whole, with an fsync, under a lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self, key: str) -> Kept | None:
        return (await asyncio.to_thread(self._locked, self._content)).get(key)

    async def all(self) -> dict[str, Kept]:
        return await asyncio.to_thread(self._locked, self._content)

    async def write(self, changes: Mapping[str, Kept]) -> None:
        def change() -> None:
            content = self._content()
            for key, written in changes.items():
                refuse_older(key, content.get(key), written)
                content[key] = merged(content.get(key), written)
            self._replace(content)

        await asyncio.to_thread(self._locked, change)

    def _locked(self, work: Callable[[], T]) -> T:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return work()
            finally:
                os.close(lock)
        except OSError as error:
            raise Retryable(f"state file {self._path}: {error.strerror}") from error

    def _content(self) -> dict[str, Kept]:
        try:
            rows = orjson.loads(self._path.read_bytes())
            return {
                str(key): Kept(
                    int(term), None if value is None else base64.b64decode(value, validate=True)
                )
                for key, (term, value) in rows.items()
            }
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            # Beginning anew would bill again, or leave out, what nobody can tell any more.
            raise Retryable(
                f"state file {self._path}: it is damaged; restore it, or remove it to begin anew"
            ) from error

    def _replace(self, content: Mapping[str, Kept]) -> None:
        rows = {
            key: [kept.term, None if kept.value is None else base64.b64encode(kept.value).decode()]
            for key, kept in content.items()
        }
        replace_durably(self._path, orjson.dumps(rows))


def replace_durably(path: Path, content: bytes) -> None:
    """Put a file in the place of another: whoever looks, also after a power cut, finds one of the two.

    Raises:
        OSError: it cannot be written; the old one is as it was.
    """
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

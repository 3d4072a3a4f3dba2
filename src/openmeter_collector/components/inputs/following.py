"""Following files: what is appended, files that come, are rotated, or are cut off.

A file is known by its inode and by how it begins. Where it is remembered is told by `component.state`:
one name a file, and what is remembered only tells of records that are safe, or become so with it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import orjson
import xxhash

from openmeter_collector.api import (
    Checkpoint,
    ConfigError,
    Delivery,
    Env,
    Position,
    Reading,
    Scanner,
    Source,
    Unreadable,
)
from openmeter_collector.components.inputs.reading_files import CHUNK, find_files, metadata_of

_RAN: Final = "followed"
"""Name of the mark that this input has run."""
_HEAD: Final = 256
"""Bytes at the beginning of a file that it is known by."""
_QUIET: Final = 5.0
"""Seconds without anything new after which a file that nobody can open any more is let go of."""
_AHEAD: Final = 16
"""Deliveries that wait to be taken; beyond it nothing more is read."""


@dataclass(frozen=True, slots=True)
class Follow:
    """What is followed.

    Attributes:
        interval: seconds between looks.
        at_end: begin behind what is in the files when this input first runs.
    """

    paths: tuple[str, ...]
    interval: float
    at_end: bool


class _CutOff(Exception):
    """The file is shorter than what was read of it, or begins in another way: it is a new one."""


@dataclass(slots=True)
class _Known:
    """What is remembered of a file.

    Attributes:
        began: when it was first seen, which makes an inode that is used again another file.
        head: how it begins, as far as it was read.
    """

    began: float
    head: bytes
    position: Position

    def encoded(self) -> bytes:
        at = self.position
        return orjson.dumps(
            {
                "began": self.began,
                "head": self.head.hex(),
                "records": at.records,
                "offset": at.offset,
            }
        )

    @classmethod
    def decoded(cls, kept: bytes) -> _Known:
        found = orjson.loads(kept)
        position = Position(found["records"], found["offset"])
        return cls(found["began"], bytes.fromhex(found["head"]), position)


class Follower:
    """A `Puller`."""

    def __init__(self, env: Env, scanner: Scanner, follow: Follow) -> None:
        """Nothing is opened until the first `read`."""
        self._env = env
        self._scanner = scanner
        self._follow = follow
        self._ready: asyncio.Queue[Delivery | Exception] = asyncio.Queue(_AHEAD)
        self._tails: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._finder: asyncio.Task[None] | None = None
        self._at_end = follow.at_end
        self._refused: set[str] = set()
        self._unreadable = env.metrics.counter(
            "input_source_unreadable", "Files that could not be read to their end."
        )

    async def read(self) -> Delivery:
        """The next messages; waits until there are some.

        Raises:
            Retryable: what is remembered cannot be read now.
        """
        if self._finder is None:
            self._finder = asyncio.ensure_future(self._guarded(self._find()))
        found = await self._ready.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def close(self) -> None:
        """Stop following."""
        tasks = [*self._tails.values(), *([self._finder] if self._finder else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _guarded(self, work: object) -> None:
        """What goes wrong in the background is raised by the next `read`."""
        try:
            await work  # type: ignore[misc]
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - handed over, not kept
            await self._ready.put(error)

    async def _find(self) -> None:
        """Look for files, for ever."""
        if self._at_end:
            # Only once: what came while nobody looked is read from its beginning.
            self._at_end = await self._env.state.load(_RAN) is None
            await self._remember(self._env.state.checkpoint(_RAN, b"1"))
        while True:
            for path in await asyncio.to_thread(self._files):
                await self._look_at(path)
            self._at_end = False
            await self._env.sleep(self._follow.interval)

    def _files(self) -> list[Path]:
        """The files that are there; a path that names none yet may do so later."""
        found: dict[Path, None] = {}
        for pattern in self._follow.paths:
            try:
                found |= dict.fromkeys(find_files([pattern], ""))
            except ConfigError:
                continue  # not there yet
        return list(found)

    async def _look_at(self, path: Path) -> None:
        try:
            about = await asyncio.to_thread(path.stat)
            inode = (about.st_dev, about.st_ino)
            if inode in self._tails:
                return  # followed already; or given up on, and said so
            stream = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            return  # gone between two looks
        except OSError as error:
            if str(path) not in self._refused:
                self._refused.add(str(path))
                self._say(path, error)
            return
        about = os.fstat(stream.fileno())
        inode = (about.st_dev, about.st_ino)
        if inode in self._tails:
            stream.close()
            return
        tail = _Tail(self._env, self._scanner, self._follow, path, stream)
        at_end = self._at_end
        self._tails[inode] = asyncio.ensure_future(self._guarded(self._run(tail, inode, at_end)))

    async def _remember(self, checkpoint: Checkpoint) -> None:
        """Hand over a checkpoint without events, and wait until it is true."""
        true = asyncio.Event()
        await self._ready.put(Delivery([], lambda _: true.set(), (checkpoint,)))
        await true.wait()

    async def _run(self, tail: _Tail, inode: tuple[int, int], at_end: bool) -> None:
        try:
            known, skipped = await tail.known(at_end=at_end)
            if skipped:
                await self._remember(tail.checkpoint(known))
            while True:
                try:
                    await self._hand_over(tail, known)
                except _CutOff:
                    known = tail.unknown()
                    continue
                break
        except Unreadable as error:
            # Kept among the tails, so that it is not begun again and again.
            self._say(tail.path, error)
            return
        finally:
            tail.close()
        del self._tails[inode]

    async def _hand_over(self, tail: _Tail, known: _Known) -> None:
        chunks = tail.chunks(known)
        reading = tail.reading(known, chunks)
        try:
            while (delivery := await reading.next()) is not None:
                await self._ready.put(delivery)
        finally:
            await reading.close()
            await chunks.aclose()

    def _say(self, path: Path, error: Exception) -> None:
        self._unreadable.add()
        self._env.log.error("a file cannot be followed", file=str(path), error=str(error))


class _Tail:
    """One file."""

    def __init__(
        self, env: Env, scanner: Scanner, follow: Follow, path: Path, stream: BinaryIO
    ) -> None:
        self._env = env
        self._scanner = scanner
        self._follow = follow
        self.path = path
        self._stream = stream
        about = os.fstat(stream.fileno())
        self._inode = (about.st_dev, about.st_ino)
        self._name = f"file/{about.st_dev:x}-{about.st_ino:x}"

    async def known(self, *, at_end: bool) -> tuple[_Known, bool]:
        """What is remembered of it, if it is still the same; else a beginning, and whether that is
        at its end.

        Raises:
            Retryable: it cannot be read now.
        """
        kept = await self._env.state.load(self._name)
        if kept is not None:
            known = _Known.decoded(kept)
            if self._is(known, known.position.offset or 0):
                return known, False
        made = self.unknown()
        if at_end and kept is None:
            size = os.fstat(self._stream.fileno()).st_size
            made.position = Position(0, size)
            return made, True
        return made, False

    def unknown(self) -> _Known:
        """It is read from its beginning."""
        return _Known(self._env.now(), b"", Position())

    def close(self) -> None:
        """Let go of it."""
        self._stream.close()

    def checkpoint(self, known: _Known) -> Checkpoint:
        """What is known, to be remembered."""
        offset = known.position.offset
        if len(known.head) < _HEAD and offset:
            known.head = self._head(min(_HEAD, offset))
        return self._env.state.checkpoint(self._name, known.encoded())

    def reading(self, known: _Known, chunks: AsyncGenerator[bytes, None]) -> Reading:
        """Its records from where it is known to."""

        def checkpoint(position: Position) -> Checkpoint:
            known.position = position
            return self.checkpoint(known)

        device, number = self._inode
        identity = xxhash.xxh3_64_hexdigest(f"{device}-{number}-{known.began}".encode())
        metadata = {**_metadata(self.path), "file_id": identity}
        source = Source(str(self.path), chunks, metadata, known.position)
        return Reading(self._scanner, source, checkpoint=checkpoint)

    async def chunks(self, known: _Known) -> AsyncGenerator[bytes, None]:
        """Its bytes as they come; ends when it has no name any more and nothing comes.

        Raises:
            _CutOff: it was truncated.
        """
        at = (known.position.offset or 0) if self._scanner.seeks(str(self.path)) else 0
        self._stream.seek(at)
        head = known.head
        waited, quiet = False, 0.0
        while True:
            if waited and not self._is(_Known(0.0, head, Position()), at):
                raise _CutOff
            data = await asyncio.to_thread(self._stream.read, CHUNK)
            if data:
                at += len(data)
                if len(head) < _HEAD:
                    head = self._head(min(_HEAD, at))
                waited, quiet = False, 0.0
                yield data
                continue
            if quiet >= _QUIET and await asyncio.to_thread(self._nameless):
                return
            await self._env.sleep(self._follow.interval)
            waited = True
            quiet += self._follow.interval

    def _is(self, known: _Known, offset: int) -> bool:
        """Whether it begins as it did and is not shorter than what was read of it."""
        size = os.fstat(self._stream.fileno()).st_size
        return size >= offset and self._head(len(known.head)) == known.head

    def _head(self, size: int) -> bytes:
        return os.pread(self._stream.fileno(), size, 0)

    def _nameless(self) -> bool:
        """Whether it is under none of the names that are looked at."""
        for pattern in self._follow.paths:
            try:
                paths = find_files([pattern], "")
            except ConfigError:
                continue
            for path in paths:
                try:
                    about = path.stat()
                except OSError:
                    continue
                if (about.st_dev, about.st_ino) == self._inode:
                    return False
        return True


def _metadata(path: Path) -> dict[str, object]:
    """What every message of a file carries; its name may be gone by now."""
    try:
        return dict(metadata_of(path))
    except OSError:
        return {"path": str(path)}

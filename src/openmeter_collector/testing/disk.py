"""A disk that remembers what was done to it and fails when told to, below SQLite.

`RecordedDisk` stands between SQLite and the operating system for every connection opened while its
block lasts. From its record, the files can be rebuilt as a power cut at any moment would have left
them: what was synced is there, what was not is there, gone, or torn.
"""

# ruff: noqa: N802 - the method names are SQLite's

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import apsw

_SECTOR: Final = 512

Kind = Literal["write", "sync", "truncate", "delete", "mark"]
Fault = Callable[["Call"], apsw.Error | None]
Unsynced = Literal["kept", "dropped", "torn"]


@dataclass(frozen=True, slots=True)
class Call:
    """One thing that was done; `mark` is the test's own.

    Attributes:
        note: the test's, for `mark`; for `delete`, whether the folder was synced with it.
    """

    kind: Kind
    file: str
    offset: int = 0
    data: bytes = b""
    note: Any = None


class RecordedDisk:
    """See `recorded_disk`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.fault: Fault | None = None
        """Asked before each write and sync; what it returns is raised instead."""
        self._lock = threading.Lock()

    def mark(self, note: Any) -> None:
        """Note that something became true at this moment."""
        self.note(Call("mark", "", note=note))

    def perform(self, call: Call) -> None:
        """Fail it or note it."""
        error = self.fault(call) if self.fault is not None else None
        if error is not None:
            raise error
        self.note(call)

    def note(self, call: Call) -> None:
        """Remember it as done."""
        with self._lock:
            self.calls.append(call)

    def names(self) -> list[str]:
        """`kind file` of all calls, for reading in tests."""
        return [f"{call.kind} {call.file or call.note}" for call in self.calls]

    def rebuild(
        self, folder: Path, upto: int, unsynced: Unsynced, chance: random.Random | None = None
    ) -> None:
        """Make the files as a crash after `upto` calls leaves them.

        Args:
            unsynced: `kept`: the process was killed. `dropped`: a power cut, nothing unsynced
                reached the disk. `torn`: a power cut, any part of it did, in sectors, in any order.
            chance: decides for `torn`.
        """
        for name, calls in _by_file(self.calls[:upto]).items():
            content = _content(calls, unsynced, chance or random.Random(upto))
            if content is not None:
                (folder / name).write_bytes(content)


def _by_file(calls: Sequence[Call]) -> dict[str, list[tuple[Call, bool]]]:
    """The calls on each file, each with whether it outlives a power cut.

    A sync makes durable what was done to its file before. The first sync of a new file syncs its
    folder as well, and with it every deletion before.
    """
    files: dict[str, list[tuple[Call, bool]]] = {}
    new: set[str] = set()
    for call in calls:
        if call.kind == "mark":
            continue
        done = files.setdefault(call.file, [])
        if not done or done[-1][0].kind == "delete":
            new.add(call.file)
        done.append((call, call.kind == "delete" and bool(call.note)))
        if call.kind == "sync":
            files[call.file] = [(one, True) for one, _ in done]
            if call.file in new:
                new.discard(call.file)
                for name, others in files.items():
                    files[name] = [(one, safe or one.kind == "delete") for one, safe in others]
    return files


def _content(
    calls: Sequence[tuple[Call, bool]], unsynced: Unsynced, chance: random.Random
) -> bytearray | None:
    """A file after a crash; None when it is not there."""
    content: bytearray | None = None
    for call, safe in calls:
        if safe or unsynced == "kept":
            content = _apply(content, call, None)
        elif unsynced == "torn":
            content = _apply(content, call, chance)
    return content


def _apply(content: bytearray | None, call: Call, chance: random.Random | None) -> bytearray | None:
    if call.kind == "delete":
        return content if chance is not None and chance.random() < 0.5 else None
    content = bytearray() if content is None else content
    if call.kind == "truncate":
        if chance is None or chance.random() < 0.5:
            del content[call.offset :]
    elif call.kind == "write":
        if chance is None:
            _put(content, call.offset, call.data)
        else:
            for start in range(0, len(call.data), _SECTOR):
                if chance.random() < 0.5:
                    _put(content, call.offset + start, call.data[start : start + _SECTOR])
    return content


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


@contextmanager
def recorded_disk() -> Iterator[RecordedDisk]:
    """Put a `RecordedDisk` below all SQLite connections opened in the block."""
    disk = RecordedDisk()
    vfs = _Vfs(disk)
    try:
        yield disk
    finally:
        vfs.unregister()


class _Vfs(apsw.VFS):
    def __init__(self, disk: RecordedDisk) -> None:
        self._disk = disk
        super().__init__("recorded", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self._disk.note(Call("delete", os.path.basename(filename), note=syncdir))  # noqa: PTH119


class _File(apsw.VFSFile):
    def __init__(
        self, disk: RecordedDisk, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk = disk
        self._name = os.path.basename(path) if path else "temporary"  # noqa: PTH119
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.perform(Call("write", self._name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.perform(Call("truncate", self._name, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        # Asked before, noted after: until it has returned, nothing is synced.
        if self._disk.fault is not None:
            error = self._disk.fault(Call("sync", self._name))
            if error is not None:
                raise error
        super().xSync(flags)
        self._disk.note(Call("sync", self._name))

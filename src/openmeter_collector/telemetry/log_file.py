"""A log file that is put aside when it has grown, and forgotten after some days."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

MOST_BYTES: Final = 100 << 20
"""A file that reaches this size is put aside, when files are rotated."""
_DAY: Final = 86_400.0


class LogFile:
    """Appends lines to a file."""

    def __init__(
        self,
        path: Path,
        *,
        rotate: bool = False,
        max_age_days: int = 0,
        most_bytes: int = MOST_BYTES,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Open the file.

        Args:
            rotate: put it aside as `NAME-TIME.EXT` when it has grown to `most_bytes`.
            max_age_days: remove what was put aside longer ago; 0 keeps all.

        Raises:
            OSError: it cannot be opened for appending.
        """
        self._path = path
        self._rotate = rotate
        self._max_age = max_age_days * _DAY
        self._most = most_bytes
        self._now = now
        self._file = self._open()
        self._size = self._file.tell()

    def _open(self) -> TextIO:
        return self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="")

    def write(self, line: str) -> None:
        """Append a line, whole and at once.

        Raises:
            OSError: the disk is full, or the like.
        """
        size = len(line.encode("utf-8", "backslashreplace"))
        if self._rotate and self._size and self._size + size > self._most:
            self._put_aside()
        self._file.write(line)
        self._file.flush()
        self._size += size

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _put_aside(self) -> None:
        self._file.close()
        moment = datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3]
        name = f"{self._path.stem}-{moment}"
        aside = self._path.with_name(name + self._path.suffix)
        number = 1
        while aside.exists():  # another one of the same millisecond
            number += 1
            aside = self._path.with_name(f"{name}-{number}{self._path.suffix}")
        # A file that cannot be renamed goes on growing: better than losing lines.
        with suppress(OSError):
            self._path.rename(aside)
        self._file = self._open()
        self._size = self._file.tell()
        self._forget()

    def _forget(self) -> None:
        if not self._max_age:
            return
        for old in self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"):
            with suppress(OSError):
                if self._now() - old.stat().st_mtime > self._max_age:
                    old.unlink()

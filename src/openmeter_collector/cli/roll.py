"""Whose journal is which: the files of workers, and how many of them there ever were."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from openmeter_collector.engine.stores.file import replace_durably
from openmeter_collector.errors import StorageError

MOST: Final = 64


def numbered(path: Path, index: int) -> Path:
    """The file of a worker: `buffer.db` is `buffer.1.db` for worker 1, and itself for worker 0."""
    return path.with_name(f"{path.stem}.{index}{path.suffix}") if index else path


@dataclass(frozen=True, slots=True)
class Roll:
    """How many journals workers have had: all below `count` may hold something."""

    path: Path

    @classmethod
    def beside(cls, journal: Path) -> Roll:
        """The one of a config whose journal this is."""
        return cls(journal.with_name(journal.name + ".workers"))

    def read(self) -> int:
        """The number; 1 when there never were workers.

        Raises:
            StorageError: the file is there and does not say.
        """
        try:
            count = orjson.loads(self.path.read_bytes())["workers"]
        except FileNotFoundError:
            return 1
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(self._unreadable(str(error))) from error
        if not isinstance(count, int) or not 1 <= count <= MOST:
            raise StorageError(self._unreadable(repr(count)))
        return count

    def _unreadable(self, found: str) -> str:
        return (
            f"{self.path}: does not say how many workers there were ({found}); "
            'write {"workers": N} into it, N one more than the highest number of a journal beside it'
        )

    def write(self, count: int) -> None:
        """Make it durable, before a journal of that number is begun.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_durably(self.path, orjson.dumps({"workers": count}) + b"\n")
        except OSError as error:
            raise StorageError(
                f"{self.path}: cannot be written ({error.strerror}); "
                "give the buffer a path in a folder this user may write to"
            ) from error

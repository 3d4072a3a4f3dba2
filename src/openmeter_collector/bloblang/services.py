"""What a mapping may reach outside its messages, handed in by whoever compiles it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from openmeter_collector.bloblang.failure import Fail


class FileReader(Protocol):
    """Reads the files that imports and `file()` name."""

    def __call__(self, path: str, /) -> bytes:
        """The content of the file at an absolute path; raises OSError when it cannot be had."""
        ...


def read_file(path: str) -> bytes:
    """Read a file of this machine."""
    return Path(path).read_bytes()


@dataclass(frozen=True)
class Services:
    """The outside world of a mapping.

    Attributes:
        env: environment variables.
        read: reads files.
        folder: what relative paths are relative to.
        counters: the numbers behind `count(name)`; share it to share the counters.
        now: unix time in nanoseconds.
        here: the folder of the file that is being compiled, if it is one; "" for `folder`.
    """

    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    read: FileReader = read_file
    folder: str = field(default_factory=os.getcwd)
    counters: dict[str, Iterator[int]] = field(default_factory=dict)
    now: Callable[[], int] | None = None
    here: str = ""

    def resolve(self, path: str, folder: str = "") -> str:
        """The absolute form of a path."""
        return posixpath.normpath(posixpath.join(self.folder, folder, path))

    def content(self, path: str, folder: str = "") -> bytes:
        """A file's content; fails with the text the operating system has for it."""
        absolute = self.resolve(path, folder)
        try:
            return self.read(absolute)
        except OSError as error:
            raise Fail(file_error(absolute, error)) from None


def file_error(path: str, error: OSError) -> str:
    """`open PATH: no such file or directory`."""
    reason = (error.strerror or str(error) or "no such file or directory").lower()
    verb = "read" if reason == "is a directory" else "open"
    return f"{verb} {path}: {reason}"

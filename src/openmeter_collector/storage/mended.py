"""Reading a journal whose first hundred bytes are damaged, without changing it.

SQLite reads nothing of a file whose head is not what it expects, so one wrong byte there would cost
everything behind it. What stands in the head of a journal is known: while a damaged file is salvaged,
those bytes are put in place of what is read.
"""

# ruff: noqa: N802 - the method names are SQLite's

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

NAME: Final = "mended-journal"
PAGE: Final = 8192

# The file format of SQLite, section 1.3: offset -> bytes, for a journal of ours.
_HEAD: Final = {
    0: b"SQLite format 3\0" + PAGE.to_bytes(2, "big") + b"\x02\x02\x00\x40\x20\x20",
    44: (4).to_bytes(4, "big"),  # schema format
    56: (1).to_bytes(4, "big"),  # UTF-8
    64: (1).to_bytes(4, "big"),  # incremental vacuum
}


@contextmanager
def mended_head(path: Path) -> Iterator[apsw.Connection]:
    """Open a journal for reading as if its head were whole.

    Raises:
        apsw.Error: it cannot be read all the same.
    """
    vfs = _Vfs(path)
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=NAME)
        try:
            yield connection
        finally:
            connection.close(True)
    finally:
        vfs.unregister()


class _Vfs(apsw.VFS):
    def __init__(self, path: Path) -> None:
        self._pages = path.stat().st_size // PAGE if path.exists() else 0
        super().__init__(NAME, "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self._pages, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, pages: int, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._main = bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB)
        self._pages = pages
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        content = super().xRead(amount, offset)
        if not self._main or offset >= 100:
            return content
        head = bytearray(content)
        # Its size in pages is believed only if two counters agree; so they are made to.
        for at, known in (_HEAD | {28: self._pages.to_bytes(4, "big")}).items():
            for number, byte in enumerate(known):
                place = at + number - offset
                if 0 <= place < len(head):
                    head[place] = byte
        if offset == 0 and len(head) >= 96:
            head[92:96] = head[24:28]
        return bytes(head)

"""A message a file of an archive."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from openmeter_collector.api import (
    ByteSize,
    Env,
    Example,
    Message,
    Scanned,
    Scanner,
    Source,
    field,
    scanner,
)
from openmeter_collector.components.scanners.common import Bytes, Track

ARCHIVE = Example(
    "Files of compressed archives",
    """
    input:
      file:
        paths: [ ./archives/*.tar.gz ]
        scanner:
          decompress:
            algorithm: gzip
            into:
              tar: {}
    """,
)
_BLOCK: Final = 512
_LONGEST_HEADER: Final = 1 << 20
"""Bytes of a long name or of extended headers."""
_FILES: Final = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}


@scanner("tar", examples=[ARCHIVE])
class Tar:
    """Makes a message of each file of a tar archive, with its name in the metadata `tar_name`.

    Folders and links are passed over.
    """

    max_bytes: ByteSize = field(
        default=ByteSize("256MiB"),
        ours=True,
        advanced=True,
        doc="Bytes of a file in the archive at most.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        del env
        yield _Tar(int(self.max_bytes))


class _Tar:
    def __init__(self, most: int) -> None:
        self._most = most

    def seeks(self, name: str) -> bool:
        del name
        return True

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        track = Track(source)
        data = Bytes(source.chunks)
        name, size = "", -1  # what headers before a file's own say of it
        while (head := await self._header(track, data)) is not None:
            member = self._member(track, head)
            padded = -(-member.size // _BLOCK) * _BLOCK
            if member.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
                text = await self._content(track, data, member.size, _LONGEST_HEADER)
                if member.type == tarfile.GNUTYPE_LONGNAME:
                    name = text.rstrip(b"\0").decode(errors="replace")
                else:
                    said = _extended(text)
                    name = said.get("path", name)
                    size = int(said["size"]) if said.get("size", "").isdecimal() else size
                track.skip(_BLOCK + padded)
                continue
            if size >= 0:
                padded = -(-size // _BLOCK) * _BLOCK
                member.size = size
            if member.type in _FILES:
                content = await self._content(track, data, member.size, self._most)
                metadata = {**source.metadata, "tar_name": name or member.name}
                yield track.group([Message(content, metadata)], _BLOCK + padded)
            elif member.type == tarfile.GNUTYPE_SPARSE:
                raise track.unreadable("a file with holes; pack the archive without --sparse")
            else:
                if not await data.skip(padded):
                    raise track.unreadable("the archive ends too early")
                track.skip(_BLOCK + padded)
            name, size = "", -1

    async def _header(self, track: Track, data: Bytes) -> bytes | None:
        """The next header; None at the end of the archive, or of the bytes."""
        head = await data.upto(_BLOCK)
        if not head or not any(head):
            return None
        if len(head) < _BLOCK:
            raise track.unreadable("the archive ends too early")
        return head

    def _member(self, track: Track, head: bytes) -> tarfile.TarInfo:
        try:
            return tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise track.unreadable(f"not a tar archive ({error}); choose another scanner") from None

    async def _content(self, track: Track, data: Bytes, size: int, most: int) -> bytes:
        if size > most:
            raise track.unreadable(f"a file of {size} bytes; max_bytes allows {most}")
        content = await data.upto(size)
        if len(content) < size or not await data.skip(-size % _BLOCK):
            raise track.unreadable("the archive ends too early")
        return content


def _extended(text: bytes) -> dict[str, str]:
    """Records of the form `length key=value`, where the length counts all of it."""
    found = {}
    while text:
        length, space, _ = text.partition(b" ")
        if not space or not length.isdigit() or int(length) <= len(length) + 1:
            break
        key, _, value = text[len(length) + 1 : int(length) - 1].partition(b"=")
        found[key.decode(errors="replace")] = value.decode(errors="replace")
        text = text[int(length) :]
    return found

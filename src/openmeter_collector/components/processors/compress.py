"""Compresses messages."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Literal

from openmeter_collector.api import Batch, Env, Example, Processor, field, processor
from openmeter_collector.components.processors import cramjam

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SMALLER = Example(
    "Send archives as gzip",
    """
    pipeline:
      processors:
        - archive:
            format: lines
        - compress:
            algorithm: gzip
    """,
)


@processor("compress", categories=("Parsing",), examples=[SMALLER])
class Compress:
    """Replaces the content of each message by a compressed one."""

    algorithm: Literal["gzip", "pgzip", "zlib", "flate", "zstd", "snappy", "lz4"] = field(
        doc="How.",
        choices={
            "gzip": "With gzip's header.",
            "pgzip": "The same as `gzip`.",
            "zlib": "With zlib's header.",
            "flate": "Raw deflate.",
            "zstd": "Zstandard.",
            "snappy": "A block of snappy. Needs the extra `bloblang`.",
            "lz4": "A frame of lz4. Needs the extra `bloblang`.",
        },
    )
    level: int = field(
        default=-1, minimum=-1, maximum=9, doc="From 0, fast, to 9, small; -1 is the usual."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        made = _COMPRESS.get(self.algorithm)
        if made is None:
            engine = cramjam.library(self.algorithm, f"{env.node.where} compress")
            made = partial(_with_library, engine, self.algorithm)
        yield _Compressor(made, self.level)


class _Compressor:
    def __init__(self, compress: Callable[[bytes, int], bytes], level: int) -> None:
        self._compress = compress
        self._level = level

    def process(self, batch: Batch) -> list[Batch]:
        compress, level = self._compress, self._level
        return [[one.with_content(compress(one.content, level)) for one in batch]]


def _gzip(data: bytes, level: int) -> bytes:
    return gzip.compress(data, 6 if level < 0 else level, mtime=0)


def _flate(data: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _with_library(engine: Any, algorithm: str, data: bytes, level: int) -> bytes:
    del level  # they have none
    return cramjam.compress(engine, algorithm, data)


def _zstd(data: bytes, level: int) -> bytes:
    return zstd.compress(data, 3 if level < 0 else level)


_COMPRESS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gzip,
    "pgzip": _gzip,
    "zlib": zlib.compress,
    "flate": _flate,
    "zstd": _zstd,
}

"""Decompresses messages, up to a bound."""

from __future__ import annotations

import bz2
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from openmeter_collector.api import (
    Batch,
    ByteSize,
    Env,
    Example,
    Processor,
    field,
    processor,
)
from openmeter_collector.components.processors import cramjam
from openmeter_collector.components.processors.common import Flag
from openmeter_collector.values.bodies import open_body

LINES = Example(
    "Take gzipped lines apart",
    """
    pipeline:
      processors:
        - decompress:
            algorithm: gzip
        - unarchive:
            format: lines
    """,
)


@processor("decompress", categories=("Parsing",), examples=[LINES])
class Decompress:
    """Replaces the content of each message by what it was before it was compressed.

    A message that is damaged, or would become larger than `max_bytes`, stays as it is, flagged.
    """

    algorithm: Literal["gzip", "pgzip", "zlib", "flate", "zstd", "bzip2", "snappy", "lz4"] = field(
        doc="How it was compressed. `snappy` (a block) and `lz4` need the extra `bloblang`."
    )
    max_bytes: ByteSize = field(
        default=ByteSize("256MiB"), ours=True, doc="Most bytes that may come of one message."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        yield _Decompressor(self, env)


class _Decompressor:
    def __init__(self, config: Decompress, env: Env) -> None:
        self._algorithm = config.algorithm
        self._most = int(config.max_bytes)
        self._flag = Flag(env)
        self._engine: Any = None
        if config.algorithm in cramjam.ALGORITHMS:
            self._engine = cramjam.library(config.algorithm, f"{env.node.where} decompress")

    def process(self, batch: Batch) -> list[Batch]:
        made: Batch = []
        for message in batch:
            try:
                made.append(message.with_content(self._opened(message.content)))
            except (ValueError, OSError, EOFError, zlib.error) as error:
                made.append(self._flag(message, f"failed to decompress: {error}"))
        return [made]

    def _opened(self, data: bytes) -> bytes:
        if self._engine is not None:
            opened = cramjam.decompress(self._engine, self._algorithm, data, self._most)
            return _bounded(opened, self._most)
        if self._algorithm == "bzip2":
            return _bzip2(data, self._most)
        if self._algorithm in {"gzip", "pgzip", "zstd"}:
            name = "zstd" if self._algorithm == "zstd" else "gzip"
            return open_body(data, name, self._most)
        return _zlib(data, 15 if self._algorithm == "zlib" else -15, self._most)


def _zlib(data: bytes, window: int, most: int) -> bytes:
    stream = zlib.decompressobj(window)
    opened = stream.decompress(data, most + 1)
    if len(opened) <= most and not stream.eof:
        raise EOFError("it ends too early")
    return _bounded(opened, most)


def _bzip2(data: bytes, most: int) -> bytes:
    stream = bz2.BZ2Decompressor()
    opened = stream.decompress(data, most + 1)
    if len(opened) <= most and not stream.eof:
        raise EOFError("it ends too early")
    return _bounded(opened, most)


def _bounded(opened: bytes, most: int) -> bytes:
    if len(opened) > most:
        raise ValueError(f"it is larger than max_bytes ({most})")
    return opened

"""The compressions that need a library of the extra `bloblang`: snappy and lz4, up to a bound."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from openmeter_collector.api import ConfigError, install_extra

ALGORITHMS: Final = frozenset({"snappy", "lz4"})
_LZ4_RATIO: Final = 255
"""The most that lz4 makes of a byte, by its format."""


def library(algorithm: str, where: str) -> Any:
    """What does it.

    Raises:
        ConfigError: the library is not installed.
    """
    try:
        return import_module("cramjam")
    except ImportError as error:
        raise ConfigError(
            f"{where}: {algorithm} needs the extra 'bloblang'; run: {install_extra('bloblang')}"
        ) from error


def compress(engine: Any, algorithm: str, data: bytes) -> bytes:
    """Compress: a block of snappy, a frame of lz4."""
    return bytes(
        engine.snappy.compress_raw(data) if algorithm == "snappy" else engine.lz4.compress(data)
    )


def decompress(engine: Any, algorithm: str, data: bytes, most: int) -> bytes:
    """Decompress, to at most one byte more than `most`.

    Raises:
        ValueError: the data is damaged, or becomes larger.
    """
    try:
        if algorithm == "snappy":
            if engine.snappy.decompress_raw_len(data) > most:
                raise ValueError(f"it is larger than max_bytes ({most})")
            return bytes(engine.snappy.decompress_raw(data))
        room = bytearray(min(len(data) * _LZ4_RATIO, most + 1))
        return bytes(memoryview(room)[: engine.lz4.decompress_into(data, room)])
    except engine.DecompressionError as error:
        if "whole buffer" in str(error):
            raise ValueError(f"it is larger than max_bytes ({most})") from error
        raise ValueError(str(error)) from error

"""Methods that compress and decompress bytes."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable
from typing import Any, Final

from openmeter_collector.bloblang.convert import get_bytes
from openmeter_collector.bloblang.definition import Case, method
from openmeter_collector.bloblang.extras import extra
from openmeter_collector.bloblang.failure import Fail, TypeFail
from openmeter_collector.values.kinds import Value

_MAX: Final = 256 * 1024 * 1024


def _deflate(level: int, window: int) -> Callable[[bytes], bytes]:
    def run(raw: bytes) -> bytes:
        engine = zlib.compressobj(level, zlib.DEFLATED, window)
        return engine.compress(raw) + engine.flush()

    return run


def _inflate(raw: bytes, window: int, what: str) -> bytes:
    if what == "gzip" and len(raw) < 10:
        raise Fail("unexpected EOF" if raw else "EOF")
    engine = zlib.decompressobj(window)
    try:
        made = engine.decompress(raw, _MAX)
    except zlib.error:
        raise Fail(
            f"{what}: invalid header" if what != "flate" else "flate: corrupt input before offset 0"
        ) from None
    if engine.unconsumed_tail:
        raise Fail("the decompressed data is larger than 256 MiB")
    if not engine.eof:
        raise Fail("unexpected EOF")
    return made


def _cramjam(name: str, verb: str, raw: bytes) -> bytes:
    engine = getattr(extra("cramjam", f"{verb} with {name}"), name)
    try:
        return bytes(getattr(engine, verb)(raw))
    except Exception as error:
        reason = "lz4: bad magic number" if name == "lz4" else f"{name}: corrupt input"
        raise Fail(reason) from error


def _compressor(algorithm: str, level: int) -> Callable[[bytes], bytes]:
    if algorithm in ("gzip", "pgzip"):
        return lambda raw: gzip.compress(raw, 6 if level < 0 else level, mtime=0)
    if algorithm == "zlib":
        return _deflate(level, 15)
    if algorithm == "flate":
        return _deflate(level, -15)
    if algorithm == "zstd":
        from backports import zstd  # noqa: PLC0415 - loaded by who uses it

        return lambda raw: zstd.compress(raw, 3 if level < 0 else level)
    if algorithm == "snappy":
        return lambda raw: bytes(extra("cramjam", "compress with snappy").snappy.compress_raw(raw))
    if algorithm == "lz4":
        return lambda raw: _cramjam("lz4", "compress", raw)
    raise Fail(f"compression type not recognised: {algorithm}")


def _decompressor(algorithm: str) -> Callable[[bytes], bytes]:
    if algorithm in ("gzip", "pgzip"):
        return lambda raw: _inflate(raw, 31, "gzip")
    if algorithm == "zlib":
        return lambda raw: _inflate(raw, 15, "zlib")
    if algorithm == "flate":
        return lambda raw: _inflate(raw, -15, "flate")
    if algorithm == "bzip2":
        return _bunzip
    if algorithm == "zstd":
        return _unzstd
    if algorithm == "snappy":
        return lambda raw: bytes(extra("cramjam", "decompress snappy").snappy.decompress_raw(raw))
    if algorithm == "lz4":
        return lambda raw: _cramjam("lz4", "decompress", raw)
    raise Fail(f"compression type not recognised: {algorithm}")


def _bunzip(raw: bytes) -> bytes:
    engine = bz2.BZ2Decompressor()
    try:
        return engine.decompress(raw, _MAX)
    except OSError:
        raise Fail("bzip2 data invalid: bad magic value") from None


def _unzstd(raw: bytes) -> bytes:
    from backports import zstd  # noqa: PLC0415 - loaded by who uses it

    if raw[:4] != b"\x28\xb5\x2f\xfd":
        raise Fail("invalid input: magic number mismatch" if raw else "unexpected EOF")
    engine = zstd.ZstdDecompressor()
    try:
        return engine.decompress(raw, _MAX)
    except zstd.ZstdError as error:
        raise Fail(f"invalid input: {error}") from None


@method(
    "encoding",
    plugin=True,
    prepared=True,
    cases=[Case('root = this.compress("zlib").decompress("zlib").string()', '"hello"', "hello")],
    params={
        "algorithm": "`flate`, `gzip`, `lz4`, `pgzip`, `snappy`, `zlib` or `zstd`.",
        "level": "How hard to try; -1 is the usual.",
    },
)
def compress(algorithm: str, level: int = -1) -> Any:
    """Compress bytes."""
    run = _compressor(algorithm, level)
    return lambda value: run(_as_bytes(value))


def _as_bytes(value: Value) -> bytes:
    try:
        return get_bytes(value)
    except TypeFail:
        raise TypeFail(value, "bytes") from None


@method(
    "encoding",
    plugin=True,
    prepared=True,
    cases=[
        Case(
            'root = this.decode("base64").decompress("gzip")',
            '"H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA=="',
            "hello",
        )
    ],
    params={"algorithm": "`bzip2`, `flate`, `gzip`, `lz4`, `pgzip`, `snappy`, `zlib` or `zstd`."},
)
def decompress(algorithm: str) -> Any:
    """Decompress bytes; more than 256 MiB are an error."""
    run = _decompressor(algorithm)
    return lambda value: run(_as_bytes(value))


ENTRIES = (compress, decompress)

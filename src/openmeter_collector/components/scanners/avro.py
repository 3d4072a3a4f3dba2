"""A message a datum of an Avro object container file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from io import BytesIO, StringIO
from typing import Any, Final

from openmeter_collector.api import (
    MOST_AT_ONCE,
    Batch,
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
from openmeter_collector.components import extras
from openmeter_collector.components.rows import plain
from openmeter_collector.components.scanners.common import Bytes, Track

_MAGIC: Final = b"Obj\x01"
_SYNC: Final = 16
_PLAIN: Final = frozenset({"null", "boolean", "int", "long", "string"})

EXPORT = Example(
    "Records of Avro files",
    """
    input:
      file:
        paths: [ ./exports/*.avro ]
        scanner:
          avro:
            raw_json: true
    """,
)


@scanner("avro", examples=[EXPORT])
class Avro:
    """Makes a message of each datum of an Avro object container file, a block at a time.

    By default a message is in Avro's own JSON form, in which a value of a union stands in an object with
    the name of its type (`{"name": {"string": "x"}}`). Blocks may be compressed with deflate, bzip2 or
    whatever else the library knows.
    """

    raw_json: bool = field(
        default=False,
        doc="Plain JSON instead: values of unions as they are, decimals as exact numbers, timestamps "
        "as RFC 3339, bytes as base64.",
    )
    max_block: ByteSize = field(
        default=ByteSize("64MiB"), ours=True, advanced=True, doc="Bytes of a block at most."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Scanner]:
        """Loads the library.

        Raises:
            ConfigError: it is not installed.
        """
        (library,) = extras.load(f"{env.node.path}.avro", "files", "fastavro")
        yield _Avro(library, raw=self.raw_json, most=int(self.max_block))


class _Short(Exception):
    """The source ends where something has to come."""


class _Avro:
    def __init__(self, library: Any, *, raw: bool, most: int) -> None:
        self._library = library
        self._raw = raw
        self._most = most

    def seeks(self, name: str) -> bool:
        # A block says nothing without the header.
        del name
        return False

    async def scan(self, source: Source) -> AsyncGenerator[Scanned, None]:
        track = Track(source, offsets=False)
        stream = Bytes(source.chunks)
        try:
            header = await self._header(stream)
            if not header:
                return
            while (block := await self._block(stream, header[-_SYNC:])) is not None:
                contents = await asyncio.to_thread(self._messages, header, block)
                for at in range(0, len(contents), MOST_AT_ONCE):
                    yield track.group(self._batch(contents[at : at + MOST_AT_ONCE], source), 0)
        except _Short as error:
            raise track.unreadable("it ends too early; check that the file is whole") from error
        except (ValueError, EOFError, IndexError, KeyError, TypeError, OSError) as error:
            raise track.unreadable(f"not valid Avro: {error}; check how it was made") from error

    def _batch(self, contents: list[Any], source: Source) -> Batch:
        metadata = source.metadata
        if self._raw:
            return [Message(None, metadata, value=one) for one in contents]
        return [Message(one, metadata) for one in contents]

    async def _header(self, stream: Bytes) -> bytes:
        """Everything before the first block, which ends with the sync marker; empty for no file."""
        made = bytearray(await stream.upto(len(_MAGIC)))
        if not made:
            return b""
        if made != _MAGIC:
            raise ValueError("it does not begin as an object container file does")
        while count := await self._long(stream, made):
            if count < 0:
                await self._long(stream, made)
            for _ in range(2 * abs(count)):
                made += await self._exactly(stream, await self._long(stream, made))
                if len(made) > self._most:
                    raise ValueError(f"its header is larger than max_block ({self._most})")
        return bytes(made + await self._exactly(stream, _SYNC))

    async def _block(self, stream: Bytes, sync: bytes) -> bytes | None:
        """The next block as it is; None at the end."""
        first = await stream.upto(1)
        if not first:
            return None
        made = bytearray(first)
        while made[-1] & 0x80:
            made += await self._exactly(stream, 1)
        size = await self._long(stream, made)
        data = await self._exactly(stream, size)
        if await self._exactly(stream, _SYNC) != sync:
            raise ValueError("a block does not end with the file's marker")
        return bytes(made + data + sync)

    async def _long(self, stream: Bytes, made: bytearray) -> int:
        """Read a number of variable length, and add its bytes to `made`."""
        value = shift = 0
        while True:
            (byte,) = await self._exactly(stream, 1)
            made.append(byte)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value >> 1 ^ -(value & 1)
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    async def _exactly(self, stream: Bytes, size: int) -> bytes:
        if not 0 <= size <= self._most:
            raise ValueError(f"a block of {size} bytes; max_block is {self._most}")
        data = await stream.upto(size)
        if len(data) < size:
            raise _Short
        return data

    def _messages(self, header: bytes, block: bytes) -> list[Any]:
        """The data of one block: documents, or their bytes in Avro's own JSON form."""
        reader = self._library.reader(BytesIO(header + block))
        records = list(reader)
        if self._raw:
            change = change_of(reader.writer_schema)
            return records if change is None else [change(record) for record in records]
        text = StringIO()
        self._library.json_writer(text, reader.writer_schema, records)
        return [line.encode() for line in text.getvalue().split("\n") if line]


def change_of(schema: Any) -> Callable[[Any], Any] | None:
    """What makes `plain` values of data of a schema, which it may change; None if they all are.

    Only what the schema says may need it is looked at: fields of records one by one, anything else
    (unions, arrays and maps in which there is some, types that are named again) as a whole.
    """
    if isinstance(schema, dict) and schema.get("type") in ("record", "error"):
        changes = [(one["name"], change_of(one["type"])) for one in schema["fields"]]
        needed = [(name, change) for name, change in changes if change is not None]
        return partial(_change_fields, needed) if needed else None
    return None if _is_plain(schema) else plain


def _change_fields(
    changes: list[tuple[str, Callable[[Any], Any]]], record: dict[str, Any]
) -> dict[str, Any]:
    for name, change in changes:
        record[name] = change(record[name])
    return record


def _is_plain(schema: Any) -> bool:
    """Whether all data of a schema is as a document has it. No floats: they may be infinite."""
    if isinstance(schema, list):
        return all(change_of(one) is None for one in schema)
    if not isinstance(schema, dict):
        return schema in _PLAIN
    kind = schema.get("type")
    if kind in ("array", "map"):
        return change_of(schema["items" if kind == "array" else "values"]) is None
    return kind == "enum" or ("logicalType" not in schema and _is_plain(kind))

"""A frame: the events that were committed together, as one block of bytes.

Storing and draining move frames, so a row, an index entry and a delete are paid per commit and not
per event. Little-endian:

    4s   magic, b"OMF1"
    u32  CRC-32 of everything after this field
    u32  n, number of events
    u32  m, number of distinct metadata maps
    u32  length of each event's content                 (n times)
    u32  which metadata map each event has, 0 for none  (n times, left out when m is 0)
    u32  length of each metadata map                    (m times)
         metadata maps, MessagePack
         contents, one after the other, byte for byte as they came

The checksum is there because a blob is not covered by anything SQLite checks: a flipped bit on the
disk would otherwise be billed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final
from zlib import crc32

import msgspec

from openmeter_collector.errors import StorageError
from openmeter_collector.message import NO_METADATA, Batch, Message, Metadata, Value

MAGIC: Final = b"OMF1"
_MAX_ODD_TEXT: Final = 1_024
_HEAD: Final = struct.Struct("<4sIII")
_pack = msgspec.msgpack.Encoder(enc_hook=str).encode
_unpack_metadata = msgspec.msgpack.Decoder().decode


def pack_metadata(metadata: Metadata) -> bytes:
    """Metadata as MessagePack. Never fails: one odd value must not stop everybody's writes."""
    try:
        # Others than dicts would be written as whatever else they are.
        return _pack(metadata if type(metadata) is dict else dict(metadata))
    except (OverflowError, UnicodeEncodeError, TypeError, ValueError, RecursionError):
        return _pack({_storable(str(key)): _storable(value) for key, value in metadata.items()})


def _storable(value: Value) -> Value:
    """A value as it is, or as text where MessagePack has no room for it."""
    try:
        _pack(value)
    except (OverflowError, UnicodeEncodeError, TypeError, ValueError, RecursionError):
        try:
            return str(value)[:_MAX_ODD_TEXT].encode("utf-8", "replace").decode()
        except (ValueError, RecursionError):
            return f"<{type(value).__name__}>"
    return value


def encode_frame(batch: Sequence[Message]) -> bytes:
    """Pack messages; contents are copied, never re-encoded."""
    contents = [message.content for message in batch]
    count = len(contents)
    lengths = struct.pack(f"<{count}I", *map(len, contents))
    maps: list[bytes] = []
    which: list[int] = []
    if any(message.metadata for message in batch):
        which = _number_maps(batch, maps)
    body = [
        lengths,
        struct.pack(f"<{len(which)}I", *which),
        struct.pack(f"<{len(maps)}I", *map(len, maps)),
        *maps,
        *contents,
    ]
    rest = struct.pack("<II", count, len(maps)) + b"".join(body)
    return MAGIC + struct.pack("<I", crc32(rest)) + rest


def decode_frame(payload: object) -> Batch:
    """Unpack the messages of a frame, as it came from its row.

    Raises:
        StorageError: the bytes are not a whole, undamaged frame.
    """
    if not isinstance(payload, bytes):  # the row says what its columns are, and it may be damaged
        raise StorageError(f"frame is {type(payload).__name__}; bytes are expected")
    if len(payload) < _HEAD.size:
        raise StorageError(f"frame of {len(payload)} bytes: cut off inside its head")
    magic, checksum, count, map_count = _HEAD.unpack_from(payload)
    if magic != MAGIC:
        raise StorageError(f"frame begins with {magic!r}; expected {MAGIC!r}")
    if crc32(memoryview(payload)[8:]) != checksum:
        raise StorageError(f"frame of {len(payload)} bytes: its checksum does not match")
    at = _HEAD.size
    lengths = struct.unpack_from(f"<{count}I", payload, at)
    at += 4 * count
    metadata: Sequence[Metadata] = ()
    if map_count:
        which = struct.unpack_from(f"<{count}I", payload, at)
        at += 4 * count
        map_lengths = struct.unpack_from(f"<{map_count}I", payload, at)
        at += 4 * map_count
        maps: list[Metadata] = [NO_METADATA]
        for length in map_lengths:
            maps.append(_unpack_metadata(payload[at : at + length]))
            at += length
        metadata = [maps[number] for number in which]
    ends = list(accumulate(lengths, initial=at))
    if not metadata:
        return [Message(payload[start:end]) for start, end in pairwise(ends)]
    return [
        Message(payload[start:end], one)
        for (start, end), one in zip(pairwise(ends), metadata, strict=True)
    ]


def _number_maps(batch: Sequence[Message], maps: list[bytes]) -> list[int]:
    """Fill `maps` with the distinct maps; return each message's number, 0 for none.

    Messages of one request share their map object, so identity finds most repetitions for free.
    """
    by_identity: dict[int, int] = {}
    which = []
    for message in batch:
        number = 0
        if message.metadata:
            key = id(message.metadata)
            number = by_identity.get(key, 0)
            if not number:
                maps.append(pack_metadata(message.metadata))
                number = by_identity[key] = len(maps)
        which.append(number)
    return which

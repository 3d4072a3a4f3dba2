"""Messages of PostgreSQL's logical decoding plugin `pgoutput`, protocol version 1.

Pure: bytes in, values out. The format is in the manual, "Logical Replication Message Formats".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

UNCHANGED: Final = object()
"""A large value (TOAST) that an UPDATE left as it was, and that the server therefore does not send."""

Field = bytes | object | None
"""The text of a value, `UNCHANGED`, or None for NULL."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction begins; all that follows was committed at `lsn`.

    Attributes:
        time: of the commit, in microseconds since 2000.
        xid: the lower 32 bits of its number.
    """

    lsn: int
    time: int
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """It ends; the next one begins at `end_lsn` or later."""

    lsn: int
    end_lsn: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table as it is from now on."""

    name: str
    type_oid: int
    key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as it is from now on; sent before its first change, and again after it was altered."""

    oid: int
    schema: str
    table: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A row was inserted, updated or deleted.

    Attributes:
        operation: `insert`, `update` or `delete`.
        new: the row, None when it was deleted.
        old: what is known of the row before: all of it with REPLICA IDENTITY FULL, its key when that
            was changed or the row was deleted; else None.
    """

    operation: str
    oid: int
    new: tuple[Field, ...] | None
    old: tuple[Field, ...] | None


@dataclass(frozen=True, slots=True)
class Truncate:
    """Tables were emptied."""

    oids: tuple[int, ...]


Event = Begin | Commit | Relation | Change | Truncate | None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, form: str) -> int:
        value: int
        (value,) = struct.unpack_from(f">{form}", self._data, self._at)
        self._at += struct.calcsize(f">{form}")
        return value

    def kind(self) -> str:
        self._at += 1
        return chr(self._data[self._at - 1])

    def text(self) -> str:
        end = self._data.index(0, self._at)
        found = self._data[self._at : end].decode()
        self._at = end + 1
        return found

    def row(self) -> tuple[Field, ...]:
        return tuple(self._field() for _ in range(self.number("h")))

    def _field(self) -> Field:
        kind = self.kind()
        if kind == "n":
            return None
        if kind == "u":
            return UNCHANGED
        length = self.number("i")
        self._at += length
        return self._data[self._at - length : self._at]


def parse(data: bytes) -> Event:
    """One message; None for those that say nothing about rows (origins, types).

    Raises:
        ValueError: it is cut off, or of a kind that this version has not.
    """
    reader = _Reader(data)
    kind = reader.kind()
    try:
        return _parsed(kind, reader)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"a message of kind {kind!r} from pgoutput is cut off") from error


def _parsed(kind: str, reader: _Reader) -> Event:
    match kind:
        case "B":
            lsn, time = reader.number("q"), reader.number("q")
            return Begin(lsn, time, reader.number("I"))
        case "C":
            reader.number("b")
            return Commit(reader.number("q"), reader.number("q"))
        case "R":
            oid, schema, table = reader.number("I"), reader.text(), reader.text()
            reader.number("b")
            columns = tuple(_column(reader) for _ in range(reader.number("h")))
            return Relation(oid, schema, table, columns)
        case "I":
            oid, _ = reader.number("I"), reader.kind()
            return Change("insert", oid, reader.row(), None)
        case "U":
            oid, part = reader.number("I"), reader.kind()
            old = None
            if part in "KO":
                old = reader.row()
                reader.kind()
            return Change("update", oid, reader.row(), old)
        case "D":
            oid, _ = reader.number("I"), reader.kind()
            return Change("delete", oid, None, reader.row())
        case "T":
            count, _ = reader.number("i"), reader.number("b")
            return Truncate(tuple(reader.number("I") for _ in range(count)))
        case "O" | "Y" | "M":
            return None
        case _:
            raise ValueError(f"pgoutput sent a message of kind {kind!r}, which is not known")


def _column(reader: _Reader) -> Column:
    flags, name, type_oid = reader.number("b"), reader.text(), reader.number("I")
    reader.number("i")
    return Column(name, type_oid, bool(flags & 1))


def lsn_of(text: str) -> int:
    """`16/B374D848` as a number."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn_text(lsn: int) -> str:
    """A number as `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"

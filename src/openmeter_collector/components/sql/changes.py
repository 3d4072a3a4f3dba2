"""Changes of PostgreSQL tables, looked at in a replication slot without taking them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from openmeter_collector.api import Batch, Message, Value
from openmeter_collector.components.sql.pgoutput import (
    UNCHANGED,
    Begin,
    Change,
    Commit,
    Field,
    Relation,
    Truncate,
    lsn_of,
    lsn_text,
    parse,
)
from openmeter_collector.values import json

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_FIRST_OWN_TYPE: Final = 16_384
"""Types from here on were made in the database; what is below is known to the library."""
_YEAR_2000_MS: Final = 946_684_800_000
_XIDS: Final = 2**32


@dataclass(frozen=True, slots=True)
class Slot:
    """What is looked at.

    Attributes:
        most: changes in a batch at most.
        markers: begin and commit make messages, too.
        unchanged: stands for large values that an update left as they were.
    """

    name: str
    publication: str
    most: int
    markers: bool
    unchanged: Value


class Position:
    """The transaction of the last change that is safe, and how many of its changes are."""

    def __init__(self, lsn: int, count: int) -> None:
        self.lsn = lsn
        self.count = count

    def to_bytes(self) -> bytes:
        """As it is kept."""
        return json.dumps({"lsn": lsn_text(self.lsn), "count": self.count})

    @classmethod
    def read(cls, data: bytes | None) -> Position:
        """What was kept; the beginning when nothing was."""
        if data is None:
            return cls(0, 0)
        kept = json.loads(data)
        return cls(lsn_of(kept["lsn"]), int(kept["count"]))


class Shown:
    """The transactions that a snapshot shows."""

    def __init__(self, text: str) -> None:
        """Of `pg_current_snapshot()`: `xmin:xmax:running,...`."""
        ended, upto, running = text.split(":")
        self.ended = int(ended)  # all before this one have
        self.upto = int(upto)
        self.running = frozenset(int(one) for one in running.split(",") if one)

    def has(self, xid: int) -> bool:
        """Whether it shows the transaction with this number, of which the lower 32 bits are known."""
        away = (xid - self.upto + _XIDS // 2) % _XIDS - _XIDS // 2
        return away < 0 and self.upto + away not in self.running


class Look:
    """One look at what the slot has.

    Attributes:
        ended: where the last transaction ended, 0 if there was none.
        open: a transaction was begun and its end not seen.
        unknown: types that have to be known first; the look ended there.
    """

    def __init__(
        self, slot: Slot, position: Position, types: Mapping[int, int], shown: Shown | None = None
    ) -> None:
        """Take what is known.

        Args:
            types: a type that was made in the database -> the one its values are written as.
            shown: a snapshot that was handed over; what it shows is left out here.
        """
        self._slot = slot
        self._position = position
        self._types = types
        self._shown = shown
        self._relations: dict[int, Relation] = {}
        self._begin = Begin(0, 0, 0)
        self._known = False
        self._count = 0
        self.ended = 0
        self.open = False
        self.unknown: set[int] = set()

    async def batches(
        self, connection: AsyncConnection[Any], upto: str
    ) -> AsyncGenerator[tuple[Batch, Position], None]:
        """Batches of changes that are not safe yet, with the position after each."""
        from psycopg.adapt import Transformer  # noqa: PLC0415 - an extra
        from psycopg.pq import Format  # noqa: PLC0415

        most = self._slot.most
        loaders = Transformer(connection)
        batch: Batch = []
        async with connection.cursor() as cursor:
            rows: Any = cursor.stream(
                "SELECT data FROM pg_logical_slot_peek_binary_changes($1, $2, $3, "
                "'proto_version', '1', 'publication_names', $4)",
                [self._slot.name, upto, str(most), identifier(self._slot.publication)],
                size=most,
                binary=True,
            )
            async with aclosing(rows):
                async for (data,) in rows:
                    batch += self._taken(
                        bytes(data),
                        lambda oid, text: loaders.get_loader(oid, Format.TEXT).load(text),
                    )
                    if self.unknown:
                        break
                    if len(batch) >= most:
                        yield batch, Position(self._begin.lsn, self._count)
                        batch = []
        if batch:
            yield batch, Position(self._begin.lsn, self._count)

    def _taken(self, data: bytes, load: Any) -> Batch:
        event = parse(data)
        match event:
            case Begin():
                self._begin, self._count, self.open = event, 0, True
                self._known = self._shown is not None and self._shown.has(event.xid)
                return self._marker("begin")
            case Commit():
                self.ended, self.open = event.end_lsn, False
                return self._marker("commit")
            case Relation():
                self._relations[event.oid] = event
                own = {one.type_oid for one in event.columns if one.type_oid >= _FIRST_OWN_TYPE}
                self.unknown = own - self._types.keys()
            case Change() if self._is_new():
                return [self._message(event, load)]
            case Truncate():
                return [self._truncated(oid) for oid in event.oids if self._is_new()]
        return []

    def _is_new(self) -> bool:
        self._count += 1
        known = self._position
        return not self._known and (self._begin.lsn, self._count) > (known.lsn, known.count)

    def _marker(self, operation: str) -> Batch:
        if not self._slot.markers or not self._is_new():
            return []
        return [Message(b"", {"operation": operation} | self._place())]

    def _truncated(self, oid: int) -> Message:
        relation = self._relations[oid]
        about = {"operation": "truncate", "table": relation.table, "schema": relation.schema}
        return Message(b"", about | self._place())

    def _place(self) -> dict[str, str]:
        return {
            "lsn": lsn_text(self._begin.lsn),
            "commit_ts_ms": str(self._begin.time // 1000 + _YEAR_2000_MS),
        }

    def _message(self, change: Change, load: Any) -> Message:
        relation = self._relations[change.oid]
        row = change.new if change.new is not None else change.old or ()
        value: dict[str, Value] = {}
        for at, (column, field_) in enumerate(zip(relation.columns, row, strict=True)):
            known: Field = field_
            if known is UNCHANGED and change.old is not None:
                known = change.old[at]
            if known is UNCHANGED:
                value[column.name] = self._slot.unchanged
            else:
                kind = self._types.get(column.type_oid, column.type_oid)
                value[column.name] = None if known is None else load(kind, known)
        metadata = {
            "operation": change.operation,
            "table": relation.table,
            "schema": relation.schema,
            **self._place(),
        }
        return Message(None, metadata, value=value)


def identifier(name: str) -> str:
    """A name, quoted."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


async def written_as(connection: AsyncConnection[Any], oids: set[int]) -> dict[int, int]:
    """For each type the one its values are written as: for a domain, that of its base."""
    cursor = await connection.execute(
        "WITH RECURSIVE base (oid, kind, next) AS ("
        "SELECT oid, oid, typbasetype FROM pg_type WHERE oid = ANY($1::oid[]) UNION ALL "
        "SELECT base.oid, pg_type.oid, pg_type.typbasetype FROM base JOIN pg_type ON pg_type.oid = base.next"
        ") SELECT oid::bigint, kind::bigint FROM base WHERE next = 0",
        ["{" + ",".join(map(str, oids)) + "}"],
    )
    # A type that is gone by now is text.
    return {oid: oid for oid in oids} | {
        int(oid): int(kind) for oid, kind in await cursor.fetchall()
    }

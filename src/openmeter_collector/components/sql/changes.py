"""Changes of PostgreSQL tables, looked at in a replication slot without taking them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openmeter_collector.api import Batch, Message, Value
from openmeter_collector.components.sql.pgoutput import (
    UNCHANGED,
    Begin,
    Change,
    Commit,
    Field,
    Relation,
    lsn_of,
    lsn_text,
    parse,
)
from openmeter_collector.values import json

if TYPE_CHECKING:
    from psycopg import AsyncConnection


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


class Look:
    """One look at what the slot has.

    Attributes:
        ended: where the last transaction ended, 0 if there was none.
        open: a transaction was begun and its end not seen.
    """

    def __init__(self, slot: Slot, position: Position) -> None:
        self._slot = slot
        self._position = position
        self._relations: dict[int, Relation] = {}
        self._begin = Begin(0, 0)
        self._count = 0
        self.ended = 0
        self.open = False

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
            rows = cursor.stream(
                "SELECT data FROM pg_logical_slot_peek_binary_changes($1, $2, $3, "
                "'proto_version', '1', 'publication_names', $4)",
                [self._slot.name, upto, str(most), identifier(self._slot.publication)],
                size=most,
                binary=True,
            )
            async for (data,) in rows:
                message = self._taken(
                    bytes(data), lambda oid, text: loaders.get_loader(oid, Format.TEXT).load(text)
                )
                if message is not None:
                    batch.append(message)
                if len(batch) >= most:
                    yield batch, Position(self._begin.lsn, self._count)
                    batch = []
        if batch:
            yield batch, Position(self._begin.lsn, self._count)

    def _taken(self, data: bytes, load: Any) -> Message | None:
        event = parse(data)
        match event:
            case Begin():
                self._begin, self._count, self.open = event, 0, True
                return self._marker("begin")
            case Commit():
                self.ended, self.open = event.end_lsn, False
                return self._marker("commit")
            case Relation():
                self._relations[event.oid] = event
            case Change():
                if self._is_new():
                    return self._message(event, load)
        return None

    def _is_new(self) -> bool:
        self._count += 1
        known = self._position
        return (self._begin.lsn, self._count) > (known.lsn, known.count)

    def _marker(self, operation: str) -> Message | None:
        if not self._slot.markers or not self._is_new():
            return None
        return Message(b"", {"operation": operation, "lsn": lsn_text(self._begin.lsn)})

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
                value[column.name] = None if known is None else load(column.type_oid, known)
        metadata = {
            "operation": change.operation,
            "table": relation.table,
            "schema": relation.schema,
            "lsn": lsn_text(self._begin.lsn),
        }
        return Message(None, metadata, value=value)


def identifier(name: str) -> str:
    """A name, quoted."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'

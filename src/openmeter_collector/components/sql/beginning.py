"""Before the first change: the publication, the slot, and the rows that are there already.

The snapshot and the slot meet exactly. A lasting slot is made with a snapshot of its beginning
(`EXPORT_SNAPSHOT`). A temporary one belongs to the connection that looks at changes, which cannot export
one; there the snapshot is taken after the slot was made, and what it shows is left out of the changes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from openmeter_collector.api import Batch, ConfigError, Message, Retryable
from openmeter_collector.components.sql.changes import Shown, identifier

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_PAUSE: Final = 0.1  # seconds between looks whether older transactions have ended

Connect = Callable[..., AbstractAsyncContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Followed:
    """What is followed, and how.

    Attributes:
        where: names the component in texts.
        batch_size: rows of the snapshot handed over together.
    """

    where: str
    schema: str
    tables: Sequence[str]
    slot: str
    publication: str
    temporary: bool
    batch_size: int

    def quoted(self, table: str) -> str:
        """A table's whole name."""
        return f"{identifier(self.schema)}.{identifier(table)}"


async def publish(connection: AsyncConnection[Any], followed: Followed) -> None:
    """See to it that the publication is about the tables.

    One that is made here speaks of partitioned tables by their own name, not by those of partitions.
    """
    cursor = await connection.execute(
        "SELECT nspname || '.' || relname FROM pg_publication "
        "JOIN pg_publication_rel ON prpubid = pg_publication.oid "
        "JOIN pg_class ON pg_class.oid = prrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "WHERE pubname = $1",
        [followed.publication],
    )
    published = {row[0] for row in await cursor.fetchall()}
    if published == {f"{followed.schema}.{table}" for table in followed.tables}:
        return
    cursor = await connection.execute(
        "SELECT 1 FROM pg_publication WHERE pubname = $1", [followed.publication]
    )
    name = identifier(followed.publication)
    tables = ", ".join(followed.quoted(table) for table in followed.tables)
    if await cursor.fetchone() is None:
        await connection.execute(
            f"CREATE PUBLICATION {name} FOR TABLE {tables} WITH (publish_via_partition_root = true)"
        )
    else:
        await connection.execute(f"ALTER PUBLICATION {name} SET TABLE {tables}")


async def slot_is_there(connection: AsyncConnection[Any], followed: Followed) -> bool:
    """Whether the slot was made before.

    Raises:
        ConfigError: there is one of this name that is of another kind.
        Retryable: a temporary one is there, whose connection has not ended yet.
    """
    cursor = await connection.execute(
        "SELECT plugin, temporary FROM pg_replication_slots WHERE slot_name = $1", [followed.slot]
    )
    found = await cursor.fetchone()
    if found is None:
        return False
    plugin, temporary = found
    if plugin != "pgoutput":
        raise ConfigError(
            f"{followed.where}: the slot {followed.slot} belongs to the plugin {plugin}; "
            "choose another slot_name"
        )
    if temporary:
        raise Retryable(
            f"{followed.where}: the temporary slot {followed.slot} is held by another connection"
        )
    if followed.temporary:
        raise ConfigError(
            f"{followed.where}: the slot {followed.slot} is there and lasting, temporary_slot asks for "
            "another; remove it with pg_drop_replication_slot, or choose another slot_name"
        )
    return True


async def make_slot(connection: AsyncConnection[Any], followed: Followed) -> None:
    """Make it; without a snapshot, or before one of a temporary slot."""
    await connection.execute(
        "SELECT pg_create_logical_replication_slot($1, 'pgoutput', $2)",
        [followed.slot, "true" if followed.temporary else "false"],
    )


@asynccontextmanager
async def slot_with_snapshot(connect: Connect, followed: Followed) -> AsyncIterator[str]:
    """Make a lasting slot; yields the name of a snapshot of exactly the moment from which it follows."""
    async with connect(replication="database") as maker:
        # The snapshot is there for as long as this connection does nothing else.
        cursor = await maker.execute(
            f'CREATE_REPLICATION_SLOT "{followed.slot}" LOGICAL pgoutput EXPORT_SNAPSHOT'
        )
        row = await cursor.fetchone()
        assert row is not None
        yield row[2]


@asynccontextmanager
async def snapshot_beside(
    connect: Connect, sleep: Callable[[float], Awaitable[None]]
) -> AsyncIterator[tuple[str, Shown]]:
    """A snapshot that is younger than a slot; yields its name, and what it shows.

    A transaction that was under way when the slot was made may have written its commit before the
    slot's beginning and not be seen yet, so all of those have to end first.
    """
    async with connect() as holder:
        await holder.execute("BEGIN")
        cursor = await holder.execute("SELECT pg_current_xact_id()::text")
        ((number,),) = await cursor.fetchall()
        await holder.execute("ROLLBACK")
        while True:
            await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            shown = await _shown(holder)
            if shown.ended > int(number):
                break
            await holder.execute("ROLLBACK")
            await sleep(_PAUSE)
        cursor = await holder.execute("SELECT pg_export_snapshot()")
        ((name,),) = await cursor.fetchall()
        yield name, shown


async def _shown(connection: AsyncConnection[Any]) -> Shown:
    cursor = await connection.execute("SELECT pg_current_snapshot()::text")
    ((text,),) = await cursor.fetchall()
    return Shown(text)


async def rows_there(
    connect: Connect, followed: Followed, table: str, snapshot: str
) -> AsyncGenerator[Batch, None]:
    """The rows of a table, as a snapshot shows it."""
    metadata = {"operation": "read", "table": table, "schema": followed.schema}
    size = followed.batch_size
    async with connect() as reader:
        await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await reader.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        async with reader.cursor() as cursor:
            batch: Batch = []
            names: list[str] = []
            rows: Any = cursor.stream(
                f"SELECT * FROM {followed.quoted(table)}",  # noqa: S608 - the config's own words, quoted
                size=size,
            )
            async with aclosing(rows):
                async for row in rows:
                    names = names or [column.name for column in cursor.description or ()]
                    value = dict(zip(names, row, strict=True))
                    batch.append(Message(None, metadata, value=value))
                    if len(batch) == size:
                        yield batch
                        batch = []
            if batch:
                yield batch

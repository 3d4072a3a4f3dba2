"""Follows the changes of PostgreSQL tables through a logical replication slot.

Changes are looked at without taking them (`pg_logical_slot_peek_binary_changes`), handed over with the
position of the last one, and only when that is safe is the slot moved on. What a crash leaves in between
is looked at again, and left out by the position: each change is handed over once.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

from openmeter_collector.api import (
    Batch,
    ConfigError,
    Delivery,
    Disconnected,
    Duration,
    EndOfInput,
    Env,
    Example,
    Message,
    Puller,
    Retryable,
    field,
    input,  # noqa: A004
    install_extra,
)
from openmeter_collector.components.sql.changes import Look, Position, Slot, identifier
from openmeter_collector.components.sql.contract import Options
from openmeter_collector.components.sql.marked import Marked
from openmeter_collector.components.sql.pgoutput import lsn_text

if TYPE_CHECKING:
    import psycopg
    from psycopg import AsyncConnection

ORDERS = Example(
    "Every new order, also those that are in the table already",
    """
    input:
      label: orders
      postgres_cdc:
        dsn: postgres://meter:${DB_PASSWORD}@db:5432/shop?sslmode=require
        schema: public
        tables: [ orders ]
        slot_name: openmeter
        stream_snapshot: true
      processors:
        - mapping: |
            root = if !["read", "insert"].contains(meta("operation")) { deleted() }
        - mapping: |
            root = {
              "id": "orders/" + this.id.string(),
              "specversion": "1.0",
              "type": "order",
              "source": "shop",
              "subject": this.customer,
              "time": this.created_at,
              "data": { "amount": this.amount }
            }
    """,
)
_POSITION: Final = "lsn"
_SNAPSHOT: Final = "snapshot"
_NAME: Final = re.compile(r"[a-z0-9_]{1,63}")


def _check_slot(name: str) -> str | None:
    if _NAME.fullmatch(name):
        return None
    return f"{name!r} is no name of a slot; use lower case letters, digits and _, 63 at most"


@input("postgres_cdc", categories=("Services",), examples=[ORDERS])
class PostgresCdc:
    """Makes a message of each row that is inserted, updated or deleted, in the order of commits.

    A message is the row: an object with a field for each column, JSON and arrays as values, decimals as
    numbers with all their digits, times as RFC 3339, bytes as base64. Of a deleted row there is what the
    table's REPLICA IDENTITY keeps, by default the key. Metadata: `operation` (`read` for rows of the
    snapshot, `insert`, `update`, `delete`), `table`, `schema`, `lsn`. Tables that are altered go on with
    their new columns.

    With `stream_snapshot` the rows that are there come first, as of the moment from which on changes are
    followed, so none is missed and none comes twice. A snapshot that was interrupted is begun anew.

    The server needs `wal_level = logical`, the user REPLICATION and the ownership of the tables (for the
    publication `pglog_stream_` + slot, which is made if there is none). The slot keeps the server's log
    until changes are safe here: remove it (`SELECT pg_drop_replication_slot('...')`) when the input is
    not used any more, and watch the gauge `postgres_cdc_lag_bytes`.

    With leader election, runs only on the leader.
    """

    leader_only: ClassVar[bool] = True

    dsn: str = field(
        secret=True,
        doc="Where the database is: `postgres://user:password@host:5432/db?sslmode=require`.",
    )
    include_transaction_markers: bool = field(
        default=False,
        doc="Also make messages with the operation `begin` and `commit`, without content.",
    )
    stream_snapshot: bool = field(
        default=False, doc="Read the rows that are there before the changes."
    )
    snapshot_batch_size: int = field(
        default=1000, minimum=1, doc="Rows of the snapshot handed over together."
    )
    schema: str = field(doc="The schema of the tables.", examples=["public"])
    tables: list[str] = field(doc="The tables.", minimum=1, examples=[["orders"]])
    checkpoint_limit: int = field(
        default=1024, minimum=1, advanced=True, doc="Changes handed over together at most."
    )
    temporary_slot: bool = field(
        default=False,
        advanced=True,
        doc="A slot that goes with the connection: changes while nobody is connected are lost.",
    )
    slot_name: str = field(doc="Name of the slot; made if there is none.", lint=_check_slot)
    pg_standby_timeout: Duration = field(
        default=Duration("10s"),
        advanced=True,
        doc="How often the slot is moved on while nothing changes in the tables.",
    )
    pg_wal_monitor_interval: Duration = field(
        default=Duration("3s"), advanced=True, doc="How often the lag is measured."
    )
    max_parallel_snapshot_tables: int = field(
        default=1, minimum=1, advanced=True, doc="Accepted; tables are read one after the other."
    )
    unchanged_toast_value: Any = field(
        default=None,
        advanced=True,
        doc="Stands for a large value that an update left as it was, which the server does not send. "
        "With REPLICA IDENTITY FULL the value itself is known, and used.",
    )
    heartbeat_interval: Duration = field(
        default=Duration("1h"),
        advanced=True,
        doc="Accepted; the slot moves on without writing into the database.",
    )
    auto_replay_nacks: bool = field(
        default=True, doc="Repeat rows that could not be delivered. There is no other way."
    )
    poll_interval: Duration = field(
        default=Duration("500ms"),
        ours=True,
        doc="Pause before looking for changes again when there were none.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller]:
        follower = _Follower(self, env)
        await follower.verify()
        try:
            yield follower
        finally:
            await follower.close()


class _Follower:
    """Read by the engine; see `Puller`."""

    def __init__(self, config: PostgresCdc, env: Env) -> None:
        try:
            import psycopg  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigError(
                f"{env.node.display()}: the driver for PostgreSQL is missing; {install_extra('postgres')}"
            ) from error
        self._psycopg = psycopg
        self._config = config
        self._env = env
        self._where = env.node.display()
        self._marked = Marked(env)
        self._publication = f"pglog_stream_{config.slot_name}"
        self._slot = Slot(
            name=config.slot_name,
            publication=self._publication,
            most=config.checkpoint_limit,
            markers=config.include_transaction_markers,
            unchanged=config.unchanged_toast_value,
        )
        self._lag = 0.0
        env.metrics.gauge(
            "postgres_cdc_lag_bytes",
            "Log that the slot keeps on the server, as last measured.",
            lambda: self._lag,
        )
        self._deliveries = self._followed()

    async def read(self) -> Delivery:
        try:
            return await anext(self._deliveries)
        except StopAsyncIteration:
            raise EndOfInput("nothing is followed any more") from None
        except self._psycopg.Error as error:
            # What is under way must be safe before it is asked again how far we came.
            await self._marked.all_safe()
            raise Disconnected(self._told(error)) from error

    async def verify(self) -> None:
        """Connect for the first time.

        Raises:
            Retryable: it cannot be done now.
        """
        try:
            async with await self._connect():
                pass
        except self._psycopg.Error as error:
            raise Retryable(self._told(error)) from error

    def _told(self, error: psycopg.Error) -> str:
        said = error.diag.message_primary or str(error)
        return f"{self._where}: {' '.join(said.split())}"

    async def close(self) -> None:
        """End the connection."""
        await self._deliveries.aclose()

    async def _connect(self, **more: str) -> AsyncConnection[Any]:
        from openmeter_collector.components.sql.postgres import conninfo  # noqa: PLC0415 - an extra
        from openmeter_collector.components.sql.postgres_types import register  # noqa: PLC0415

        options = Options("postgres", self._config.dsn, self._where)
        connection: AsyncConnection[Any] = await self._psycopg.AsyncConnection.connect(
            conninfo(options, **more),
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=self._psycopg.AsyncRawCursor,
        )
        register(connection.adapters, structured=True, exact_numbers=True)
        return connection

    async def _followed(self) -> AsyncGenerator[Delivery, None]:
        async with await self._connect() as connection:
            await self._publish(connection)
            kept = await self._env.state.load(_SNAPSHOT)
            there = await self._slot_is_there(connection)
            if there and kept == b"begun":
                await connection.execute(
                    "SELECT pg_drop_replication_slot($1)", [self._config.slot_name]
                )
                there = False
            if not there:
                source = self._begun(connection)
                async with aclosing(source):
                    async for delivery in source:
                        yield delivery
            source = self._changes(connection)
            async with aclosing(source):
                async for delivery in source:
                    yield delivery

    # ---- before the first change ---------------------------------------------------------------

    async def _publish(self, connection: AsyncConnection[Any]) -> None:
        """See to it that the publication is about the tables of the config."""
        cursor = await connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = $1",
            [self._publication],
        )
        published = {row[0] for row in await cursor.fetchall()}
        wanted = {f"{self._config.schema}.{table}" for table in self._config.tables}
        if published == wanted:
            return
        cursor = await connection.execute(
            "SELECT 1 FROM pg_publication WHERE pubname = $1", [self._publication]
        )
        tables = ", ".join(self._quoted(table) for table in self._config.tables)
        verb = "ALTER PUBLICATION {} SET TABLE {}"
        if await cursor.fetchone() is None:
            verb = "CREATE PUBLICATION {} FOR TABLE {}"
        await connection.execute(verb.format(identifier(self._publication), tables))

    async def _slot_is_there(self, connection: AsyncConnection[Any]) -> bool:
        cursor = await connection.execute(
            "SELECT plugin FROM pg_replication_slots WHERE slot_name = $1",
            [self._config.slot_name],
        )
        found = await cursor.fetchone()
        if found is not None and found[0] != "pgoutput":
            raise ConfigError(
                f"{self._where}: the slot {self._config.slot_name} belongs to the plugin {found[0]}; "
                "choose another slot_name"
            )
        return found is not None

    async def _begun(self, connection: AsyncConnection[Any]) -> AsyncGenerator[Delivery, None]:
        """Make the slot; with it comes a snapshot of exactly the moment from which it follows."""
        name = self._config.slot_name
        if self._config.temporary_slot or not self._config.stream_snapshot:
            await connection.execute(
                "SELECT pg_create_logical_replication_slot($1, 'pgoutput', $2)",
                [name, "true" if self._config.temporary_slot else "false"],
            )
            if not self._config.stream_snapshot:
                return
        yield await self._marked.delivery([], _SNAPSHOT, b"begun")
        # A slot without this on disk would be followed after a crash, and the rows before it never read.
        await self._marked.all_safe()
        snapshot = ""
        async with await self._connect(replication="database") as maker:
            # The snapshot is there for as long as this connection does nothing else.
            if not self._config.temporary_slot:
                cursor = await maker.execute(
                    f'CREATE_REPLICATION_SLOT "{name}" LOGICAL pgoutput EXPORT_SNAPSHOT'
                )
                row = await cursor.fetchone()
                assert row is not None
                snapshot = row[2]
            for table in self._config.tables:
                source = self._rows_there(table, snapshot)
                async with aclosing(source):
                    async for batch in source:
                        yield await self._marked.delivery(batch, _SNAPSHOT, b"begun")
        yield await self._marked.delivery([], _SNAPSHOT, b"done")

    async def _rows_there(self, table: str, snapshot: str) -> AsyncGenerator[Batch, None]:
        metadata = {"operation": "read", "table": table, "schema": self._config.schema}
        size = self._config.snapshot_batch_size
        async with await self._connect() as reader:
            await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if snapshot:
                await reader.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            async with reader.cursor() as cursor:
                batch: Batch = []
                names: list[str] = []
                async for row in cursor.stream(
                    f"SELECT * FROM {self._quoted(table)}",  # noqa: S608 - the config's own words, quoted
                    size=size,
                ):
                    names = names or [column.name for column in cursor.description or ()]
                    value = dict(zip(names, row, strict=True))
                    batch.append(Message(None, metadata, value=value))
                    if len(batch) == size:
                        yield batch
                        batch = []
                if batch:
                    yield batch

    # ---- changes -------------------------------------------------------------------------------

    async def _changes(self, connection: AsyncConnection[Any]) -> AsyncGenerator[Delivery, None]:
        position = Position.read(await self._env.state.load(_POSITION))
        moved = measured = self._env.monotonic()
        while True:
            # What is committed up to here is looked at; if nothing of it is ours, none of it is needed.
            # Flushed, not only written: a look ends at what is flushed, and a commit between would be lost.
            cursor = await connection.execute("SELECT pg_current_wal_flush_lsn()::text")
            ((upto,),) = await cursor.fetchall()
            look = Look(self._slot, position)
            source = look.batches(connection, upto)
            async with aclosing(source):
                async for batch, position in source:
                    yield await self._marked.delivery(batch, _POSITION, position.to_bytes())
            await self._marked.all_safe()
            now = self._env.monotonic()
            if look.ended:
                await self._move(connection, lsn_text(look.ended))
            elif not look.open and now - moved >= self._config.pg_standby_timeout:
                await self._move(connection, upto)
                moved = now
            if now - measured >= self._config.pg_wal_monitor_interval or look.ended:
                measured = now
                await self._measure(connection)
            if not look.ended:
                await self._env.sleep(self._config.poll_interval)

    async def _move(self, connection: AsyncConnection[Any], lsn: str) -> None:
        """Let the server forget what is safe here."""
        await connection.execute(
            "SELECT pg_replication_slot_advance(slot_name, $2::pg_lsn) FROM pg_replication_slots "
            "WHERE slot_name = $1 AND confirmed_flush_lsn < $2::pg_lsn",
            [self._config.slot_name, lsn],
        )

    async def _measure(self, connection: AsyncConnection[Any]) -> None:
        cursor = await connection.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint "
            "FROM pg_replication_slots WHERE slot_name = $1",
            [self._config.slot_name],
        )
        row = await cursor.fetchone()
        if row is None:
            raise Retryable(f"{self._where}: the slot {self._config.slot_name} is gone")
        self._lag = float(row[0] or 0)

    def _quoted(self, table: str) -> str:
        return f"{identifier(self._config.schema)}.{identifier(table)}"

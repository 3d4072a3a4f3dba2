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
    ClientTls,
    ConfigError,
    Delivery,
    Disconnected,
    Duration,
    EndOfInput,
    Env,
    Example,
    Puller,
    Retryable,
    field,
    input,  # noqa: A004
    install_extra,
)
from openmeter_collector.components.aws.rds import RdsAuth
from openmeter_collector.components.sql.beginning import (
    Followed,
    make_slot,
    publish,
    rows_there,
    slot_is_there,
    slot_with_snapshot,
    snapshot_beside,
)
from openmeter_collector.components.sql.changes import Look, Position, Shown, Slot, written_as
from openmeter_collector.components.sql.contract import Options
from openmeter_collector.components.sql.marked import Marked
from openmeter_collector.components.sql.pgoutput import lsn_text
from openmeter_collector.components.sql.postgres_access import password_parameters, tls_parameters

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
    table's REPLICA IDENTITY keeps, by default the key. A table that is emptied (TRUNCATE) is a message
    without content. Metadata: `operation` (`read` for rows of the snapshot, `insert`, `update`, `delete`,
    `truncate`), `table`, `schema`, and for changes `lsn` and `commit_ts_ms`. Tables that are altered go
    on with their new columns; partitioned ones have their own name, not those of partitions.

    With `stream_snapshot` the rows that are there come first, as of the moment from which on changes are
    followed, so none is missed and none comes twice. A snapshot that was interrupted is begun anew.

    When the slot is gone (somebody removed it, the server gave it up), a new one is made. Changes in
    between are not seen; that is logged, and counted in `postgres_cdc_slots_remade`.

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
        doc="A slot that goes with the connection. With every new connection all begins anew: changes in "
        "between are not seen, and with `stream_snapshot` all rows come again as they are then.",
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
    tls: ClientTls = field(
        default_factory=ClientTls,
        advanced=True,
        doc="TLS, instead of what the DSN and the environment say of it. The server's name is verified.",
    )
    aws: RdsAuth = field(
        default_factory=RdsAuth, advanced=True, doc="Log in by IAM, at databases of RDS and Aurora."
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
        where = f"{env.node.display()}.tls"
        with tls_parameters(self.tls, where) as tls:
            follower = _Follower(self, env, tls)
            await follower.verify()
            try:
                yield follower
            finally:
                await follower.close()


class _Follower:
    """Read by the engine; see `Puller`."""

    def __init__(self, config: PostgresCdc, env: Env, tls: dict[str, str]) -> None:
        try:
            import psycopg  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigError(
                f"{env.node.display()}: the driver for PostgreSQL is missing; {install_extra('postgres')}"
            ) from error
        self._psycopg = psycopg
        self._config = config
        self._tls = tls
        self._env = env
        self._where = env.node.display()
        self._marked = Marked(env)
        self._what = Followed(
            where=self._where,
            schema=config.schema,
            tables=config.tables,
            slot=config.slot_name,
            publication=f"pglog_stream_{config.slot_name}",
            temporary=config.temporary_slot,
            batch_size=config.snapshot_batch_size,
        )
        self._shown: Shown | None = None
        self._slot = Slot(
            name=config.slot_name,
            publication=self._what.publication,
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
        self._remade = env.metrics.counter(
            "postgres_cdc_slots_remade", "Slots that were gone, so that changes were not seen."
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
            async with self._connected():
                pass
        except self._psycopg.Error as error:
            raise Retryable(self._told(error)) from error

    def _told(self, error: psycopg.Error) -> str:
        said = error.diag.message_primary or str(error)
        return f"{self._where}: {' '.join(said.split())}"

    async def close(self) -> None:
        """End the connection."""
        await self._deliveries.aclose()

    @asynccontextmanager
    async def _connected(self, **more: str) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection for a block. The library's own block leaves it open when it is cancelled while it
        ends a transaction; whatever is open ends with the connection.
        """
        connection = await self._connect(**more)
        try:
            yield connection
        finally:
            await connection.close()

    async def _connect(self, **more: str) -> AsyncConnection[Any]:
        from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415 - an extra

        from openmeter_collector.components.sql.postgres import conninfo  # noqa: PLC0415
        from openmeter_collector.components.sql.postgres_types import register  # noqa: PLC0415

        options = Options("postgres", self._config.dsn, self._where)
        info = conninfo(options, **self._tls, **more)
        given = {name: str(value) for name, value in conninfo_to_dict(info).items()}
        password = await password_parameters(self._config.aws, given, self._where)
        connection: AsyncConnection[Any] = await self._psycopg.AsyncConnection.connect(
            make_conninfo(info, **password),
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=self._psycopg.AsyncRawCursor,
        )
        register(connection.adapters, structured=True, exact_numbers=True)
        return connection

    async def _followed(self) -> AsyncGenerator[Delivery, None]:
        followed = self._what
        async with self._connected() as connection:
            await publish(connection, followed)
            there = await slot_is_there(connection, followed)
            if there and await self._env.state.load(_SNAPSHOT) == b"begun":
                # Its snapshot is gone with the connection that had it.
                await connection.execute("SELECT pg_drop_replication_slot($1)", [followed.slot])
                there = False
            position = Position.read(await self._env.state.load(_POSITION))
            if not there:
                async for delivery in self._begun_anew(position):
                    yield delivery
                position = Position(0, 0)
                source = self._beginning(connection)
                async with aclosing(source):
                    async for delivery in source:
                        yield delivery
            source = self._changes(connection, position)
            async with aclosing(source):
                async for delivery in source:
                    yield delivery

    # ---- before the first change ---------------------------------------------------------------

    async def _begun_anew(self, position: Position) -> AsyncGenerator[Delivery, None]:
        """Forget a position in a slot that is no more: a new one may be behind it."""
        if position.lsn:
            self._remade.add()
            self._env.log.warning(
                "the slot is gone, a new one is made; changes in between are not seen",
                slot=self._what.slot,
                since=lsn_text(position.lsn),
            )
            yield await self._marked.delivery([], _POSITION, Position(0, 0).to_bytes())
            await self._marked.all_safe()

    async def _beginning(self, connection: AsyncConnection[Any]) -> AsyncGenerator[Delivery, None]:
        """Make the slot, and read the rows that are there."""
        followed = self._what
        self._shown = None
        if not self._config.stream_snapshot:
            await make_slot(connection, followed)
            return
        if followed.temporary:
            await make_slot(connection, followed)
            async with snapshot_beside(self._connected, self._env.sleep) as (snapshot, self._shown):
                source = self._read(snapshot, _POSITION, Position(0, 0).to_bytes())
                async with aclosing(source):
                    async for delivery in source:
                        yield delivery
            return
        yield await self._marked.delivery([], _SNAPSHOT, b"begun")
        # A slot without this on disk would be followed after a crash, and the rows before it never read.
        await self._marked.all_safe()
        async with slot_with_snapshot(self._connected, followed) as snapshot:
            source = self._read(snapshot, _SNAPSHOT, b"begun")
            async with aclosing(source):
                async for delivery in source:
                    yield delivery
        yield await self._marked.delivery([], _SNAPSHOT, b"done")

    async def _read(self, snapshot: str, mark: str, value: bytes) -> AsyncGenerator[Delivery, None]:
        """The rows that a snapshot shows."""
        for table in self._what.tables:
            source = rows_there(self._connected, self._what, table, snapshot)
            async with aclosing(source):
                async for batch in source:
                    yield await self._marked.delivery(batch, mark, value)

    # ---- changes -------------------------------------------------------------------------------

    async def _changes(
        self, connection: AsyncConnection[Any], begin: Position
    ) -> AsyncGenerator[Delivery, None]:
        position = begin
        moved = measured = self._env.monotonic()
        types: dict[int, int] = {}
        while True:
            # What is committed up to here is looked at; if nothing of it is ours, none of it is needed.
            # Flushed, not only written: a look ends at what is flushed, and a commit between would be lost.
            cursor = await connection.execute("SELECT pg_current_wal_flush_lsn()::text")
            ((upto,),) = await cursor.fetchall()
            look = Look(self._slot, position, types, self._shown)
            source = look.batches(connection, upto)
            async with aclosing(source):
                async for batch, position in source:
                    yield await self._marked.delivery(batch, _POSITION, position.to_bytes())
            if look.unknown:
                types |= await written_as(connection, look.unknown)
                continue
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

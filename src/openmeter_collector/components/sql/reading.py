"""The loop of the SQL inputs: once, window by window, or on from a cursor.

Rows are handed over as they are read from the server, so that a result of any size is read in bounded
memory. With a cursor the position becomes true together with the rows it covers; there is at most one
delivery with a position under way. Windows are kept by `WindowedInput`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from openmeter_collector.api import (
    Batch,
    CollectorError,
    Delivery,
    Disconnected,
    EndOfInput,
    Env,
    Intake,
    MappingText,
    Message,
    Rejected,
    Retryable,
    Value,
)
from openmeter_collector.components.sql.building import arguments
from openmeter_collector.components.sql.contract import Block, Database, Row, Statement
from openmeter_collector.components.sql.marked import Marked
from openmeter_collector.components.sql.position import (
    Cursor,
    Position,
    SeenMarks,
    name_of,
    position_from,
)
from openmeter_collector.values.schedule import Schedule
from openmeter_collector.values.timestamp import Timestamp
from openmeter_collector.values.windows import Window, moment_text

CURSOR = "cursor"
_PAUSE: Final = 5.0  # seconds after a query that failed


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query is to be about.

    Attributes:
        args: what `args_mapping` made.
        after: the last row that was read, None for the beginning.
        first: the value to begin with, this one included; None for all.
        until: the last value to read, None for all.
    """

    args: Sequence[Value]
    after: Sequence[Value] | None = None
    first: Value = None
    until: Value = None


class Query(Protocol):
    """What the two inputs differ in: how a statement is made."""

    def statement(self, asked: Asked) -> Statement:
        """The statement to run."""

    def greatest(self, args: Sequence[Value]) -> Statement:
        """Asks for the greatest value of the cursor's column, as `greatest`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read, and when.

    Attributes:
        pages: the query limits itself to `cursor.page_size` rows.
    """

    query: Query
    args_mapping: MappingText | None
    cursor: Cursor | None
    schedule: Schedule | None
    batch_size: int
    pages: bool


class SqlReader:
    """A `Puller`."""

    def __init__(self, plan: Plan, database: Database, env: Env) -> None:
        self._plan = plan
        self._database = database
        self._env = env
        self.marked = Marked(env)
        self._deliveries = self._made()

    async def read(self) -> Delivery:
        try:
            return await anext(self._deliveries)
        except StopAsyncIteration:
            raise EndOfInput("the result is read") from None
        except Disconnected:
            await self.marked.all_safe()
            raise
        except (Rejected, Retryable) as error:
            # A query that fails will fail again at once; and what is under way must be safe before
            # whoever opens this input again asks how far it came.
            await self.marked.all_safe()
            await self._env.sleep(_PAUSE)
            raise Retryable(str(error)) from error

    async def close(self) -> None:
        """End the query that runs."""
        await self._deliveries.aclose()

    async def _made(self) -> AsyncGenerator[Delivery, None]:
        if self._plan.cursor is not None:
            source = _FromCursor(self, self._plan, self._plan.cursor).deliveries()
        else:
            source = self._once()
        async with aclosing(source):
            async for delivery in source:
                yield delivery

    async def _once(self) -> AsyncGenerator[Delivery, None]:
        statement = self._plan.query.statement(Asked(self.args(None)))
        stream = self._database.stream(statement, self._plan.batch_size)
        async with aclosing(stream):
            async for block in stream:
                yield Delivery(messages(block.rows))

    # ---- for cursors too ---------------------------------------------------------------------

    @property
    def env(self) -> Env:
        """The component's surroundings."""
        return self._env

    @property
    def database(self) -> Database:
        """The database."""
        return self._database

    def args(self, document: Value) -> list[Value]:
        """What `args_mapping` makes of a document about the cursor."""
        return made_of(self._plan.args_mapping, document, self._env)

    async def wait_until(self, due: float) -> None:
        """Wait for a moment of the wall clock."""
        pause = due - self._env.now()
        if pause > 0:
            await self._env.sleep(pause)


class _FromCursor:
    """Reads page after page, each from where the last one ended."""

    def __init__(self, reader: SqlReader, plan: Plan, cursor: Cursor) -> None:
        self._reader = reader
        self._plan = plan
        self._cursor = cursor
        self._columns = (cursor.column, *cursor.key)
        self._names = [name_of(one) for one in self._columns]
        self._seen = SeenMarks(cursor.lag) if cursor.lag else None
        self._where = reader.env.node.display()
        self._position: Position | None = None
        self._rows = 0

    async def deliveries(self) -> AsyncGenerator[Delivery, None]:
        """Without a schedule, until all is read."""
        env = self._reader.env
        self._position = position_from(await env.state.load(CURSOR), self._columns, self._where)
        schedule = self._plan.schedule
        due = schedule.first(env.now()) if schedule is not None else 0.0
        while True:
            await self._reader.wait_until(due)
            ready, until = await self._limit()
            if ready:
                source = self._all_pages(until)
                async with aclosing(source):
                    async for delivery in source:
                        yield delivery
            if schedule is None:
                return
            due = schedule.after(max(due, env.now() - schedule.every))

    async def _limit(self) -> tuple[bool, Value]:
        """Whether there may be something to read, and up to which value."""
        if self._seen is None:
            return True, None
        env = self._reader.env
        asked = self._plan.query.greatest(self._reader.args(self._document()))
        moment = env.monotonic()
        stream = self._reader.database.stream(asked, 1, ("greatest",))
        async with aclosing(stream):
            async for block in stream:
                self._seen.add(moment, self._reader.database.argument(block.marks[0][0]))
        if self._plan.schedule is None:
            await env.sleep(self._seen.wait(env.monotonic()))
        until = self._seen.old_enough(env.monotonic())
        return until is not None, until

    async def _all_pages(self, until: Value) -> AsyncGenerator[Delivery, None]:
        more = True
        while more:
            before = self._position
            source = self._page(until)
            async with aclosing(source):
                async for batch, mark in source:
                    self._position = Position(mark)
                    yield await self._reader.marked.delivery(
                        batch, CURSOR, self._position.to_bytes(self._columns)
                    )
            rows = self._rows
            more = rows >= self._cursor.page_size if self._plan.pages else rows > 0
            if more and self._position == before:
                raise Retryable(
                    f"{self._where}: the query gave {rows} rows and the cursor did not move; "
                    "it must ask for rows after the cursor, in the cursor's order"
                    if not self._plan.pages
                    else f"{self._where}: {rows} rows have the same value of {self._cursor.column}; "
                    "set cursor.key to tell them apart, or a larger cursor.page_size"
                )

    async def _page(self, until: Value) -> AsyncGenerator[tuple[Batch, tuple[Value, ...]], None]:
        """Batches with the mark of their last row."""
        database = self._reader.database
        mark = None if self._position is None else self._position.mark
        after = None if mark is None else [database.argument(one) for one in mark]
        asked = Asked(self._reader.args(self._document(until)), after, self._cursor.initial, until)
        statement = self._plan.query.statement(asked)
        stream = database.stream(statement, self._plan.batch_size, self._names)
        groups = _Groups(
            by_value=self._plan.pages and not self._cursor.key, size=self._plan.batch_size
        )
        last: tuple[Value, ...] | None = None
        self._rows = 0
        async with aclosing(stream):
            async for block in stream:
                self._rows += len(block.rows)
                last = self._ordered(last, block, until)
                for part, mark in groups.add(block):
                    yield messages(part), mark
        full = self._plan.pages and self._rows >= self._cursor.page_size
        for part, mark in groups.rest(whole=not full):
            yield messages(part), mark

    def _ordered(
        self, last: tuple[Value, ...] | None, block: Block, until: Value
    ) -> tuple[Value, ...]:
        """Only the first column is looked at: how a server orders text is its own affair."""
        value = last[0] if last is not None else None
        argument = self._reader.database.argument
        for mark in block.marks:
            if mark[0] is None:
                raise Retryable(
                    f"{self._where}: {self._names[0]} is NULL in a row; leave such rows out"
                )
            numbers = isinstance(value, int | float) and isinstance(mark[0], int | float)
            if numbers and mark[0] < value:
                raise Retryable(
                    f"{self._where}: the rows are not in the order of {self._names[0]}; "
                    f"put ORDER BY {', '.join(self._columns)} into the query"
                )
            value = mark[0]
        if _is_after(argument(block.marks[-1][0]), until):
            raise Retryable(
                f"{self._where}: the query gives rows after this.cursor.until, which may not be read yet; "
                "put it into the query"
            )
        return block.marks[-1]

    def _document(self, until: Value = None) -> Value:
        """What `args_mapping` sees as `this`."""
        argument = self._reader.database.argument
        if self._position is not None:
            value, *key = (argument(one) for one in self._position.mark)
        else:
            value, key = self._cursor.initial, [None] * len(self._cursor.key)
        return {"cursor": {"value": value, "key": key, "until": until}, "window": None}


class _Groups:
    """Cuts rows into batches; by value, only between rows with different values of the column."""

    def __init__(self, *, by_value: bool, size: int) -> None:
        self._by_value = by_value
        self._size = size
        self._rows: list[Row] = []
        self._marks: list[tuple[Value, ...]] = []

    def add(self, block: Block) -> list[tuple[list[Row], tuple[Value, ...]]]:
        """What can be handed over now."""
        if not self._by_value:
            return [(block.rows, block.marks[-1])]
        self._rows += block.rows
        self._marks += block.marks
        if len(self._rows) < self._size:
            return []
        at = len(self._marks) - 1
        while at and self._marks[at - 1][0] == self._marks[-1][0]:
            at -= 1
        return [self._cut(at)] if at else []

    def rest(self, *, whole: bool) -> list[tuple[list[Row], tuple[Value, ...]]]:
        """What is left at the end; the last value only if the result ended with it."""
        if not self._marks:
            return []
        at = len(self._marks)
        while not whole and at and self._marks[at - 1][0] == self._marks[-1][0]:
            at -= 1
        return [self._cut(at)] if at else []

    def _cut(self, at: int) -> tuple[list[Row], tuple[Value, ...]]:
        made = self._rows[:at], self._marks[at - 1]
        del self._rows[:at], self._marks[:at]
        return made


class WindowReader:
    """The rows of one window after the other; a `WindowSource`."""

    def __init__(self, plan: Plan, database: Database, env: Env) -> None:
        self._plan = plan
        self._database = database
        self._env = env

    async def fetch(self, window: Window, rest: Sequence[str]) -> AsyncIterator[Batch]:
        del rest
        about = {"from": _timestamp(window.start), "to": _timestamp(window.end)}
        metadata = {
            "window_start": moment_text(window.start),
            "window_end": moment_text(window.end),
        }
        args = made_of(self._plan.args_mapping, {"window": about, "cursor": None}, self._env)
        statement = self._plan.query.statement(Asked(args))
        stream = self._database.stream(statement, self._plan.batch_size)
        async with aclosing(stream):
            async for block in stream:
                yield [Message(None, metadata, value=row) for row in block.rows]


class Once:
    """An `Input` whose messages are not repeated when they could not be delivered."""

    def __init__(self, reader: SqlReader) -> None:
        self._reader = reader

    async def run(self, intake: Intake) -> None:
        while True:
            try:
                delivery = await self._reader.read()
            except EndOfInput:
                return
            await intake.put(delivery)


def messages(rows: Sequence[Row]) -> Batch:
    """A message of each row."""
    return [Message(None, value=row) for row in rows]


def made_of(mapping: MappingText | None, document: Value, env: Env) -> list[Value]:
    """The values for a query, made from what is known about cursor and window.

    Raises:
        Retryable: the mapping fails.
    """
    try:
        return arguments(mapping, [Message(None, value=document)], 0)
    except (CollectorError, ValueError) as error:
        raise Retryable(f"{env.node.display()}: args_mapping failed: {error}") from error


def _is_after(value: Value, until: Value) -> bool:
    if isinstance(value, Timestamp) and isinstance(until, Timestamp):
        return value.ns > until.ns
    return isinstance(value, int | float) and isinstance(until, int | float) and value > until


def _timestamp(milliseconds: int) -> Timestamp:
    return Timestamp(milliseconds * 1_000_000)

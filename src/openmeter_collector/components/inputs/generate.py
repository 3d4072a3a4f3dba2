"""Makes messages with a mapping, at intervals, at set times, or as fast as they are taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    NO_METADATA,
    Batch,
    CollectorError,
    Delivery,
    EndOfInput,
    Env,
    Example,
    Input,
    Intake,
    MappingText,
    Message,
    Puller,
    field,
    input,  # noqa: A004
)
from openmeter_collector.bloblang import DELETED, NOTHING
from openmeter_collector.values.schedule import Schedule, parse_schedule

USAGE = Example(
    "A usage event twice a second",
    """
    input:
      generate:
        interval: 500ms
        mapping: |
          root = {
            "specversion": "1.0",
            "id": uuid_v4(),
            "type": "request",
            "source": "demo",
            "subject": "customer-1",
            "time": now()
          }
    """,
)
CRON = Example(
    "Once an hour, on the hour, in a time zone",
    """
    input:
      generate:
        interval: "TZ=Europe/Budapest 0 * * * *"
        mapping: root = "tick"
    """,
)


def _check_interval(text: str) -> str | None:
    try:
        parse_schedule(text)
    except ValueError as fault:
        return str(fault)
    return None


@input("generate", categories=("Utility",), examples=[USAGE, CRON])
class Generate:
    """Makes messages out of nothing, for tests, for demonstrations, and to set off other work.

    The first message comes at once, or at the first set time if `interval` is a cron expression.
    A mapping that fails is logged and makes no message; neither does one that gives `deleted()`.
    After `count` messages the input ends, and with it the pipeline once all are delivered.
    """

    mapping: MappingText = field(
        doc="Makes a message: what it assigns to `root` is the content, `meta` the metadata.",
        examples=['root = {"id": uuid_v4()}'],
    )
    interval: str = field(
        default="1s",
        doc="Time between batches: a duration (`500ms`), a cron expression with five fields or "
        "six (seconds first), with `TZ=zone` before it if need be, or `@every 1h`. Empty is as "
        "fast as they are taken.",
        examples=["5s", "1m", "0,30 */2 * * * *", "@every 5m"],
        lint=_check_interval,
    )
    count: int = field(default=0, minimum=0, doc="End after so many messages; 0 is never.")
    batch_size: int = field(default=1, minimum=1, doc="Messages made at a time.")
    auto_replay_nacks: bool = field(
        default=True,
        doc="Repeat a message that could not be delivered, until it is. Without it the message is "
        "gone.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Puller | Input]:
        maker = _Maker(self, env)
        yield maker if self.auto_replay_nacks else _Once(maker)


class _Maker:
    def __init__(self, config: Generate, env: Env) -> None:
        self._program = config.mapping.program
        self._schedule: Schedule | None = parse_schedule(config.interval)
        self._left = config.count or None
        self._batch_size = config.batch_size
        self._env = env
        self._due: float | None = None

    async def read(self) -> Delivery:
        while True:
            if self._left == 0:
                raise EndOfInput("all messages are made")
            await self._wait()
            wanted = self._batch_size if self._left is None else min(self._left, self._batch_size)
            if self._left is not None:
                self._left -= wanted
            batch = [made for _ in range(wanted) if (made := self._make()) is not None]
            if batch:
                return Delivery(batch)
            # Nothing was made: whoever else is running gets a turn even without an interval.
            await self._env.sleep(0)

    async def _wait(self) -> None:
        if self._schedule is None:
            return
        now = self._env.now()
        if self._due is None:
            self._due = self._schedule.first(now)
        else:
            # Times that passed while nobody took anything are left out, not made up for.
            self._due = self._schedule.after(max(self._due, now - self._schedule.every))
        if (pause := self._due - now) > 0:
            await self._env.sleep(pause)

    def _make(self) -> Message | None:
        empty: Batch = [Message(b"")]
        try:
            body, metadata = self._program.run(empty, 0)
        except CollectorError as error:
            self._env.log.warning("the mapping failed, no message was made", error=str(error))
            return None
        if body is DELETED:
            return None
        if body is NOTHING:
            return Message(b"", metadata or NO_METADATA)
        if isinstance(body, bytes):
            return Message(body, metadata or NO_METADATA)
        if isinstance(body, str):
            return Message(body.encode("utf-8", "surrogateescape"), metadata or NO_METADATA)
        return Message(None, metadata or NO_METADATA, value=body)


class _Once:
    """Makes messages whose fate nobody asks about."""

    def __init__(self, maker: _Maker) -> None:
        self._maker = maker

    async def run(self, intake: Intake) -> None:
        while True:
            try:
                delivery = await self._maker.read()
            except EndOfInput:
                return
            await intake.put(delivery)

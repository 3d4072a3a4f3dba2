"""Puts messages together by the time they belong to.

What is held is in memory only, so nothing is acknowledged before the windows that a message belongs to
have been delivered: whoever sent it, or the place it was read from, keeps it until then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from openmeter_collector.api import (
    Batch,
    BatchFailed,
    Buffer,
    BufferStatus,
    ByteSize,
    CollectorError,
    ConfigError,
    Delivery,
    Duration,
    EndOfInput,
    Env,
    Example,
    MappingText,
    Message,
    Overloaded,
    ProcessingError,
    Retryable,
    buffer,
    by_index,
    field,
)
from openmeter_collector.bloblang.convert import get_timestamp
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.components.buffers.sizes import size_of, size_of_all
from openmeter_collector.values.timestamp import Timestamp

HOURLY = Example(
    "One event an hour and customer, with the sum",
    """
    buffer:
      system_window:
        timestamp_mapping: root = this.time
        size: 1h
        allowed_lateness: 5m
    pipeline:
      processors:
        - group_by_value:
            value: ${! json("subject") }
        - mapping: |
            root = if batch_index() == 0 {
              {
                "id": this.subject + "/" + @window_end_timestamp,
                "source": "hourly",
                "type": "tokens",
                "subject": this.subject,
                "time": @window_end_timestamp,
                "data": { "tokens": json("data.tokens").from_all().sum() },
              }
            } else { deleted() }
    """,
)
_GIGA: Final = 1_000_000_000
_FIRST_DAY: Final = -62_135_596_800 * _GIGA
"""Nanoseconds from 1970 back to the year 1, where windows are counted from: weeks begin on Monday."""
_LOOK_AGAIN: Final = 60.0
"""Seconds after which the clock is looked at again, in case it was set."""
_SHORTEST_WAIT: Final = 1e-6
_REMEMBERED: Final = 10_000


@buffer("system_window", categories=("Windowing",), stability="beta", examples=[HOURLY])
class SystemWindow:
    """Collects messages into windows of time, and gives out each window as one batch when it is over.

    A window ends at a whole multiple of `size` on the UTC clock (with `size: 1h`, at the full hour), and
    contains what belongs to the time up to and including its end. Each message gets the metadata
    `window_end_timestamp` (RFC 3339). A window with nothing in it is not given out. With `slide`, windows
    overlap: one of `size` ends every `slide`, and a message is in several of them.

    **Nothing is acknowledged before it is delivered.** Messages are held in memory, and their sender, or
    the place they were read from, waits until all windows that they are in have been delivered. A sender
    that cannot wait so long, such as an HTTP client, should write into another collector or queue first.
    At an orderly stop, windows that are not over are not given out half full: their messages are not
    acknowledged, and come again from where they came.

    A message that comes when its window has been given out is dropped by rule, as `late` says; that is
    counted in `buffer_late_messages` and said in the log. A window of the past that was not given out,
    as after a restart, is still made, and waits `allowed_lateness` (at least a second) for its messages. A message whose time cannot be found is not
    dropped: it is put into the present window, flagged with the error. When `limit` is reached nothing
    more is taken until a window is over.
    """

    timestamp_mapping: MappingText = field(
        default_factory=lambda: MappingText("root = now()"),
        doc="The time that a message belongs to: Unix seconds, or text in RFC 3339. By default the time at "
        "which it comes.",
        examples=["root = this.created_at", 'root = meta("kafka_timestamp_unix").number()'],
    )
    size: Duration = field(doc="How long a window is.", examples=["30s", "10m"], minimum=1e-9)
    slide: Duration | None = field(
        default=None,
        doc="Time from the beginning of a window to that of the next, shorter than `size`. Empty for "
        "windows that follow each other.",
        examples=["30s", "10m"],
    )
    offset: Duration | None = field(
        default=None,
        doc="Moves the ends of all windows by this much; may be negative.",
        examples=["-6h", "30m"],
    )
    allowed_lateness: Duration | None = field(
        default=None,
        doc="How long to wait after the end of a window before it is given out, for messages that come "
        "late.",
        examples=["10s", "1m"],
    )
    late: Literal["drop", "next_window"] = field(
        default="drop",
        ours=True,
        doc="What happens to a message that comes when its window has been given out.",
        choices={
            "drop": "It is left out, and counted.",
            "next_window": "It is put into the window that ends next.",
        },
    )
    limit: ByteSize = field(
        default=ByteSize("512MiB"),
        ours=True,
        doc="Bytes held at most, content and metadata together.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Buffer]:
        """Starts empty.

        Raises:
            ConfigError: the durations do not fit together.
        """
        _check(self, f"{env.node.path}.system_window")
        yield _Windows(self, env)


def _check(config: SystemWindow, where: str) -> None:
    size = float(config.size)
    between = size if config.slide is None else float(config.slide)

    def refuse(name: str, value: Duration, than: str) -> None:
        raise ConfigError(f"{where}.{name}: {value.text}; must be shorter than {than}")

    if config.slide is not None and not 0 < between < size:
        refuse("slide", config.slide, "size, and not nothing")
    if config.offset is not None and abs(float(config.offset)) >= between:
        refuse("offset", config.offset, "slide or size")
    if config.allowed_lateness is not None and not 0 <= float(config.allowed_lateness) < size:
        refuse("allowed_lateness", config.allowed_lateness, "size")


class _Share:
    """A delivery that was taken apart; settled when all of its messages are, in all their windows."""

    __slots__ = ("delivery", "errors", "left")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.errors: dict[int, Exception] = {}
        self.left = 1
        """Parts that are not settled; one is the writing itself."""

    def done(self, index: int = -1, error: Exception | None = None) -> None:
        if error is not None:
            self.errors[index] = error
        self.left -= 1
        if self.left == 0:
            self.delivery.settle(BatchFailed(self.errors) if self.errors else None)


class _Window:
    """What belongs to one window."""

    __slots__ = ("batch", "due", "parts", "since", "size")

    def __init__(self, due: int, since: float) -> None:
        self.batch: Batch = []
        self.parts: list[tuple[_Share, int]] = []
        self.due = due
        """It is given out when this moment is over."""
        self.since = since
        self.size = 0


class _Windows:
    def __init__(self, config: SystemWindow, env: Env) -> None:
        self._env = env
        self._mapping = config.timestamp_mapping
        self._by_arrival = config.timestamp_mapping.text.strip() == "root = now()"
        self._size = round(float(config.size) * _GIGA)
        self._epoch = round(float(config.slide or config.size) * _GIGA)
        self._offset = _FIRST_DAY + round(float(config.offset or 0) * _GIGA)
        self._lateness = round(float(config.allowed_lateness or 0) * _GIGA)
        self._keep_late = config.late == "next_window"
        self._limit = int(config.limit)
        self._open: dict[int, _Window] = {}
        """By their ends."""
        self._given_out: deque[int] = deque(maxlen=_REMEMBERED)
        """Ends of windows that are gone; those before the first of a full list are gone too."""
        self._gone: set[int] = set()
        self._out: dict[int, int] = {}
        """Messages of windows that are being delivered."""
        self._bytes = 0
        self._late = 0
        self._draining = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        metrics = env.metrics
        self._received = metrics.counter("buffer_received", "Messages written to the buffer.")
        self._batch_received = metrics.counter("buffer_batch_received", "Batches written to it.")
        self._sent = metrics.counter("buffer_sent", "Messages read from the buffer.")
        self._batch_sent = metrics.counter("buffer_batch_sent", "Batches read from it.")
        self._late_counter = metrics.counter(
            "buffer_late_messages", "Messages that came when their window had been given out."
        )

    # ---- taking ------------------------------------------------------------------------------

    def write(self, delivery: Delivery) -> None:
        size = size_of_all(delivery.batch)
        if self._bytes and self._bytes + size > self._limit:
            raise Overloaded("the buffer is full until a window is over", 1.0)
        share = _Share(delivery)
        now = self._now()
        for index in range(len(delivery.batch)):
            moment, message = self._moment(delivery.batch, index, now)
            for end in self._ends(moment, now):
                self._put(end, message, share, index)
        self._received.add(len(delivery.batch))
        self._batch_received.add()
        self._changed.set()
        share.done()

    async def wait_for_room(self) -> None:
        while self._bytes >= self._limit:
            self._room.clear()
            await self._room.wait()

    def _moment(self, batch: Batch, index: int, now: int) -> tuple[int, Message]:
        """When a message belongs to, and the message, flagged when that cannot be found."""
        message = batch[index]
        if self._by_arrival:
            return now, message
        try:
            return get_timestamp(self._mapping.program.query(batch, index)).ns, message
        except (CollectorError, Fail) as error:
            node = self._env.node
            text = f"timestamp_mapping: {error}"
            flag = ProcessingError(text, "system_window", node.label, node.path)
            return now, message.with_error(flag)

    def _ends(self, moment: int, now: int) -> Iterator[int]:
        """The ends of the windows that a moment is in and that can still be filled."""
        end = self._end_at(moment)
        found = False
        while end - self._size < moment:
            if not self._is_gone(end):
                found = True
                yield end
            end += self._epoch
        if found:
            return
        self._late += 1
        self._late_counter.add()
        if self._keep_late:
            end = self._end_at(now)
            while self._is_gone(end):
                end += self._epoch
            yield end

    def _is_gone(self, end: int) -> bool:
        if end in self._gone:
            return True
        given = self._given_out
        return len(given) == _REMEMBERED and end < given[0]

    def _end_at(self, moment: int) -> int:
        """The first end that is not before a moment."""
        return self._offset - (self._offset - moment) // self._epoch * self._epoch

    def _put(self, end: int, message: Message, share: _Share, index: int) -> None:
        window = self._open.get(end)
        if window is None:
            # One that is over already, as after a restart, waits for its other messages all the same.
            now = self._now()
            due = end + self._lateness if end >= now else now + max(self._lateness, _GIGA)
            window = self._open[end] = _Window(due, self._env.monotonic())
        stamp = Timestamp(end).text()
        held = message.with_metadata({**message.metadata, "window_end_timestamp": stamp})
        window.batch.append(held)
        window.parts.append((share, index))
        share.left += 1
        size = size_of(held)
        window.size += size
        self._bytes += size

    # ---- giving out --------------------------------------------------------------------------

    async def read(self) -> Delivery:
        while True:
            now = self._now()
            end = min(self._open, key=self._due, default=None)
            if end is not None and self._due(end) < now:
                return self._give_out(end)
            if self._draining:
                raise EndOfInput("drained")
            wait = _LOOK_AGAIN
            if end is not None:
                wait = min(wait, (self._due(end) + 1 - now) / _GIGA)
            self._changed.clear()
            try:
                async with asyncio.timeout(max(wait, _SHORTEST_WAIT)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _due(self, end: int) -> int:
        return self._open[end].due

    def _give_out(self, end: int) -> Delivery:
        window = self._open.pop(end)
        if len(self._given_out) == _REMEMBERED:
            self._gone.discard(self._given_out[0])
        self._given_out.append(end)
        self._gone.add(end)
        key = id(window)
        self._out[key] = len(window.batch)
        if self._late:
            self._env.log.warning(
                "messages came when their window had been given out",
                messages=self._late,
                kept=self._keep_late,
            )
            self._late = 0

        def settle(failure: Exception | None) -> None:
            del self._out[key]
            self._bytes -= window.size
            self._room.set()
            verdicts = by_index(failure, len(window.parts))
            for at, (share, index) in enumerate(window.parts):
                share.done(index, verdicts.get(at))

        self._sent.add(len(window.batch))
        self._batch_sent.add()
        return Delivery(window.batch, settle)

    def drain(self) -> None:
        self._draining = True
        now = self._now()
        for end in [one for one in self._open if self._due(one) >= now]:
            window = self._open.pop(end)
            self._bytes -= window.size
            unfinished = Retryable(
                f"the window that ends at {Timestamp(end).text()} was not over when the collector "
                "stopped; it comes again from its source"
            )
            for share, index in window.parts:
                share.done(index, unfinished)
        self._changed.set()

    def status(self) -> BufferStatus:
        held = sum(len(window.batch) for window in self._open.values())
        oldest = min((window.since for window in self._open.values()), default=None)
        return BufferStatus(
            events=held + sum(self._out.values()),
            size_bytes=self._bytes,
            frames=len(self._open) + len(self._out),
            oldest_age=0.0 if oldest is None else self._env.monotonic() - oldest,
            dead_letters=0,
            free_bytes=max(0, self._limit - self._bytes),
            failure=None,
            durable=False,
        )

    def _now(self) -> int:
        return round(self._env.now() * _GIGA)

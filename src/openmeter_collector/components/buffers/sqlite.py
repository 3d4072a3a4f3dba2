"""The durable buffer: the journal as a component.

The one component that reaches into `storage`; what makes an event safe is explained there.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from openmeter_collector.api import (
    Buffer,
    BufferStatus,
    ByteSize,
    Chain,
    Delivery,
    Duration,
    Env,
    Example,
    Overloaded,
    ProcessorNode,
    Stage,
    buffer,
    field,
)
from openmeter_collector.components.buffers.letter_news import Heard, letter_news
from openmeter_collector.storage.group import Group
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.schema import volatile_filesystem
from openmeter_collector.storage.watch import BooksWatch

ON_A_VOLUME = Example(
    "Keep events on a volume, two gigabytes at most",
    """
    buffer:
      sqlite:
        path: /data/buffer.db
        max_bytes: 2GiB
    """,
)

_GROUP_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)
# How often it is said that senders are put off.
_SAY_EVERY = 60.0
_FSYNC_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)


@buffer("sqlite", since="0.1.0", categories=("Utility",), examples=[ON_A_VOLUME])
class Sqlite:
    """Keeps events in a file until they are delivered, across restarts, crashes and power cuts.

    With `durability: durable` an event is acknowledged only after an fsync: what a sender was told
    is stored is stored. Many senders share one fsync, so this costs each of them little.

    The file is private to one process. It grows while the destination is away and shrinks again when
    the backlog has been delivered. When `max_bytes` is reached, or the disk is nearly full, senders
    are asked to come back later and nothing that was stored is touched.

    Events that the destination will never accept are kept in the same file as dead letters; see
    `openmeter-collector dlq`, which a line in the log says once a minute at most. So are the books: what became of how many events, by source, type and
    hour, in `openmeter-collector ledger`.
    """

    path: str = field(doc="The file. Its folder is made when it does not exist.")
    pre_processors: list[ProcessorNode] = field(
        default_factory=list, doc="Processors to run before events are stored."
    )
    post_processors: list[ProcessorNode] = field(
        default_factory=list, doc="Processors to run on what is read back, before the pipeline's."
    )
    durability: Literal["durable", "os", "memory"] = field(
        default="durable",
        ours=True,
        choices={
            "durable": "An acknowledged event is on the disk, with an fsync behind it.",
            "os": "An acknowledged event was handed to the operating system: it survives a crash of "
            "the collector, the newest may be lost in a power cut.",
            "memory": "An event is acknowledged at once and written soon after: a crash loses what "
            "was not written yet.",
        },
        doc="What an acknowledgement means.",
    )
    max_bytes: ByteSize = field(
        default=ByteSize("0"),
        ours=True,
        doc="Bytes of events that may wait; beyond, senders are put off. 0: as much as the disk has.",
    )
    min_free_bytes: ByteSize = field(
        default=ByteSize("64MiB"),
        ours=True,
        doc="Space to leave free on the disk; below it, senders are put off.",
    )
    ledger_keep: Duration = field(
        default=Duration("2160h"),
        ours=True,
        advanced=True,
        doc="How long the books of an hour are kept after all of its events are dealt with.",
    )
    keep_sent: Duration = field(
        default=Duration("0s"),
        ours=True,
        advanced=True,
        doc="How long what was delivered is kept in the file (compressed), for `reconcile` and "
        "`trace`. Costs the space, and writes every event twice; 0 keeps nothing.",
        examples=["72h"],
    )
    keep_sent_bytes: ByteSize = field(
        default=ByteSize("0"),
        ours=True,
        advanced=True,
        doc="Most bytes, compressed, that `keep_sent` may take; the oldest are forgotten before their "
        "time. 0: no bound.",
        examples=["2GiB"],
    )
    detect_conflicts: Duration = field(
        default=Duration("0s"),
        ours=True,
        advanced=True,
        doc="Remember the ids of events for at least this long (twice as long at most), count those "
        "that come again, and write down those that come with another content; all are kept and "
        "delivered. Costs a look-up for each event and about 25 bytes on disk; 0 is off.",
        examples=["24h"],
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Buffer]:
        """Open the journal, whatever happened to it."""
        options = JournalOptions(
            path=Path.cwd() / self.path,
            durability=self.durability,
            max_bytes=self.max_bytes,
            min_free_bytes=self.min_free_bytes,
            keep_books=float(self.ledger_keep),
            keep_sent=float(self.keep_sent),
            keep_sent_bytes=self.keep_sent_bytes,
            detect_conflicts=float(self.detect_conflicts),
        )
        async with AsyncExitStack() as stack:
            # Around the journal: closing it is what files the last letters.
            heard = await stack.enter_async_context(letter_news(env))
            journal = await stack.enter_async_context(Journal.open(options))
            _say_what_was_found(env, journal, options.path)
            _measure(env, journal, heard)
            watch = BooksWatch(options.path, env.monotonic, partial(_say_not_audited, env))
            stack.push_async_callback(asyncio.to_thread, watch.close)
            env.metrics.gauge(
                "journal_books_imbalance",
                "Events that the books cannot explain, as of the last audit: one in five minutes at "
                "most, begun when the metric is read.",
                watch.imbalance,
            )
            before = await stack.enter_async_context(env.processors(self.pre_processors))
            after = await stack.enter_async_context(env.processors(self.post_processors))
            yield _Counted(env, journal, before, after)


class _Counted:
    """The journal with its processors and the counters that dashboards know."""

    def __init__(self, env: Env, journal: Journal, before: Chain, after: Chain) -> None:
        self._journal = journal
        self._before = before
        self._after = after
        self._ready: list[Delivery] = []
        self._log = env.log
        self._monotonic = env.monotonic
        self._said = -math.inf
        metrics = env.metrics
        self._received = metrics.counter("buffer_received", "Messages written to the buffer.")
        self._batch_received = metrics.counter("buffer_batch_received", "Batches written to it.")
        self._sent = metrics.counter("buffer_sent", "Messages read from the buffer.")
        self._batch_sent = metrics.counter("buffer_batch_sent", "Batches read from it.")
        # Bound once: this is on the path of every request.
        self.wait_for_room = journal.wait_for_room
        self.drain = journal.drain
        self.checkpoint = journal.checkpoint
        self.dropped = journal.dropped
        self.refused = journal.refused
        self.keeps_sent = journal.keeps_sent
        self.sent = journal.sent

    def write(self, delivery: Delivery) -> None:
        if not self._before.empty:
            delivery = self._processed(delivery)
        try:
            self._journal.write(delivery)
        except Overloaded as refusal:
            self._say_put_off(refusal)
            raise
        self._received.add(len(delivery.batch))
        self._batch_received.add()

    def _say_put_off(self, refusal: Overloaded) -> None:
        """Once a minute at most: whoever looks at the log must see why senders get 503."""
        if self._monotonic() - self._said >= _SAY_EVERY:
            self._said = self._monotonic()
            self._log.warning(
                "nothing is taken at the moment; senders are told to come again, what is stored is safe",
                reason=str(refusal),
            )

    def _processed(self, delivery: Delivery) -> Delivery:
        """Processors before storing run in the write itself, so they may not wait for anything."""
        with Stage(delivery, self.dropped) as stage:
            results = self._before.run_sync(stage.batch)
        parts = stage.deliveries(results)
        kept = [message for part in parts for message in part.batch]

        def settle(failure: Exception | None) -> None:
            for part in parts:
                part.settle(failure)

        return Delivery(kept, settle, delivery.checkpoints)

    async def read(self) -> Delivery:
        while not self._ready:
            delivery = await self._journal.read()
            if self._after.empty:
                self._ready.append(delivery)
            else:
                with Stage(delivery) as stage:
                    results = await self._after.run(stage.batch)
                self._ready += reversed(stage.deliveries(results))
        delivery = self._ready.pop()
        self._sent.add(len(delivery.batch))
        self._batch_sent.add()
        return delivery

    def status(self) -> BufferStatus:
        return self._journal.status()


def _say_what_was_found(env: Env, journal: Journal, path: Path) -> None:
    status = journal.status()
    if status.events:
        env.log.info("undelivered events found", events=status.events, bytes=status.size_bytes)
    found = journal.set_aside
    if found is not None:
        env.log.error(
            "the journal was damaged and set aside",
            file=str(found.path),
            reason=found.reason,
            events_saved=found.events,
            events_lost=found.lost_events,
            frames_lost=found.lost_frames,
        )
    journal.on_damaged_frame = lambda frame: env.log.error(
        "stored events cannot be read; they stay in the file, the others are delivered",
        frame=frame.id,
        events=frame.events,
        reason=frame.reason,
    )
    kind = volatile_filesystem(path)
    if kind is not None:
        env.log.warning(
            "the buffer is on a file system that does not survive a restart of the machine or "
            "container; put it on a volume",
            path=str(path),
            file_system=kind,
        )


def _say_not_audited(env: Env, reason: str) -> None:
    env.log.warning(
        "the books could not be audited beside the work; `openmeter-collector ledger` does it",
        reason=reason,
    )


def _measure(env: Env, journal: Journal, heard: Heard) -> None:
    metrics = env.metrics
    status = journal.status
    metrics.gauge("journal_events", "Events not delivered yet.", lambda: status().events)
    metrics.gauge("journal_bytes", "Their size in bytes.", lambda: status().size_bytes)
    metrics.gauge("journal_frames", "Frames that hold them.", lambda: status().frames)
    metrics.gauge(
        "journal_oldest_age_seconds",
        "Age of the oldest event that is not delivered.",
        lambda: status().oldest_age,
    )
    metrics.gauge("journal_dead_letters", "Dead letters kept.", lambda: status().dead_letters)
    metrics.gauge(
        "journal_damaged_frames",
        "Frames that could not be read since the start.",
        lambda: journal.damaged_frames,
    )
    metrics.gauge("journal_free_bytes", "Bytes free on its disk.", lambda: status().free_bytes or 0)
    metrics.gauge(
        "journal_writable", "1 when it can be written.", lambda: float(status().failure is None)
    )
    size = metrics.histogram("journal_commit_events", "Events per commit.", _GROUP_BUCKETS)
    fsync = metrics.histogram(
        "journal_fsync_seconds", "Time of a commit, fsync included.", _FSYNC_BUCKETS
    )

    duplicates = metrics.counter(
        "journal_duplicates", "Events that came again, found with detect_conflicts."
    )
    conflicts = metrics.counter(
        "journal_conflicts", "Events that came again with another content, and are kept as well."
    )

    def count(group: Group) -> None:
        heard(group.letters)
        duplicates.add(group.duplicates)
        if group.conflicts:
            conflicts.add(len(group.conflicts))
            env.log.warning(
                "an id came again with another content; both are kept and delivered",
                id=group.conflicts[0].id[:200],
                source=group.conflicts[0].source[:200],
                events=len(group.conflicts),
            )
        if group.frames:
            size.observe(sum(len(frame.batch) for frame in group.frames))
            fsync.observe(group.fsync_seconds)

    journal.on_group = count

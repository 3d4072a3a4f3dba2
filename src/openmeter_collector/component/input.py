"""The contract of inputs.

Receive, hand over, acknowledge: in that order and no other. An input tells its source "done" (a 2xx,
a commit, a deleted S3 object) only inside the `settle` of the delivery that carried the data, and
only when it is called with None. Whatever was handed over and never settled must come again from
the source after a crash, or must not have been acknowledged to it.

Attributes of an input's config class say where and how it runs; they are False when they are not there:

- `leader_only`: of several replicas with leader election, only the leader runs it.
- `every_worker`: with `run --workers`, each process runs its own. True for what listens with
  `Env.listen` (the port is shared) and keeps nothing between requests, and for inputs that only
  hold others, which are asked in turn. Anything else runs in worker 0 only.
- `only_holds_others`: it reads nothing by itself, opens its children with `Env.input`, ends when they
  have ended, and keeps no delivery: so it can be held (`Hold`) if its children can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from openmeter_collector.message import Checkpoint, Delivery, Message


class Intake(Protocol):
    """Where an input hands over what it received. Lent by the engine for one `run`."""

    def offer(self, delivery: Delivery) -> None:
        """Hand over now, without waiting. For sources that can be told to come back later.

        Raises:
            Overloaded: there is no room; the delivery was not taken and will not be settled.
                Tell the sender to retry (503 with Retry-After).
        """

    async def put(self, delivery: Delivery) -> None:
        """Hand over, waiting for room. For sources that are read at our own pace."""

    def dropped(self, messages: Sequence[Message], rule: str) -> None:
        """Count events that were received and let go by a rule on the way to the buffer."""

    def refused(self, contents: Sequence[bytes], reason: str) -> None:
        """Count events that were turned away at the door, and whose sender was told so."""


class Input(Protocol):
    """A running input, between entering and leaving its `open(env)` block."""

    async def run(self, intake: Intake) -> None:
        """Feed `intake` until the source has nothing more to give, then return.

        Runs once per opened input. Raising `Disconnected` or `Retryable` makes the engine leave the
        block and open it again with back-off. On cancellation (an orderly stop) stop taking at
        once, let what was handed over be settled for as long as that is quick, then end; what has
        not been handed over is simply not acknowledged.
        """


@runtime_checkable
class Puller(Protocol):
    """An input that is read on request; the engine makes an `Input` of it.

    The simplest thing a component can be: one `read`, no loop. Needed as a child of `schedule`.
    """

    async def read(self) -> Delivery:
        """The next delivery; may be called again before the last one is settled.

        Raises:
            EndOfInput: nothing will ever come again.
            Disconnected: open me again.
        """


class Hold:
    """Keeps what a child reads unsettled, for a parent that needs all of it before it hands on any.

    The intake settles what it gets as soon as it has it in memory, so that the child can come to its
    end; the source is told by `settle` only. Until `release` the child stays open. An input that only
    holds others passes the hold on to them.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        """`tasks` runs the lives of children's children, which are longer than their reading."""
        self.ended = asyncio.Event()
        """Set when the child was read to its end."""
        self.tasks = tasks
        self._released = asyncio.Event()
        self._kept: list[Delivery] = []

    def within(self) -> Hold:
        """For a child of the child: kept, settled and released with all the rest, ends by itself."""
        made = Hold(self.tasks)
        made._released, made._kept = self._released, self._kept
        return made

    def keep(self, delivery: Delivery) -> Delivery:
        """What is to be handed over in place of a delivery that the source gave."""
        batch, delivery.batch = delivery.batch, []  # what was joined is not held twice
        self._kept.append(delivery)
        return Delivery(batch)

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Of all that is kept, in the order in which it was read."""
        return [one for delivery in self._kept for one in delivery.checkpoints]

    def settle(self) -> None:
        """Tell the source that everything it gave is safe."""
        kept = list(self._kept)
        self._kept.clear()
        for delivery in kept:
            delivery.settle(None)

    def release(self) -> None:
        """Let the child close; what is still kept is not acknowledged."""
        self._kept.clear()
        self._released.set()

    async def until_released(self) -> None:
        """For the engine: say that the child ended, and wait."""
        self.ended.set()
        await self._released.wait()

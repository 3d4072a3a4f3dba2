"""Hands messages to another pipeline of the same process, and waits for what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    Delivery,
    Env,
    Example,
    Handover,
    Output,
    Rejected,
    Undeliverable,
    as_failure,
    by_index,
    field,
    output,
)

TO_DELIVERY = Example(
    "Hand over to the stream that delivers",
    """
    output:
      inproc: openmeter
    """,
)


@output("inproc", categories=("Utility",), examples=[TO_DELIVERY], value="name")
class InprocOutput:
    """Hands messages to the `inproc` input of the same name, in another stream of this process.

    There is no queue in between. A write ends when the other stream has the messages safe (in its
    buffer, or delivered if it has none), and fails where they failed there. While no stream reads
    the name, writes wait.
    """

    name: str = field(doc="The name at which both sides meet.", examples=["openmeter"])

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        yield _Giver(env.handover(self.name))


class _Giver:
    def __init__(self, handover: Handover) -> None:
        self._handover = handover

    async def write(self, batch: Batch) -> None:
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def settle(failure: Exception | None) -> None:
            if not done.done():
                done.set_result(failure)

        delivery = Delivery(batch, settle)
        self._handover.offer(delivery)
        try:
            verdicts = by_index(await done, len(batch))
        finally:
            self._handover.withdraw(delivery)
        ours = {index: _ours(error) for index, error in verdicts.items()}
        if (failure := as_failure(ours, len(batch))) is not None:
            raise failure


def _ours(error: Exception) -> Exception:
    """A dead letter over there is a refusal here: whoever holds the message files it."""
    if isinstance(error, Undeliverable):
        letter = error.letters[0]
        return Rejected(letter.reason, letter.response)
    return error

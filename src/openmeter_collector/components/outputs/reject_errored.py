"""Refuses messages that a processor failed on, and writes the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    Env,
    Example,
    Output,
    OutputNode,
    Rejected,
    as_failure,
    field,
    output,
)
from openmeter_collector.components.outputs.repeating import verdicts_of

ONLY_SOUND = Example(
    "Deliver what was mapped, keep the rest as dead letters",
    """
    output:
      reject_errored:
        http_client:
          url: https://example.com/events
    """,
)


@output("reject_errored", categories=("Utility",), examples=[ONLY_SOUND], value="output")
class RejectErrored:
    """Refuses messages that are flagged as failed, with the reason; the others go to a child output.

    A processor that fails flags the message and lets it go on. This is the place where such
    messages stop: behind a durable buffer they become dead letters, without one the sender is told.
    """

    output: OutputNode = field(doc="Where sound messages go.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Opens the child."""
        async with env.output(self.output) as child:
            yield _Sieve(child)


class _Sieve:
    def __init__(self, child: Output) -> None:
        self._child = child

    async def write(self, batch: Batch) -> None:
        verdicts: dict[int, Exception] = {
            index: Rejected(str(message.error))
            for index, message in enumerate(batch)
            if message.error is not None
        }
        sound = [index for index in range(len(batch)) if index not in verdicts]
        if sound:
            failed = await verdicts_of(self._child.write, [batch[index] for index in sound])
            verdicts |= {sound[at]: error for at, error in failed.items()}
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure

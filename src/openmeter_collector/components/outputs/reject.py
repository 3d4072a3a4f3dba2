"""Refuses every message with a reason that the config gives.

The refusal is final: it goes back to whoever waits for the message, or, behind a durable buffer,
makes it a dead letter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    BatchFailed,
    Env,
    Example,
    Interpolated,
    Output,
    Rejected,
    field,
    output,
)

ALWAYS = Example(
    "Refuse everything",
    """
    output:
      reject: nothing is accepted here
    """,
)


@output("reject", categories=("Utility",), examples=[ALWAYS], value="reason")
class Reject:
    """Rejects all messages, with a reason of your own.

    Use it as a branch of `switch` or `fallback` for messages that must not be delivered but must not
    be lost without a trace either: behind a durable buffer they become dead letters, without one
    whoever sent them is told.
    """

    reason: Interpolated = field(
        doc="Why. May hold expressions, evaluated for each message.",
        examples=["no destination for this message"],
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        del env
        yield _Rejecter(self.reason)


class _Rejecter:
    def __init__(self, reason: Interpolated) -> None:
        self._reason = reason

    async def write(self, batch: Batch) -> None:
        raise BatchFailed(
            {index: Rejected(self._reason.resolve(batch, index)) for index in range(len(batch))}
        )

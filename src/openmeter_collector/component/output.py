"""The contract of outputs.

`write` returns when every message of the batch is delivered, and at no other time. What it raises
decides what happens next (see `errors`): an output classifies, the engine retries, pauses, isolates
and files dead letters. An output that can tell single messages apart raises `BatchFailed`; messages
it does not name are taken as delivered, so name every message that was not.
"""

from __future__ import annotations

from typing import Protocol

from openmeter_collector.message import Batch


class Output(Protocol):
    """A running output, between entering and leaving its `open(env)` block."""

    async def write(self, batch: Batch) -> None:
        """Deliver the batch. Called concurrently, up to the config's `max_in_flight`.

        Raises:
            Rejected: the batch, as a whole, can never be accepted. The engine halves it until the
                bad message is alone.
            Paused: we are refused, not the data.
            Overloaded, Retryable: try again later.
            Disconnected: as Retryable, after opening the output again.
            Dropped: a rule of this output let the batch go; that is dealt with, not delivered.
            BatchFailed: verdicts per message.
        """

"""`error_handling.strict`: a message on which a processor failed goes no further.

It skips the processors that follow and is refused in front of every output: behind a durable buffer
it becomes a dead letter, without one the sender is told.
"""

from __future__ import annotations

from openmeter_collector.component.output import Output
from openmeter_collector.errors import Rejected
from openmeter_collector.message import Batch, Delivery, as_failure, by_index


class Sieve:
    """An output that gets sound messages only."""

    def __init__(self, output: Output) -> None:
        self._output = output

    async def write(self, batch: Batch) -> None:
        """See `Output.write`; flagged messages are `Rejected` with the reason of their flag."""
        verdicts = refusals(batch)
        if not verdicts:
            await self._output.write(batch)
            return
        sound = [index for index in range(len(batch)) if index not in verdicts]
        if sound:
            try:
                await self._output.write([batch[index] for index in sound])
            except Exception as error:  # noqa: BLE001 - handed on with the refusals
                failed = by_index(error, len(sound))
                verdicts |= {sound[at]: one for at, one in failed.items()}
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure


def refusals(batch: Batch) -> dict[int, Exception]:
    """A verdict on each flagged message of a batch, by its index."""
    return {
        index: Rejected(str(message.error))
        for index, message in enumerate(batch)
        if message.error is not None
    }


def only_sound(deliveries: list[Delivery]) -> list[Delivery]:
    """Those without a flagged message; the others are settled with its refusal.

    A strict chain gives flagged messages out in batches of their own.
    """
    sound = []
    for delivery in deliveries:
        verdicts = refusals(delivery.batch)
        if verdicts:
            delivery.settle(as_failure(verdicts, len(delivery.batch)))
        else:
            sound.append(delivery)
    return sound

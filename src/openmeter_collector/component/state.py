"""What a component remembers across restarts: how far it has read, which windows are done.

    value = await env.state.load("cursor")
    ...
    await intake.put(Delivery(batch, settle, [env.state.checkpoint("cursor", position)]))

Two rules for whoever puts a checkpoint on a delivery:

- For one name at most one delivery with a checkpoint is unsettled at a time.
- What the checkpoint covers was settled with None before, or is in that same delivery.

Otherwise a later position could become true before an earlier part is safe, and a crash between the
two would leave a hole that nobody sees.
"""

from __future__ import annotations

from typing import Protocol

from openmeter_collector.message import Checkpoint


class State(Protocol):
    """One component's memory. Names are its own: `cursor`, `windows`, an object's key."""

    async def load(self, name: str) -> bytes | None:
        """The value that last became true, None when there never was one.

        Raises:
            Retryable: it cannot be read now.
        """

    def checkpoint(self, name: str, value: bytes) -> Checkpoint:
        """A position to put on a delivery; it becomes true with the events of that delivery."""


class StateStore(Protocol):
    """Where positions are kept when the buffer does not keep them."""

    async def load(self, key: str) -> bytes | None:
        """The value last saved, None when there never was one.

        Raises:
            Retryable: the store does not answer now.
        """

    async def save(self, checkpoints: list[Checkpoint]) -> None:
        """Keep all of them, or none. When this returns they survive what the store survives.

        Raises:
            Retryable: the store does not answer now; saving the same again is right.
            Final: the store refuses for good, such as from a replica that leads no more.
        """

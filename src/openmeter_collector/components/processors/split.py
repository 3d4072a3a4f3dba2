"""Cuts batches into smaller ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    ByteSize,
    Env,
    Example,
    Processor,
    field,
    processor,
)

HUNDREDS = Example(
    "A hundred at a time out of the buffer",
    """
    buffer:
      sqlite:
        path: ./buffer.db
        post_processors:
          - split:
              size: 100
    """,
)


@processor("split", categories=("Utility",), examples=[HUNDREDS])
class Split:
    """Cuts a batch into batches of a size, in order; each goes its own way from here.

    What was acknowledged together still is: the source is told when all parts are dealt with.
    """

    size: int = field(default=1, minimum=0, doc="Messages in a batch at most; 0 is no limit.")
    byte_size: ByteSize = field(
        default=ByteSize(0),
        doc="Bytes in a batch at most; a larger message goes alone. 0 is no limit.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        del env
        yield _Splitter(self.size, int(self.byte_size))


class _Splitter:
    def __init__(self, size: int, byte_size: int) -> None:
        self._size = size
        self._byte_size = byte_size

    def process(self, batch: Batch) -> list[Batch]:
        size = self._size or len(batch)
        if not self._byte_size:
            if len(batch) <= size:
                return [batch]
            return [batch[at : at + size] for at in range(0, len(batch), size)]
        made: list[Batch] = []
        part: Batch = []
        used = 0
        for message in batch:
            length = len(message.content)
            if part and (len(part) >= size or used + length > self._byte_size):
                made.append(part)
                part, used = [], 0
            part.append(message)
            used += length
        return [*made, part] if part else made

"""How much memory messages take, as far as buffers that hold them count it."""

from __future__ import annotations

from openmeter_collector.api import Batch, Message

_OVERHEAD = 64


def size_of(message: Message) -> int:
    """Bytes of a message: content, metadata and something for the rest."""
    metadata = sum(len(key) + len(str(value)) for key, value in message.metadata.items())
    return len(message.content) + metadata + _OVERHEAD


def size_of_all(batch: Batch) -> int:
    """Bytes of messages together."""
    return sum(size_of(message) for message in batch)

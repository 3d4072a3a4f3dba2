"""Synchronous responses: how what a pipeline says finds back to the request that waits for it."""

from __future__ import annotations

from openmeter_collector.message import Batch


class ResponseStore:
    """Collects responses. An input that can answer puts one on its messages as `context`."""

    __slots__ = ("batches",)

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def add(self, batch: Batch) -> None:
        """Respond with these messages; several calls add up."""
        self.batches.append(batch)


def respond(batch: Batch) -> bool:
    """Store a batch as the response to the request its first message came with.

    Returns:
        False when nobody waits: the request was answered from a buffer, or the input cannot answer.
    """
    store = batch[0].context if batch else None
    if not isinstance(store, ResponseStore):
        return False
    store.add([one if one.error is None else one.with_error(None) for one in batch])
    return True

"""What processors share: how messages are flagged, and how lists of processors inside one are run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    Env,
    Message,
    ProcessingError,
    Processor,
)

Process = Callable[[Batch], Coroutine[Any, Any, list[Batch]]]


class Flag:
    """Marks messages as failed, in the name of one processor."""

    __slots__ = ("_about",)

    def __init__(self, env: Env) -> None:
        node = env.node
        self._about = (node.name, node.label, node.path)

    def error(self, reason: Exception | str) -> ProcessingError:
        """What to flag a message with."""
        return ProcessingError(str(reason) or type(reason).__name__, *self._about)

    def __call__(self, message: Message, reason: Exception | str) -> Message:
        """The message, flagged."""
        return message.with_error(self.error(reason))


class _Waiting:
    """A processor that may wait."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def process(self, batch: Batch) -> list[Batch]:
        return await self._process(batch)


class _AtOnce:
    """A processor whose coroutine never waits: it is run to its end in one step."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def process(self, batch: Batch) -> list[Batch]:
        running = self._process(batch)
        try:
            running.send(None)
        except StopIteration as end:
            result: list[Batch] = end.value
            return result
        running.close()
        raise RuntimeError("a chain that says it is sync waited for something")


def processor_of(process: Process, *, waits: bool) -> Processor | AsyncProcessor:
    """A processor of a coroutine function, so that what holds other processors is written once.

    Args:
        waits: False if nothing in it really waits (all chains in it are `sync`); it is then a plain
            function like what is in it, and the hot path stays without a task switch.
    """
    return _Waiting(process) if waits else _AtOnce(process)


def flat(batches: Iterable[Batch]) -> Batch:
    """All messages, in order, in one batch."""
    return [message for batch in batches for message in batch]


def joined_origin(messages: Batch) -> int | tuple[int, ...]:
    """Where a message comes from that was made of several."""
    origins: dict[int, None] = {}
    for message in messages:
        origins |= dict.fromkeys(_origins(message))
    return next(iter(origins)) if len(origins) == 1 else tuple(origins)


def in_order_of(batch: Batch, messages: Batch) -> Batch:
    """What was made of a batch, in the order of what it was made of."""
    if len(messages) < 2:
        return messages
    place: dict[int, int] = {}
    for message in batch:
        for origin in _origins(message):
            place.setdefault(origin, len(place))
    last = len(place)
    return sorted(
        messages, key=lambda message: min(place.get(one, last) for one in _origins(message))
    )


def _origins(message: Message) -> tuple[int, ...]:
    origin = message.origin
    return origin if isinstance(origin, tuple) else (origin,)

"""The newest events that passed, for people who want to see some."""

from __future__ import annotations

from collections import deque
from typing import Final

from openmeter_collector.message import Batch, Message

MOST_EVENTS: Final = 200
MOST_BYTES: Final = 16 << 10
"""Of one event; larger ones are not kept, so that all of them together stay small."""


class Recent:
    """One event of each batch, so that looking on costs a batch next to nothing."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: deque[Message] = deque(maxlen=MOST_EVENTS)

    def note(self, batch: Batch) -> None:
        """A batch has passed."""
        if batch and len(batch[-1].content) <= MOST_BYTES:
            self._events.append(batch[-1])

    def newest_first(self) -> list[Message]:
        """What is kept."""
        return list(reversed(self._events))

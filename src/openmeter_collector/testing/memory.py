"""Components that live in memory and do as they are told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from openmeter_collector.component.buffer import BufferStatus, DeadLetter, Undeliverable
from openmeter_collector.errors import Dropped, EndOfInput
from openmeter_collector.message import Batch, Delivery, Message, by_index


class MemoryOutput:
    """Asks `verdict` about each batch, raises what it returns, and keeps what was delivered."""

    def __init__(self, verdict: Callable[[Batch], Exception | None] = lambda _: None) -> None:
        self.verdict = verdict
        self.delivered: list[bytes] = []
        self.writes: list[list[bytes]] = []

    async def write(self, batch: Batch) -> None:
        """See `component.output.Output`."""
        contents = [message.content for message in batch]
        self.writes.append(contents)
        await asyncio.sleep(0)
        error = self.verdict(batch)
        if error is not None:
            raise error
        self.delivered += contents


class MemoryBuffer:
    """A buffer of contents that keeps verdicts: `settled`, `letters`, `drops`, what comes `again`."""

    def __init__(self, batches: Iterable[list[bytes]] = ()) -> None:
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._draining = False
        self._open = 0
        self.settled: list[bytes] = []
        self.letters: list[DeadLetter] = []
        self.again: list[bytes] = []
        self.drops: list[tuple[bytes, str]] = []
        for contents in batches:
            self.put(contents)

    def put(self, contents: list[bytes]) -> None:
        """Have it given out."""
        self.write(Delivery([Message(content) for content in contents]))

    def write(self, delivery: Delivery) -> None:
        """See `component.buffer.Buffer`."""
        batch = delivery.batch

        def settle(failure: Exception | None) -> None:
            self._open -= 1
            errors = by_index(failure, len(batch))
            for at, message in enumerate(batch):
                error = errors.get(at)
                if error is None:
                    self.settled.append(message.content)
                elif isinstance(error, Dropped):
                    self.drops.append((message.content, error.rule))
                elif not isinstance(error, Undeliverable):
                    self.again.append(message.content)
            final = {e for e in errors.values() if isinstance(e, Undeliverable)}
            self.letters += [letter for error in final for letter in error.letters]
            self._arrived.set()

        self._open += 1
        self._waiting.append(Delivery(batch, settle))
        self._arrived.set()
        delivery.settle(None)

    async def wait_for_room(self) -> None:
        """There always is some."""

    async def read(self) -> Delivery:
        """See `component.buffer.Buffer`."""
        while not self._waiting:
            if self._draining and not self._open:
                raise EndOfInput("drained")
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    def drain(self) -> None:
        """See `component.buffer.Buffer`."""
        self._draining = True
        self._arrived.set()

    def status(self) -> BufferStatus:
        """See `component.buffer.Buffer`."""
        return BufferStatus(len(self._waiting), 0, 0, 0.0, len(self.letters), None, None)

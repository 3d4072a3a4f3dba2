"""Messages of an SQS queue that are being worked on: kept from others meanwhile, deleted afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from openmeter_collector.api import Env, Retryable
from openmeter_collector.components.aws.session import failures

_AT_ONCE: Final = 10
"""Entries of a batch request at most; the service's bound."""
_PAUSE: Final = 0.05
"""Seconds that a deletion waits for company."""
_SETTLE: Final = 2.0
"""Seconds that what was handed over is given to be settled when the input stops."""
_LAST: Final = 5.0
"""Seconds for what is left to be said when the input stops."""


@dataclass(slots=True, eq=False)
class HeldMessage:
    """One message.

    Attributes:
        extended: when it was last said that it is being worked on, by the monotonic clock.
    """

    id: str
    receipt: str
    extended: float


class Held:
    """All messages that are being worked on. `run` does what has to be said to the queue."""

    def __init__(self, env: Env, client: Any, url: str, visibility: float) -> None:
        """`visibility`: seconds that a message is kept from others each time."""
        self._env = env
        self._client = client
        self._url = url
        self._visibility = max(1.0, visibility)
        self._held: dict[str, HeldMessage] = {}
        self._done: list[HeldMessage] = []
        self._given_back: list[tuple[HeldMessage, int]] = []
        self._something = asyncio.Event()
        self._less = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._failed = env.metrics.counter(
            "sqs_request_entries_failed", "Deletions and extensions that the queue refused."
        )

    def __len__(self) -> int:
        return len(self._held)

    def take(self, message: Mapping[str, Any]) -> HeldMessage:
        """Begin with a message that was received just now."""
        held = HeldMessage(message["MessageId"], message["ReceiptHandle"], self._env.monotonic())
        # The same message again: its time had run out, and only the new receipt is good.
        self._held[held.id] = held
        return held

    def done(self, held: HeldMessage, *, delete: bool = True) -> None:
        """All that came of it is safe: it is deleted soon."""
        if self._forget(held) and delete:
            self._done.append(held)
            self._something.set()

    def give_back(self, held: HeldMessage, after: int) -> None:
        """It was not dealt with: others may have it in `after` seconds."""
        if self._forget(held):
            self._given_back.append((held, after))
            self._something.set()

    def leave(self, held: HeldMessage) -> None:
        """It cannot be dealt with: it is left to its time, and to what the queue does with it then."""
        self._forget(held)

    async def fewer_than(self, most: int) -> None:
        """Wait until fewer messages are being worked on."""
        while len(self._held) >= most:
            self._less.clear()
            await self._less.wait()

    async def run(self) -> None:
        """Delete, give back and extend, until cancelled."""
        while True:
            self._something.clear()
            try:
                async with asyncio.timeout(self._visibility / 4):
                    await self._something.wait()
                    await self._env.sleep(_PAUSE)
            except TimeoutError:
                pass
            try:
                await self._say()
                await self._extend()
            except Retryable as error:
                self._env.log.warning("the queue does not answer", error=str(error))
                self._something.set()
                await self._env.sleep(1.0)

    def check(self) -> None:
        """Raise what ended `run`, which is a defect."""
        if self._running is not None and self._running.done():
            self._running.result()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[Held]:
        """`run` beside the block. Leaving it gives what is being worked on a moment to be settled,
        and says what is left to be said.
        """
        self._running = asyncio.ensure_future(self.run())
        try:
            yield self
        finally:
            await asyncio.shield(self._end())

    async def _end(self) -> None:
        assert self._running is not None
        if self._held:
            try:
                async with asyncio.timeout(_SETTLE):
                    await self.fewer_than(1)
            except TimeoutError:
                pass  # they come again when their time has run out
        self._running.cancel()
        await asyncio.wait({self._running})
        await self.close()

    async def close(self) -> None:
        """Say what is left to be said, if that is quick."""
        try:
            async with asyncio.timeout(_LAST):
                await self._say()
        except (Retryable, TimeoutError) as error:
            self._env.log.warning(
                "messages that are safe could not be deleted; they will come again, with the same "
                "ids",
                count=len(self._done),
                error=str(error) or "no answer",
            )

    def _forget(self, held: HeldMessage) -> bool:
        """Stop working on it; False when it is not, or no more under this receipt."""
        self._less.set()
        if self._held.get(held.id) is not held:
            return False
        del self._held[held.id]
        return True

    async def _say(self) -> None:
        while self._done:
            some = self._done[:_AT_ONCE]
            entries = [{"Id": str(at), "ReceiptHandle": one.receipt} for at, one in enumerate(some)]
            with failures(self._url):
                answer = await self._client.delete_message_batch(
                    QueueUrl=self._url, Entries=entries
                )
            del self._done[: len(some)]
            self._look(answer, [one.id for one in some])
        while self._given_back:
            given = self._given_back[:_AT_ONCE]
            await self._visible([(one, after) for one, after in given])
            del self._given_back[: len(given)]

    async def _extend(self) -> None:
        now = self._env.monotonic()
        due = [held for held in self._held.values() if now - held.extended > self._visibility / 2]
        for at in range(0, len(due), _AT_ONCE):
            some = due[at : at + _AT_ONCE]
            await self._visible([(one, int(self._visibility)) for one in some])
            for one in some:
                one.extended = now

    async def _visible(self, some: list[tuple[HeldMessage, int]]) -> None:
        entries = [
            {"Id": str(at), "ReceiptHandle": one.receipt, "VisibilityTimeout": seconds}
            for at, (one, seconds) in enumerate(some)
        ]
        with failures(self._url):
            answer = await self._client.change_message_visibility_batch(
                QueueUrl=self._url, Entries=entries
            )
        self._look(answer, [one.id for one, _ in some])

    def _look(self, answer: Mapping[str, Any], ids: list[str]) -> None:
        """A receipt that is not good any more: the message comes again, with the same ids."""
        for failed in answer.get("Failed", ()):
            self._failed.add()
            self._env.log.warning(
                "the queue refused a receipt; the message comes again",
                message_id=ids[int(failed["Id"])],
                error=failed.get("Message") or failed.get("Code"),
            )


async def visibility_of(client: Any, url: str) -> float:
    """The queue's own visibility timeout, in seconds.

    Raises:
        Retryable: it does not answer, or refuses us.
    """
    with failures(url):
        answer = await client.get_queue_attributes(
            QueueUrl=url, AttributeNames=["VisibilityTimeout"]
        )
    return float(answer["Attributes"]["VisibilityTimeout"])


async def receive(client: Any, url: str, **options: Any) -> list[dict[str, Any]]:
    """Ask for messages.

    Raises:
        Retryable: the queue does not answer, or refuses us.
    """
    with failures(url):
        answer = await client.receive_message(QueueUrl=url, **options)
    found: list[dict[str, Any]] = answer.get("Messages", [])
    return found

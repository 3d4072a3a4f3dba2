"""Messages of an SQS queue that are being worked on: kept from others meanwhile, deleted afterwards.

A message whose time runs out all the same (this process was stopped, the queue did not answer) is
received a second time. It is known again by its id: the work on it goes on and is not begun anew, and
when all that came of it is safe, it is deleted and nothing else. So what comes twice comes from
another process.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from openmeter_collector.api import Env, Retryable
from openmeter_collector.components.aws.session import failures

T = TypeVar("T")

_AT_ONCE: Final = 10
"""Entries of a batch request at most; the service's bound."""
_PAUSE: Final = 0.05
"""Seconds that a deletion waits for company."""
_AGAIN: Final = 1.0
"""Seconds before something is said again that the queue did not take."""
_SETTLE: Final = 2.0
"""Seconds that what was handed over is given to be settled when the input stops."""
_LAST: Final = 5.0
"""Seconds for what is left to be said when the input stops."""
_MOST_KNOWN: Final = 10_000
"""Messages that are known to be deleted, should the queue give them out once more."""


@dataclass(slots=True, eq=False)
class HeldMessage:
    """One message.

    Attributes:
        receipt: of the last time that it was received; earlier ones are not good any more.
        extended: when it was last kept from others, by the monotonic clock.
    """

    id: str
    receipt: str
    extended: float


class Held:
    """All messages that are being worked on. `run` does what has to be said to the queue."""

    def __init__(
        self,
        env: Env,
        client: Any,
        url: str,
        visibility: float,
        deleted: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`visibility`: seconds that a message is kept from others each time; `deleted` is told the
        ids of messages that are gone from the queue.
        """
        self._env = env
        self._client = client
        self._url = url
        self._visibility = max(1.0, visibility)
        self._told_deleted = deleted
        self._held: dict[str, HeldMessage] = {}
        self._safe: dict[str, HeldMessage] = {}
        """All that came of these is safe; they are to be deleted."""
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self._given_back: dict[str, tuple[HeldMessage, int]] = {}
        self._something = asyncio.Event()
        self._less = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._failed = env.metrics.counter(
            "sqs_request_entries_failed", "Deletions and extensions that the queue refused."
        )
        self._again = env.metrics.counter(
            "sqs_messages_received_again",
            "Messages that came again while they were worked on or after they were safe; their "
            "contents were not read again.",
        )

    def __len__(self) -> int:
        return len(self._held) + len(self._safe)

    def take(self, message: Mapping[str, Any]) -> HeldMessage | None:
        """Begin with a message that was received just now; None when there is nothing to begin."""
        one, receipt = str(message["MessageId"]), str(message["ReceiptHandle"])
        now = self._env.monotonic()
        self._given_back.pop(one, None)
        known = self._held.get(one) or self._safe.get(one)
        if known is not None:
            known.receipt, known.extended = receipt, now
            self._again.add()
            return None
        made = HeldMessage(one, receipt, now)
        if one in self._deleted:
            self._again.add()
            self._safe[one] = made
            self._something.set()
            return None
        self._held[one] = made
        return made

    def done(self, held: HeldMessage, *, delete: bool = True) -> None:
        """All that came of it is safe: it is deleted soon."""
        if self._forget(held) and delete:
            self._safe[held.id] = held
            self._something.set()

    def give_back(self, held: HeldMessage, after: int) -> None:
        """It was not dealt with: others may have it in `after` seconds."""
        if self._forget(held):
            self._given_back[held.id] = (held, after)
            self._something.set()

    def leave(self, held: HeldMessage) -> None:
        """It cannot be dealt with: it is left to its time, and to what the queue does with it then."""
        self._forget(held)

    async def fewer_than(self, most: int) -> None:
        """Wait until fewer messages are being worked on or wait for their deletion."""
        while len(self) >= most:
            self._less.clear()
            await self._less.wait()

    async def run(self) -> None:
        """Delete, give back and extend, until cancelled."""
        # Beside each other: a deletion that hangs must not cost the others their time.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_saying())
            tasks.create_task(self._keep_extending())

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
        try:
            async with asyncio.timeout(_SETTLE):
                while self._held:
                    self._less.clear()
                    await self._less.wait()
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
            problem = ""
        except (Retryable, TimeoutError) as error:
            problem = str(error) or "no answer"
        if self._safe:
            self._env.log.warning(
                "messages that are safe could not be deleted; they will come again, with the same "
                "ids",
                count=len(self._safe),
                error=problem or "the queue did not take it",
            )

    def _forget(self, held: HeldMessage) -> bool:
        """Stop working on it; False when it is not worked on."""
        self._less.set()
        return self._held.pop(held.id, None) is not None

    # ---- deleting and giving back -----------------------------------------------------------

    async def _keep_saying(self) -> None:
        while True:
            if not self._safe and not self._given_back:
                self._something.clear()
                await self._something.wait()
                await self._env.sleep(_PAUSE)
            try:
                await self._say()
            except Retryable as error:
                self._unanswered(error)
            if self._safe or self._given_back:
                await self._env.sleep(_AGAIN)

    def _unanswered(self, error: Retryable) -> None:
        self._env.log.warning("the queue does not answer", error=str(error))

    async def _say(self) -> None:
        """Once each; what the queue could not take now stays.

        Raises:
            Retryable: it does not answer.
        """
        await _each(_groups(list(self._safe.values())), self._delete)
        given = list(self._given_back.values())
        await _each(_groups(given), self._return)

    async def _delete(self, some: list[HeldMessage]) -> None:
        receipts = [one.receipt for one in some]
        entries = [{"Id": str(at), "ReceiptHandle": one} for at, one in enumerate(receipts)]
        with failures(self._url):
            answer = await self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
        refused = self._refused(answer, some)
        for at, one in enumerate(some):
            if one.receipt != receipts[at] or refused.get(at) is False:
                continue  # received again meanwhile, or not taken now: once more
            self._safe.pop(one.id, None)
            # A receipt that is not good says nothing of the message, which may come again.
            self._deleted[one.id] = None
            self._deleted.move_to_end(one.id)
            if at not in refused:
                self._told_deleted(one.id)
        while len(self._deleted) > _MOST_KNOWN:
            self._deleted.popitem(last=False)
        self._less.set()

    async def _return(self, some: list[tuple[HeldMessage, int]]) -> None:
        refused = await self._visible(some)
        for at, (one, after) in enumerate(some):
            if refused.get(at) is not False and self._given_back.get(one.id) == (one, after):
                del self._given_back[one.id]

    # ---- extending --------------------------------------------------------------------------

    async def _keep_extending(self) -> None:
        while True:
            await self._env.sleep(self._visibility / 8)
            now = self._env.monotonic()
            due = [
                held
                for held in (*self._held.values(), *self._safe.values())
                if now - held.extended >= self._visibility / 4
            ]
            await _each(_groups(due), self._extend)

    async def _extend(self, some: list[HeldMessage]) -> None:
        now = self._env.monotonic()
        try:
            async with asyncio.timeout(max(1.0, self._visibility / 6)):
                refused = await self._visible([(one, int(self._visibility)) for one in some])
        except (Retryable, TimeoutError) as error:
            self._unanswered(Retryable(str(error) or f"{self._url}: no answer"))
            return
        for at, one in enumerate(some):
            if refused.get(at) is not False:
                one.extended = max(one.extended, now)

    async def _visible(self, some: Sequence[tuple[HeldMessage, int]]) -> dict[int, bool]:
        entries = [
            {"Id": str(at), "ReceiptHandle": one.receipt, "VisibilityTimeout": seconds}
            for at, (one, seconds) in enumerate(some)
        ]
        with failures(self._url):
            answer = await self._client.change_message_visibility_batch(
                QueueUrl=self._url, Entries=entries
            )
        return self._refused(answer, [one for one, _ in some])

    def _refused(self, answer: Mapping[str, Any], some: list[HeldMessage]) -> dict[int, bool]:
        """Entries that were not taken, and whether they never will be: their receipt is not good any
        more, and the message is somebody else's, or comes again.
        """
        refused = {}
        for failed in answer.get("Failed", ()):
            at = int(failed["Id"])
            refused[at] = bool(failed.get("SenderFault"))
            self._failed.add()
            if some[at].id in self._deleted:
                continue  # it was extended while it was deleted
            self._env.log.warning(
                "the queue refused a receipt; the message comes again"
                if refused[at]
                else "the queue could not do this now; it is asked again",
                message_id=some[at].id,
                error=failed.get("Message") or failed.get("Code"),
            )
        return refused


def _groups(some: list[T]) -> list[list[T]]:
    """In the sizes that a request may have."""
    return [some[at : at + _AT_ONCE] for at in range(0, len(some), _AT_ONCE)]


async def _each(groups: list[list[T]], say: Callable[[list[T]], Awaitable[None]]) -> None:
    """All groups at the same time; the first that fails is raised when all have been tried."""
    answers = await asyncio.gather(*map(say, groups), return_exceptions=True)
    for answer in answers:
        if answer is not None:
            raise answer


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

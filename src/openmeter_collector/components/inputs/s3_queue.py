"""Reading the objects that an SQS queue tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson

from openmeter_collector.api import (
    Delivery,
    Env,
    Intake,
    Position,
    Reading,
    Scanner,
    Source,
    Unreadable,
)
from openmeter_collector.components.aws.queue import Held, HeldMessage, receive, visibility_of
from openmeter_collector.components.inputs.s3_queue_memory import QueueMemory, Told
from openmeter_collector.components.objects.ahead import Ahead
from openmeter_collector.components.objects.stored import (
    Deleter,
    Missing,
    Store,
    Stored,
    open_object,
)

_IDLE: Final = 0.5
"""Seconds before a queue that had nothing is asked again."""
_MOST_HELD: Final = 1000
"""Messages that are worked on at the same time."""


@dataclass(frozen=True, slots=True)
class Notices:
    """Where objects are told of, and how; see the fields of the input."""

    url: str
    key_path: str
    bucket_path: str
    envelope_path: str
    delay: float
    max_messages: int
    wait_seconds: int
    after_failure: int
    warn_interval: float
    bucket: str
    delete: bool
    at_once: int


class NoTarget(Exception):
    """A message that tells of no object."""


class Listener:
    """An `Input`: one queue, and several objects at the same time, begun in the order of its messages."""

    def __init__(
        self, env: Env, store: Store, sqs: Any, scanner: Scanner, notices: Notices
    ) -> None:
        self._env = env
        self._store = store
        self._sqs = sqs
        self._scanner = scanner
        self._notices = notices
        self._memory = QueueMemory(env)
        self._deleter = Deleter(env, store)
        self._marking = False
        # The order of a FIFO queue is that of its objects.
        in_order = notices.url.endswith(".fifo")
        self._room = asyncio.Semaphore(1 if in_order else notices.at_once)
        self._warned = float("-inf")
        self._unreadable = env.metrics.counter(
            "input_source_unreadable", "Objects that could not be read to their end."
        )
        self._poison = env.metrics.counter(
            "s3_notices_without_target", "Messages of the queue that tell of no object."
        )
        self._objects = env.metrics.counter("s3_objects_read", "Objects of which all is safe.")

    async def run(self, intake: Intake) -> None:
        """See `Input.run`."""
        notices = self._notices
        await self._memory.load()
        visibility = await visibility_of(self._sqs, notices.url)
        held = Held(self._env, self._sqs, notices.url, visibility, self._memory.deleted)
        try:
            async with held.kept(), asyncio.TaskGroup() as objects:
                await self._listen(held, intake, objects)
        finally:
            await asyncio.shield(self._deleter.close())

    async def _listen(self, held: Held, intake: Intake, objects: asyncio.TaskGroup) -> None:
        notices = self._notices
        while True:
            held.check()
            await held.fewer_than(_MOST_HELD)
            messages = await receive(
                self._sqs,
                notices.url,
                MaxNumberOfMessages=notices.max_messages,
                WaitTimeSeconds=notices.wait_seconds,
                MessageSystemAttributeNames=["SentTimestamp"],
            )
            # All of them are kept from others before the first is worked on.
            taken = [(message, held.take(message)) for message in messages]
            for message, one in taken:
                if one is not None:
                    await self._message(message, held, one, intake, objects)
            if not messages:
                await self._env.sleep(_IDLE)

    async def _message(
        self,
        message: Mapping[str, Any],
        held: Held,
        one: HeldMessage,
        intake: Intake,
        objects: asyncio.TaskGroup,
    ) -> None:
        """Begin with the objects of a message as soon as there is room."""
        notices = self._notices
        sent = int(message.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
        if sent and notices.delay:
            wait = sent + notices.delay - self._env.now()
            if 0 < wait <= notices.delay:
                await self._env.sleep(wait)
        try:
            targets = targets_of(message.get("Body") or "", notices)
        except NoTarget as error:
            # It is not given back: that would be the same again at once. When its time has run out
            # it comes again, and the queue's redrive policy puts it aside in the end.
            self._poison.add()
            held.leave(one)
            self._warn(one, error)
            return
        if not targets:
            held.done(one)  # the test event that S3 sends when notifications are set up
            return
        work = _Work(held, one, len(targets), notices.after_failure)
        for target in targets:
            await self._room.acquire()
            objects.create_task(self._in_room(target, work, intake))

    async def _in_room(self, target: tuple[str, str], work: _Work, intake: Intake) -> None:
        try:
            await self._object(*target, work, intake)
        finally:
            self._room.release()

    def _warn(self, one: HeldMessage, error: NoTarget) -> None:
        now = self._env.monotonic()
        if now - self._warned >= self._notices.warn_interval:
            self._warned = now
            self._env.log.warning(
                "a message of the queue tells of no object; look at key_path, bucket_path and "
                "envelope_path, or let a redrive policy put it aside",
                message_id=one.id,
                error=str(error),
            )

    async def _object(self, bucket: str, key: str, work: _Work, intake: Intake) -> None:
        told = self._memory.begin(work.message, bucket, key)
        if told.finished:
            work.finished()  # its message came again before it was deleted
            return
        if work.over:
            return
        try:
            opened, start = await self._opened(bucket, key, told)
        except Missing:
            self._env.log.warning("an object was deleted before it was read", key=key)
            self._finished(told, work)
            return
        except Unreadable as error:
            self._cannot(key, error, work)
            return
        etag = opened.place.etag

        def safe(position: Position) -> None:
            told.safe(etag, position)
            self._memory.moved()

        def finished() -> None:
            self._objects.add()
            if self._notices.delete:
                # The object first: without its message nobody would ever find it again.
                self._deleter.delete(opened, lambda: self._finished(told, work))
            else:
                self._finished(told, work)

        chunks = opened.chunks((start.offset or 0) if self._scanner.seeks(key) else 0)
        source = Source(key, chunks, opened.metadata, start)
        reading = Reading(self._scanner, source, safe=safe, finished=finished)
        ahead = Ahead()
        try:
            while not work.over and (delivery := await reading.next()) is not None:
                await ahead.wait()
                await intake.put(self._marked(delivery, work, ahead.settled))
        except Unreadable as error:
            self._cannot(key, error, work)
        finally:
            await reading.close()
            await chunks.aclose()
            opened.close()

    async def _opened(self, bucket: str, key: str, told: Told) -> tuple[Stored, Position]:
        """Open an object, at the place that it was read to for the same message."""
        start = told.reached
        if start.records:
            offset = (start.offset or 0) if self._scanner.seeks(key) else 0
            try:
                opened = await open_object(
                    self._env, self._store, bucket, key, start=offset, etag=told.etag
                )
            except Missing:
                pass  # not the content that was begun with
            else:
                return opened, start
        opened = await open_object(self._env, self._store, bucket, key)
        return opened, told.start(opened.place.etag)

    def _finished(self, told: Told, work: _Work) -> None:
        told.finished = True
        self._memory.moved()
        work.finished()

    def _marked(self, delivery: Delivery, work: _Work, settled: Callable[[], None]) -> Delivery:
        """The same, carrying what is settled by now, unless an earlier one still does."""
        checkpoints = () if self._marking else self._memory.checkpoints()
        self._marking = self._marking or bool(checkpoints)

        def settle(failure: Exception | None) -> None:
            if checkpoints:
                self._marking = False
            delivery.settle(failure)
            settled()
            if failure is not None:
                work.failed()

        return Delivery(delivery.batch, settle, checkpoints)

    def _cannot(self, key: str, error: Exception, work: _Work) -> None:
        self._unreadable.add()
        self._env.log.error(
            "an object cannot be read to its end; its message stays in the queue, and what was read "
            "of it is passed on",
            key=key,
            error=str(error),
        )
        work.unreadable()


class _Work:
    """What one message tells of.

    Attributes:
        over: it was given back, and what is left of it is read when it comes again.
    """

    def __init__(self, held: Held, message: HeldMessage, objects: int, after_failure: int) -> None:
        self._held = held
        self._message = message
        self._left = objects
        self._after_failure = after_failure
        self.over = False

    @property
    def message(self) -> str:
        """Its id."""
        return self._message.id

    def finished(self) -> None:
        """One object is dealt with."""
        self._left -= 1
        if not self._left:
            self._held.done(self._message)

    def failed(self) -> None:
        """Something of it was not delivered: the message comes again."""
        self.over = True
        self._held.give_back(self._message, self._after_failure)

    def unreadable(self) -> None:
        """It comes again when its time has run out, for the queue's redrive policy to count."""
        self._held.leave(self._message)


def targets_of(body: str, notices: Notices) -> list[tuple[str, str]]:
    """The buckets and keys a message tells of; none for the test event of S3.

    Raises:
        NoTarget: it tells of none and should.
    """
    try:
        document = orjson.loads(body)
        if notices.envelope_path:
            document = orjson.loads(_one(document, notices.envelope_path))
    except (orjson.JSONDecodeError, TypeError) as error:
        raise NoTarget(f"it is no JSON: {error}") from error
    keys = _texts(_dig(document, notices.key_path.split(".")))
    if not keys:
        if isinstance(document, dict) and document.get("Event") == "s3:TestEvent":
            return []
        raise NoTarget(f"nothing at {notices.key_path}")
    buckets = _texts(_dig(document, notices.bucket_path.split("."))) if notices.bucket_path else []
    made = []
    for at, key in enumerate(keys):
        bucket = buckets[at] if at < len(buckets) else notices.bucket
        if not bucket:
            raise NoTarget(f"no bucket at {notices.bucket_path}, and none is configured")
        made.append((bucket, unquote_plus(key)))
    return made


def _one(document: Any, path: str) -> str:
    found = _dig(document, path.split("."))
    if not isinstance(found, str):
        raise NoTarget(f"no text at {path}")
    return found


def _dig(value: Any, path: list[str]) -> Any:
    """What is at a path; `*` stands for every element of a list or every value of an object."""
    for at, part in enumerate(path):
        if part == "*":
            inner = value.values() if isinstance(value, dict) else value
            if not isinstance(value, dict | list):
                return None
            return [_dig(one, path[at + 1 :]) for one in inner]
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _texts(found: Any) -> list[str]:
    if isinstance(found, str):
        return [found]
    return [text for one in found for text in _texts(one)] if isinstance(found, list) else []

"""Reading the objects that an SQS queue tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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
from openmeter_collector.components.aws.objects import Deleter, Missing, S3Object, open_object
from openmeter_collector.components.aws.queue import Held, HeldMessage, receive, visibility_of
from openmeter_collector.components.inputs.s3_memory import Entry, NewestMemory

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


class NoTarget(Exception):
    """A message that tells of no object."""


class Listener:
    """An `Input`: one queue, one object at a time."""

    def __init__(self, env: Env, s3: Any, sqs: Any, scanner: Scanner, notices: Notices) -> None:
        self._env = env
        self._s3 = s3
        self._sqs = sqs
        self._scanner = scanner
        self._notices = notices
        self._memory = NewestMemory(env)
        self._deleter = Deleter(env, s3)
        self._marking = False
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
        held = Held(self._env, self._sqs, notices.url, visibility)
        try:
            async with held.kept():
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
                        await self._message(message, held, one, intake)
                    if not messages:
                        await self._env.sleep(_IDLE)
        finally:
            await asyncio.shield(self._deleter.close())

    async def _message(
        self, message: Mapping[str, Any], held: Held, one: HeldMessage, intake: Intake
    ) -> None:
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
        for bucket, key in targets:
            await self._object(bucket, key, work, intake)

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
        try:
            opened, start = await self._opened(bucket, key)
        except Missing:
            self._env.log.warning("an object was deleted before it was read", key=key)
            work.finished()
            return
        except Unreadable as error:
            self._cannot(key, error, work)
            return
        entry = self._memory.begin(f"{bucket}/{key}", opened.place.etag, start)

        def safe(position: Position) -> None:
            entry.reached = position
            self._memory.moved()

        def finished() -> None:
            entry.finished = True
            self._memory.moved()
            self._objects.add()
            if self._notices.delete:
                # The object first: without its message nobody would ever find it again.
                self._deleter.delete(opened, work.finished)
            else:
                work.finished()

        chunks = opened.chunks((start.offset or 0) if self._scanner.seeks(key) else 0)
        source = Source(key, chunks, {**opened.metadata, "s3_id": opened.identity}, start)
        reading = Reading(self._scanner, source, safe=safe, finished=finished)
        try:
            while (delivery := await reading.next()) is not None:
                await intake.put(self._marked(delivery, work, entry))
        except Unreadable as error:
            self._cannot(key, error, work)
            self._memory.drop(entry)
        finally:
            await reading.close()
            await chunks.aclose()
            opened.close()

    async def _opened(self, bucket: str, key: str) -> tuple[S3Object, Position]:
        """Open an object, at the place a life before this one had come to."""
        opened = await open_object(self._env, self._s3, bucket, key)
        etag = opened.place.etag
        start = self._memory.start_of(f"{bucket}/{key}", etag)
        if start is None:
            return opened, Position()
        offset = (start.offset or 0) if self._scanner.seeks(key) else 0
        if not offset:
            return opened, start
        opened.close()
        try:
            return await open_object(
                self._env, self._s3, bucket, key, start=offset, etag=etag
            ), start
        except Missing:
            return await open_object(self._env, self._s3, bucket, key), Position()

    def _marked(self, delivery: Delivery, work: _Work, entry: Entry) -> Delivery:
        """The same, carrying what is settled by now, unless an earlier one still does."""
        checkpoints = () if self._marking else self._memory.checkpoints()
        self._marking = self._marking or bool(checkpoints)

        def settle(failure: Exception | None) -> None:
            if checkpoints:
                self._marking = False
            delivery.settle(failure)
            if failure is not None:
                self._memory.drop(entry)
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
    """What one message tells of."""

    def __init__(self, held: Held, message: HeldMessage, objects: int, after_failure: int) -> None:
        self._held = held
        self._message = message
        self._left = objects
        self._after_failure = after_failure

    def finished(self) -> None:
        """One object is dealt with."""
        self._left -= 1
        if not self._left:
            self._held.done(self._message)

    def failed(self) -> None:
        """Something of it was not delivered: the message comes again."""
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

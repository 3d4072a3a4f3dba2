"""Objects of a store as streams that survive a connection: read piece by piece, continued where they
broke, deleted when they are what was read.

A store is spoken with by one class (`Store`); everything else is here, once for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import xxhash

from openmeter_collector.api import Env, Metadata, Retryable, Unreadable

_CHUNK: Final = 256 << 10
_ATTEMPTS: Final = 8
"""Times that reading is continued at one place before it is given up for now."""


class Changed(Unreadable):
    """The object is another one than when reading began."""


class Missing(Exception):
    """There is no such object (any more)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which object, and which version of its content.

    Attributes:
        bucket: or container, or whatever the store calls it.
        version: of a store that keeps versions; empty where it does not.
    """

    bucket: str
    key: str
    etag: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Found:
    """An object in a list."""

    key: str
    etag: str


class Body(Protocol):
    """Bytes of an answer."""

    def iter_chunks(self, size: int) -> AsyncIterator[bytes]:
        """In pieces of about this size."""

    def close(self) -> None:
        """Let go of what was not read."""


@dataclass(slots=True)
class Answer:
    """What a store says of an object that it was asked for.

    Attributes:
        metadata: what every message of it carries.
    """

    place: Place
    metadata: Metadata
    body: Body


class Store(Protocol):
    """A store with its client. Whatever its library raises comes out as `Retryable`, or as named.

    Attributes:
        name: begins the names of metadata and counters, such as `s3`.
        in_order: objects are listed in the order of their keys as text, always.
    """

    name: str
    in_order: bool

    def found(self, bucket: str, prefix: str, after: str) -> AsyncGenerator[Found, None]:
        """Objects with this prefix whose key comes after `after`."""

    async def ask(self, bucket: str, key: str, start: int, etag: str) -> Answer:
        """Ask for an object, from the byte `start` on.

        Args:
            etag: of the content that is meant; empty for whatever is there. With it, a `start`
                behind the last byte is answered with `Nothing`.

        Raises:
            Missing: there is none; with `etag`, none of that content.
            Unreadable: it is there and cannot be read.
        """

    async def ask_on(self, place: Place, at: int) -> Body:
        """Go on with the content of an object at a byte.

        Raises:
            Changed: it is another one now.
        """

    async def delete(self, place: Place) -> None:
        """Delete an object if its content is still the same; one that is gone is deleted."""


class Nothing:
    """A body without bytes."""

    async def iter_chunks(self, size: int) -> AsyncGenerator[bytes, None]:
        """None."""
        del size
        for nothing in b"":
            yield bytes((nothing,))

    def close(self) -> None:
        """Nothing to let go of."""


class Stored:
    """An object that is being read.

    Attributes:
        place: with the tag of the content that is read.
        metadata: what every message of it carries, its identity among it.
    """

    def __init__(self, env: Env, store: Store, answer: Answer) -> None:
        """Of the answer to the request that opened it; its body is read first."""
        self._env = env
        self._store = store
        self._body: Body | None = answer.body
        self.place = answer.place
        self.metadata: Metadata = {**answer.metadata, f"{store.name}_id": self.identity}

    @property
    def identity(self) -> str:
        """The same for the same content under the same name, whoever reads it and when."""
        place = self.place
        named = f"{place.bucket}\0{place.key}\0{place.version or place.etag}"
        return xxhash.xxh3_128_hexdigest(named.encode("utf-8", "surrogatepass"))

    async def chunks(self, start: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` on.

        Raises:
            Retryable: reading was continued many times without getting on.
            Changed: the object is another one now.
        """
        at, failed = start, 0
        body, self._body = self._body, None
        try:
            while True:
                try:
                    if body is None:
                        body = await self._store.ask_on(self.place, at)
                    async for chunk in body.iter_chunks(_CHUNK):
                        at += len(chunk)
                        failed = 0
                        yield chunk
                except Retryable:
                    failed += 1
                    if failed > _ATTEMPTS:
                        raise
                    if body is not None:
                        body.close()
                        body = None
                    await self._env.sleep(min(5.0, 0.1 * 2**failed))
                else:
                    return
        finally:
            if body is not None:
                body.close()

    def close(self) -> None:
        """Let go of a body that was not read."""
        if self._body is not None:
            self._body.close()


async def open_object(
    env: Env, store: Store, bucket: str, key: str, *, start: int = 0, etag: str = ""
) -> Stored:
    """Ask for an object; see `Store.ask`."""
    return Stored(env, store, await store.ask(bucket, key, start, etag))


class Deleter:
    """Deletes what was read, and not what somebody put there since."""

    def __init__(self, env: Env, store: Store) -> None:
        self._env = env
        self._store = store
        self._under_way: set[asyncio.Task[None]] = set()
        self._less = asyncio.Event()

    def delete(self, opened: Stored, then: Callable[[], None] | None = None) -> None:
        """Delete soon; tried again until it is done. `then` is called when it is."""
        task = asyncio.ensure_future(self._deleted(opened.place, then))
        self._under_way.add(task)
        task.add_done_callback(self._over)

    async def wait(self) -> None:
        """Until nothing is left to be deleted."""
        while self._under_way:
            self._less.clear()
            await self._less.wait()

    async def close(self) -> None:
        """Give deletions that are under way a moment."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=5.0)
        for task in self._under_way:
            task.cancel()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._less.set()

    async def _deleted(self, place: Place, then: Callable[[], None] | None) -> None:
        pause = 0.5
        while True:
            try:
                await self._store.delete(place)
            except Retryable as error:
                self._env.log.warning("an object cannot be deleted now", error=str(error))
                await self._env.sleep(pause)
                pause = min(60.0, pause * 2)
                continue
            break
        if then is not None:
            then()

"""Objects of S3 as streams that survive a connection: read piece by piece, continued where they broke."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

import xxhash

from openmeter_collector.api import (
    Env,
    Metadata,
    Retryable,
    Unreadable,
)
from openmeter_collector.components.aws.session import code_of, failures, status_of

_CHUNK: Final = 256 << 10
_ATTEMPTS: Final = 8
"""Times that reading is continued at one place before it is given up for now."""


class Changed(Unreadable):
    """The object is another one than when reading began."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which object, and which version of its content."""

    bucket: str
    key: str
    etag: str


class Missing(Exception):
    """There is no such object (any more)."""


class S3Object:
    """An object that is being read.

    Attributes:
        place: with the tag of the content that is read.
        size: bytes.
        metadata: what every message of it carries.
    """

    def __init__(self, env: Env, client: Any, place: Place, answer: Mapping[str, Any]) -> None:
        """`answer` of the request that opened it; its body is read first."""
        self._env = env
        self._client = client
        self._body: Any = answer["Body"]
        self.place = place
        self.size = int(answer.get("ContentLength", 0))
        version = answer.get("VersionId")
        self._version = version if version and version != "null" else ""
        self.metadata = _metadata_of(place, answer, self._version)

    @property
    def identity(self) -> str:
        """The same for the same content under the same name, whoever reads it and when."""
        place = self.place
        named = f"{place.bucket}\0{place.key}\0{self._version or place.etag}"
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
                    with failures(f"{self.place.bucket}/{self.place.key}"):
                        if body is None:
                            body = await self._continued(at)
                        async for chunk in body.iter_chunks(_CHUNK):
                            at += len(chunk)
                            failed = 0
                            yield chunk
                        return
                except Retryable:
                    failed += 1
                    if failed > _ATTEMPTS:
                        raise
                    if body is not None:
                        body.close()
                        body = None
                    await self._env.sleep(min(5.0, 0.1 * 2**failed))
        finally:
            if body is not None:
                body.close()

    def close(self) -> None:
        """Let go of a body that was not read."""
        if self._body is not None:
            self._body.close()

    async def _continued(self, at: int) -> Any:
        place = self.place
        try:
            answer = await self._client.get_object(
                Bucket=place.bucket,
                Key=place.key,
                Range=f"bytes={at}-",
                **({"VersionId": self._version} if self._version else {"IfMatch": place.etag}),
            )
        except Exception as error:
            if status_of(error) in {404, 412} or code_of(error) == "NoSuchVersion":
                raise Changed(
                    f"{place.key}: at byte {at}: the object was changed or deleted while it was read"
                ) from error
            raise
        return answer["Body"]


async def open_object(
    env: Env, client: Any, bucket: str, key: str, *, start: int = 0, etag: str = ""
) -> S3Object:
    """Ask for an object.

    Args:
        start: byte to begin at.
        etag: of the content that is meant; empty for whatever is there.

    Raises:
        Missing: there is none; with `etag`, none of that content.
        Unreadable: it is there and cannot be read, because it is archived.
        Retryable: no answer, or we are refused.
    """
    asked: dict[str, Any] = {"Bucket": bucket, "Key": key}
    if start:
        asked["Range"] = f"bytes={start}-"
    if etag:
        asked["IfMatch"] = etag
    with failures(f"{bucket}/{key}"):
        try:
            answer = await client.get_object(**asked)
        except Exception as error:
            if status_of(error) == 416 and etag:
                # The content is the one that is meant, and all of it is before this place.
                answer = await _empty(client, asked)
                return S3Object(env, client, Place(bucket, key, etag), answer)
            if code_of(error) in {"NoSuchKey", "NoSuchVersion"} or status_of(error) in {412, 416}:
                raise Missing(key) from error
            if code_of(error) == "InvalidObjectState":
                raise Unreadable(f"{key}: it is archived; restore it first") from error
            raise
    return S3Object(env, client, Place(bucket, key, str(answer.get("ETag", ""))), answer)


async def _empty(client: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request for what is behind the last byte."""
    about = {name: value for name, value in asked.items() if name != "Range"}
    try:
        answer = await client.head_object(**about)
    except Exception as error:
        if status_of(error) in {404, 412}:
            raise Missing(about["Key"]) from error
        raise
    return {**answer, "Body": _Nothing()}


class _Nothing:
    """A body without bytes."""

    async def iter_chunks(self, size: int) -> AsyncGenerator[bytes, None]:
        """None."""
        del size
        for nothing in b"":
            yield bytes((nothing,))

    def close(self) -> None:
        """Nothing to let go of."""


def _metadata_of(place: Place, answer: Mapping[str, Any], version: str) -> Metadata:
    made: dict[str, Any] = {"s3_key": place.key, "s3_bucket": place.bucket}
    changed = answer.get("LastModified")
    if changed is not None:
        changed = changed.astimezone(UTC)
        made["s3_last_modified"] = changed.strftime("%Y-%m-%dT%H:%M:%SZ")
        made["s3_last_modified_unix"] = int(changed.timestamp())
    for name, header in (("content_type", "ContentType"), ("content_encoding", "ContentEncoding")):
        if answer.get(header):
            made[f"s3_{name}"] = answer[header]
    if version:
        made["s3_version_id"] = version
    return made | dict(answer.get("Metadata") or {})


class Deleter:
    """Deletes what was read, and not what somebody put there since."""

    def __init__(self, env: Env, client: Any) -> None:
        self._env = env
        self._client = client
        self._under_way: set[asyncio.Task[None]] = set()
        self._less = asyncio.Event()

    def delete(self, opened: S3Object, then: Callable[[], None] | None = None) -> None:
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
                with failures(f"{place.bucket}/{place.key}"):
                    await self._once(place)
            except Retryable as error:
                self._env.log.warning("an object cannot be deleted now", error=str(error))
                await self._env.sleep(pause)
                pause = min(60.0, pause * 2)
                continue
            break
        if then is not None:
            then()

    async def _once(self, place: Place) -> None:
        try:
            there = await self._client.head_object(Bucket=place.bucket, Key=place.key)
        except Exception as error:
            if status_of(error) == 404:
                return
            raise
        if there.get("ETag") == place.etag:
            await self._client.delete_object(Bucket=place.bucket, Key=place.key)

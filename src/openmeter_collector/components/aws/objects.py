"""S3 as a store of objects."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from datetime import UTC
from typing import Any, Final

from openmeter_collector.api import Metadata, Unreadable
from openmeter_collector.components.aws.session import code_of, failures, status_of
from openmeter_collector.components.objects.stored import (
    Answer,
    Body,
    Changed,
    Found,
    Missing,
    Nothing,
    Place,
)

_PAGE: Final = 1000


class S3Store:
    """See `Store`."""

    name = "s3"
    in_order = True

    def __init__(self, client: Any) -> None:
        self._client = client

    async def found(self, bucket: str, prefix: str, after: str) -> AsyncGenerator[Found, None]:
        asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": _PAGE}
        if after:
            asked["StartAfter"] = after
        while True:
            with failures(f"bucket {bucket}"):
                page = await self._client.list_objects_v2(**asked)
            for one in page.get("Contents", ()):
                yield Found(one["Key"], one.get("ETag", ""))
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    async def ask(self, bucket: str, key: str, start: int, etag: str) -> Answer:
        asked: dict[str, Any] = {"Bucket": bucket, "Key": key}
        if start:
            asked["Range"] = f"bytes={start}-"
        if etag:
            asked["IfMatch"] = etag
        with failures(f"{bucket}/{key}"):
            try:
                answer = await self._client.get_object(**asked)
            except Exception as error:
                if status_of(error) == 416 and etag:
                    # The content is the one that is meant, and all of it is before this place.
                    return await self._at_its_end(bucket, key, etag)
                if code_of(error) in {"NoSuchKey", "NoSuchVersion"} or status_of(error) in {
                    412,
                    416,
                }:
                    raise Missing(key) from error
                if code_of(error) == "InvalidObjectState":
                    raise Unreadable(f"{key}: it is archived; restore it first") from error
                raise
        return _answer(bucket, key, answer, _Streamed(answer["Body"], f"{bucket}/{key}"))

    async def _at_its_end(self, bucket: str, key: str, etag: str) -> Answer:
        try:
            answer = await self._client.head_object(Bucket=bucket, Key=key, IfMatch=etag)
        except Exception as error:
            if status_of(error) in {404, 412}:
                raise Missing(key) from error
            raise
        return _answer(bucket, key, answer, Nothing())

    async def ask_on(self, place: Place, at: int) -> Body:
        which = {"VersionId": place.version} if place.version else {"IfMatch": place.etag}
        with failures(str(place)):
            try:
                answer = await self._client.get_object(
                    Bucket=place.bucket, Key=place.key, Range=f"bytes={at}-", **which
                )
            except Exception as error:
                if status_of(error) in {404, 412} or code_of(error) == "NoSuchVersion":
                    raise Changed(
                        f"{place.key}: at byte {at}: the object was changed or deleted while it was "
                        "read"
                    ) from error
                raise
        return _Streamed(answer["Body"], str(place))

    async def delete(self, place: Place) -> None:
        with failures(str(place)):
            try:
                there = await self._client.head_object(Bucket=place.bucket, Key=place.key)
            except Exception as error:
                if status_of(error) == 404:
                    return
                raise
            if there.get("ETag") == place.etag:
                await self._client.delete_object(Bucket=place.bucket, Key=place.key)


class _Streamed:
    """See `Body`."""

    def __init__(self, body: Any, where: str) -> None:
        self._body = body
        self._where = where

    async def iter_chunks(self, size: int) -> AsyncGenerator[bytes, None]:
        chunks = self._body.iter_chunks(size)
        while True:
            with failures(self._where):
                chunk = await anext(chunks, b"")
            if not chunk:
                return
            yield chunk

    def close(self) -> None:
        self._body.close()


def _answer(bucket: str, key: str, answer: Mapping[str, Any], body: Body) -> Answer:
    version = answer.get("VersionId")
    version = version if version and version != "null" else ""
    place = Place(bucket, key, str(answer.get("ETag", "")), version)
    return Answer(place, _metadata_of(place, answer), body)


def _metadata_of(place: Place, answer: Mapping[str, Any]) -> Metadata:
    made: dict[str, Any] = {"s3_key": place.key, "s3_bucket": place.bucket}
    changed = answer.get("LastModified")
    if changed is not None:
        changed = changed.astimezone(UTC)
        made["s3_last_modified"] = changed.strftime("%Y-%m-%dT%H:%M:%SZ")
        made["s3_last_modified_unix"] = int(changed.timestamp())
    for name, header in (("content_type", "ContentType"), ("content_encoding", "ContentEncoding")):
        if answer.get(header):
            made[f"s3_{name}"] = answer[header]
    if place.version:
        made["s3_version_id"] = place.version
    return made | dict(answer.get("Metadata") or {})

"""Blobs of Azure as a store of objects."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC
from typing import Any, Final

from openmeter_collector.api import Metadata, Unreadable
from openmeter_collector.components import extras
from openmeter_collector.components.azure.session import code_of, failures, status_of, uncut
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
_GONE: Final = frozenset({404, 412})


class BlobStore:
    """See `Store`."""

    name = "blob_storage"
    # Accounts with a hierarchical namespace list folder by folder.
    in_order = False

    def __init__(self, client: Any) -> None:
        self._client = client
        (core,) = extras.load("azure", "azure", "azure.core")
        self._same = core.MatchConditions.IfNotModified

    async def found(self, bucket: str, prefix: str, after: str) -> AsyncGenerator[Found, None]:
        container = self._client.get_container_client(bucket)
        pages = container.list_blobs(
            name_starts_with=prefix or None, results_per_page=_PAGE
        ).by_page()
        while True:
            with failures(f"container {bucket}"):
                try:
                    page = [one async for one in await anext(pages)]
                except StopAsyncIteration:
                    return
            for one in page:
                if one.name > after:
                    yield Found(one.name, _tag(one))

    async def ask(self, bucket: str, key: str, start: int, etag: str) -> Answer:
        blob = self._client.get_blob_client(bucket, key)
        with failures(f"{bucket}/{key}"):
            try:
                found = await uncut(blob.download_blob(offset=start or None, **self._if_same(etag)))
            except Exception as error:
                if status_of(error) == 416 and etag:
                    # The content is the one that is meant, and all of it is before this place.
                    return await self._at_its_end(bucket, key, etag)
                if status_of(error) in {404, 412, 416} and code_of(error) != "ContainerNotFound":
                    raise Missing(key) from error
                if code_of(error) == "BlobArchived":
                    raise Unreadable(f"{key}: it is archived; rehydrate it first") from error
                raise
        place = Place(bucket, key, _tag(found.properties))
        return Answer(place, _metadata_of(place, found.properties), _Streamed(found, str(place)))

    async def _at_its_end(self, bucket: str, key: str, etag: str) -> Answer:
        try:
            found = await self._client.get_blob_client(bucket, key).get_blob_properties(
                **self._if_same(etag)
            )
        except Exception as error:
            if status_of(error) in _GONE:
                raise Missing(key) from error
            raise
        place = Place(bucket, key, etag)
        return Answer(place, _metadata_of(place, found), Nothing())

    async def ask_on(self, place: Place, at: int) -> Body:
        blob = self._client.get_blob_client(place.bucket, place.key)
        with failures(str(place)):
            try:
                found = await uncut(
                    blob.download_blob(offset=at or None, **self._if_same(place.etag))
                )
            except Exception as error:
                if status_of(error) == 416:
                    return Nothing()
                if status_of(error) in _GONE:
                    raise Changed(
                        f"{place.key}: at byte {at}: the blob was changed or deleted while it was read"
                    ) from error
                raise
        return _Streamed(found, str(place))

    async def delete(self, place: Place) -> None:
        blob = self._client.get_blob_client(place.bucket, place.key)
        with failures(str(place)):
            try:
                await blob.delete_blob(delete_snapshots="include", **self._if_same(place.etag))
            except Exception as error:
                if status_of(error) not in _GONE:
                    raise

    def _if_same(self, etag: str) -> dict[str, Any]:
        return {"etag": f'"{etag}"', "match_condition": self._same} if etag else {}


class _Streamed:
    """See `Body`: the library asks for one piece after the other, each of the same content."""

    def __init__(self, found: Any, where: str) -> None:
        self._found = found
        self._where = where

    async def iter_chunks(self, size: int) -> AsyncGenerator[bytes, None]:
        del size  # that of a request is set with the client
        chunks = self._found.chunks()
        while True:
            with failures(self._where):
                chunk = await uncut(_next(chunks))
            if not chunk:
                return
            yield chunk

    def close(self) -> None:
        """Each piece is read whole; nothing is left open."""


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    return await anext(chunks, b"")


def _tag(properties: Any) -> str:
    return str(properties.etag or "").strip('"')


def _metadata_of(place: Place, properties: Any) -> Metadata:
    made: dict[str, Any] = {
        "blob_storage_key": place.key,
        "blob_storage_container": place.bucket,
    }
    if properties.last_modified is not None:
        changed = properties.last_modified.astimezone(UTC)
        made["blob_storage_last_modified"] = changed.strftime("%Y-%m-%dT%H:%M:%SZ")
        made["blob_storage_last_modified_unix"] = int(changed.timestamp())
    settings = properties.content_settings
    for name in ("content_type", "content_encoding"):
        if getattr(settings, name, None):
            made[f"blob_storage_{name}"] = getattr(settings, name)
    return made | dict(properties.metadata or {})

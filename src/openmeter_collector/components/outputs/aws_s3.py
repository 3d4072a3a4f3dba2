"""Writes messages as objects of Amazon S3, and of whatever speaks its protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlencode

from openmeter_collector.api import (
    Batch,
    BatchPolicy,
    Duration,
    Env,
    Example,
    Interpolated,
    Output,
    field,
    output,
)
from openmeter_collector.components.aws.sending import MetadataExclude, one_by_one
from openmeter_collector.components.aws.session import AwsFields, client_of, verdicts

_WHERE = "output.aws_s3"

LINES = Example(
    "An object of lines every minute",
    """
    output:
      aws_s3:
        bucket: archive
        region: us-east-1
        path: usage/${! timestamp_unix() }-${! uuid_v4() }.jsonl.gz
        batching:
          count: 10000
          period: 1m
          processors:
            - archive:
                format: lines
            - compress:
                algorithm: gzip
    """,
)


def _text(value: str = "") -> Interpolated:
    return Interpolated(value)


@output("aws_s3", categories=("Services", "AWS"), examples=[LINES])
class AwsS3Output(AwsFields):
    """Writes each message as an object of a bucket.

    Put messages together with `batching` and its `processors` (`archive`, `compress`). A write that was
    not answered is repeated: with a `path` that is the same for the same message the object is only
    overwritten, with the default path it may be there twice.
    """

    bucket: str = field(doc="The bucket.")
    path: Interpolated = field(
        default_factory=lambda: _text("${!counter()}-${!timestamp_unix_nano()}.txt"),
        doc="The object's key.",
    )
    tags: dict[str, Interpolated] = field(default_factory=dict, doc="Tags of the object.")
    content_type: Interpolated = field(
        default_factory=lambda: _text("application/octet-stream"), doc="Content type."
    )
    content_encoding: Interpolated = field(
        default_factory=_text, advanced=True, doc="Content encoding."
    )
    cache_control: Interpolated = field(default_factory=_text, advanced=True, doc="Cache control.")
    content_disposition: Interpolated = field(
        default_factory=_text, advanced=True, doc="Content disposition."
    )
    content_language: Interpolated = field(
        default_factory=_text, advanced=True, doc="Content language."
    )
    website_redirect_location: Interpolated = field(
        default_factory=_text, advanced=True, doc="Where a website redirects to."
    )
    metadata: MetadataExclude = field(
        default_factory=MetadataExclude,
        doc="Metadata that becomes the object's; all unless excluded.",
    )
    storage_class: Interpolated = field(
        default_factory=lambda: _text("STANDARD"), advanced=True, doc="Storage class."
    )
    kms_key_id: str = field(default="", advanced=True, doc="Key of server-side encryption.")
    checksum_algorithm: Literal["", "CRC32", "CRC32C", "SHA1", "SHA256"] = field(
        default="", advanced=True, doc="Checksum that the server compares."
    )
    server_side_encryption: str = field(
        default="", advanced=True, doc="Algorithm of server-side encryption."
    )
    force_path_style_urls: bool = field(
        default=False,
        advanced=True,
        doc="The bucket in the path instead of the host name; servers other than AWS often need it.",
    )
    max_in_flight: int = field(default=64, doc="Writes under way at the same time.")
    timeout: Duration = field(default=Duration("5s"), advanced=True, doc="Time for one object.")
    object_canned_acl: str = field(default="", advanced=True, doc="Canned ACL of the object.")
    batching: BatchPolicy = field(
        default_factory=BatchPolicy, doc="How messages are put together before they are written."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Opens a client; the first write says whether all is well."""
        del env
        async with client_of(
            "s3",
            self,
            _WHERE,
            extra="s3",
            path_style=self.force_path_style_urls,
            connections=self.max_in_flight,
        ) as client:
            yield _Writer(self, client)


class _Writer:
    def __init__(self, config: AwsS3Output, client: Any) -> None:
        self._config = config
        self._client = client

    async def write(self, batch: Batch) -> None:
        async def put(index: int) -> None:
            asked = self._asked(batch, index)
            with verdicts(f"{_WHERE}: {self._config.bucket}/{asked['Key']}"):
                async with asyncio.timeout(float(self._config.timeout)):
                    await self._client.put_object(**asked)

        await one_by_one(batch, put)

    def _asked(self, batch: Batch, index: int) -> dict[str, Any]:
        config = self._config
        message = batch[index]
        headers = {
            "ContentType": config.content_type,
            "ContentEncoding": config.content_encoding,
            "CacheControl": config.cache_control,
            "ContentDisposition": config.content_disposition,
            "ContentLanguage": config.content_language,
            "WebsiteRedirectLocation": config.website_redirect_location,
            "StorageClass": config.storage_class,
        }
        asked: dict[str, Any] = {
            "Bucket": config.bucket,
            "Key": config.path.resolve(batch, index),
            "Body": message.content,
            "Metadata": config.metadata.select(message),
        }
        asked |= {
            name: text for name, one in headers.items() if (text := one.resolve(batch, index))
        }
        tags = {key: value.resolve(batch, index) for key, value in sorted(config.tags.items())}
        if tags:
            asked["Tagging"] = urlencode(tags)
        if config.kms_key_id:
            asked |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": config.kms_key_id}
        if config.server_side_encryption:
            asked["ServerSideEncryption"] = config.server_side_encryption
        if config.checksum_algorithm:
            asked["ChecksumAlgorithm"] = config.checksum_algorithm
        if config.object_canned_acl:
            asked["ACL"] = config.object_canned_acl
        return asked

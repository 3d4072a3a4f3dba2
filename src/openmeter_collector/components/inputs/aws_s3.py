"""Reads objects of Amazon S3, and of whatever speaks its protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    ConfigError,
    Duration,
    Env,
    Example,
    Input,
    Interpolated,
    Puller,
    ScannerNode,
    field,
    input,  # noqa: A004
    section,
)
from openmeter_collector.components.aws.session import AwsFields, client_of
from openmeter_collector.components.inputs.numbered import Numbered
from openmeter_collector.components.inputs.s3_queue import Listener, Notices
from openmeter_collector.components.inputs.s3_walk import Walk, Walker

_WHERE = "input.aws_s3"

HOURLY = Example(
    "Lines of the objects of this hour",
    """
    input:
      aws_s3:
        bucket: my-bucket
        region: us-east-1
        prefix: ${!timestamp_unix().ts_round("1h".parse_duration()).ts_unix()}/
        scanner:
          lines: {}
    """,
)
QUEUE = Example(
    "Objects as they are uploaded, told by SQS",
    """
    input:
      aws_s3:
        region: us-east-1
        sqs:
          url: https://sqs.us-east-1.amazonaws.com/123456789012/uploads
          wait_time_seconds: 20
        scanner:
          decompress:
            algorithm: gzip
            into:
              csv: {}
    """,
)
NEW = Example(
    "New objects every minute, each once",
    """
    input:
      aws_s3:
        bucket: exports
        prefix: usage/
        region: eu-central-1
        interval: 1m
        scanner:
          lines: {}
    """,
)


@section
class SqsNotices:
    """A queue that tells of new objects."""

    url: str = field(default="", doc="The queue; it decides then which objects are read.")
    endpoint: str = field(default="", advanced=True, doc="Another address for SQS.")
    key_path: str = field(
        default="Records.*.s3.object.key", doc="Where keys are in a message: a path with dots."
    )
    bucket_path: str = field(
        default="Records.*.s3.bucket.name", doc="Where names of buckets are in a message."
    )
    envelope_path: str = field(
        default="",
        doc="Where the message itself is in what the queue holds, as text; `Message` if it came "
        "through SNS.",
    )
    delay_period: Duration | None = field(
        default=None, advanced=True, doc="Wait so long after a message was sent."
    )
    max_messages: int = field(
        default=10, minimum=1, maximum=10, advanced=True, doc="Messages asked for at a time."
    )
    wait_time_seconds: int = field(
        default=0, minimum=0, maximum=20, advanced=True, doc="Let the queue wait for messages."
    )
    nack_visibility_timeout: int = field(
        default=0, minimum=0, doc="Seconds until a message comes again that was not dealt with."
    )
    zero_key_warn_interval: Duration = field(
        default=Duration("30s"),
        advanced=True,
        doc="How often messages that tell of no object are said in the log.",
    )
    max_in_flight: int = field(
        default=4,
        minimum=1,
        maximum=64,
        ours=True,
        doc="Objects that are read at the same time, begun in the order of the messages; those of a "
        "FIFO queue one after the other.",
    )


@input("aws_s3", categories=("Services", "AWS"), examples=[HOURLY, QUEUE, NEW])
class AwsS3(AwsFields):
    """Reads objects of a bucket, in the order of their keys, or as an SQS queue tells of them.

    Without a queue the objects that are there are read once, then the input ends; with `interval` it
    looks again for new ones. Objects of any size are read in bounded memory: `scanner` says how their
    bytes become messages (`lines`, `csv`, `json_array`, `parquet`, `avro`, each also inside
    `decompress`). A connection that breaks is continued at the same byte of the same content.

    **Durability.** How far everything is safe is remembered with the events, in the same transaction
    with the `sqlite` buffer: after a crash, reading goes on inside the object that was being read. A
    run that came to its end starts from the first object the next time, as it always did; with
    `interval` every object (key and content) is read once for all runs. A message of the queue is kept
    from others for as long as it is worked on, and deleted when all objects it tells of are safe; one
    that comes again in spite of that goes on where its objects were. `delete_objects` deletes what was
    read, and not what was put there since.

    **What may come twice.** A queue of AWS gives a message to another replica when its time runs out
    while the first one stands still, and now and then for no reason at all; a crash repeats the records
    that were stored in its last moment. Both come with the same `s3_id`, and OpenMeter counts them once.

    **Ids.** The metadata `s3_id` is the same for the same record of the same object, whoever reads it
    and when: a hash of bucket, key and version (or content tag), and the number of the record in the
    object. Use it as the id of events.

    Metadata: `s3_key`, `s3_bucket`, `s3_last_modified_unix`, `s3_last_modified`, `s3_content_type`,
    `s3_content_encoding`, `s3_version_id`, `s3_id`, and the object's own metadata.

    An object that cannot be read to its end (damaged, archived) is said in the log, counted in
    `input_source_unreadable` and not deleted; its message stays in the queue, for a redrive policy to
    put aside. A message that tells of no object is left to its time in the same way.
    """

    bucket: str = field(default="", doc="The bucket; optional with `sqs.url`.")
    prefix: Interpolated = field(
        default_factory=lambda: Interpolated(""),
        doc="Only objects whose key begins so. Interpolated when the bucket is listed.",
    )
    force_path_style_urls: bool = field(
        default=False,
        advanced=True,
        doc="The bucket in the path instead of the host name; servers other than AWS often need it.",
    )
    delete_objects: bool = field(
        default=False, advanced=True, doc="Delete objects of which all is safe."
    )
    codec: ScannerNode | None = field(
        default=None,
        deprecated=True,
        doc="An older way to name the scanner: `lines`, `delim:x`, `all-bytes`, `csv`, `gzip/csv`, ...",
    )
    max_buffer: int = field(
        default=1000000,
        deprecated=True,
        doc="Not used: records of a `codec` may have up to 64 MiB.",
    )
    scanner: ScannerNode = field(
        default_config="to_the_end: {}", doc="How the bytes of an object become messages."
    )
    sqs: SqsNotices = field(default_factory=SqsNotices, doc="A queue that tells of new objects.")
    interval: Duration | None = field(
        default=None,
        ours=True,
        doc="Do not end: look again for new objects after so long, and read every object once.",
    )
    start_after: str = field(
        default="", ours=True, doc="Only objects whose key comes after this one."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input | Puller]:
        """Opens clients; the first answer says whether all is well.

        Raises:
            ConfigError: fields do not go together, or the extra is missing.
        """
        if not self.bucket and not self.sqs.url:
            raise ConfigError(f"{_WHERE}: neither bucket nor sqs.url is set; set one")
        if self.sqs.url and (self.prefix.static != "" or self.interval or self.start_after):
            raise ConfigError(
                f"{_WHERE}: prefix, interval and start_after have no meaning with sqs.url; the queue "
                "decides what is read"
            )
        async with (
            env.scanner(self.codec or self.scanner) as scanner,
            client_of(
                "s3",
                self,
                _WHERE,
                extra="s3",
                path_style=self.force_path_style_urls,
                connections=32 + self.sqs.max_in_flight,
            ) as client,
        ):
            numbered = Numbered(scanner, "s3_id")
            if self.sqs.url:
                async with client_of(
                    "sqs", self, _WHERE, extra="s3", endpoint=self.sqs.endpoint
                ) as sqs:
                    yield Listener(env, client, sqs, numbered, self._notices())
                return
            interval = None if self.interval is None else float(self.interval)
            walk = Walk(self.bucket, self.prefix, self.start_after, interval, self.delete_objects)
            walker = Walker(env, client, numbered, walk)
            try:
                yield walker
            finally:
                await walker.close()

    def _notices(self) -> Notices:
        sqs = self.sqs
        return Notices(
            url=sqs.url,
            key_path=sqs.key_path,
            bucket_path=sqs.bucket_path,
            envelope_path=sqs.envelope_path,
            delay=float(sqs.delay_period or 0),
            max_messages=sqs.max_messages,
            wait_seconds=sqs.wait_time_seconds,
            after_failure=sqs.nack_visibility_timeout,
            warn_interval=float(sqs.zero_key_warn_interval),
            bucket=self.bucket,
            delete=self.delete_objects,
            at_once=sqs.max_in_flight,
        )

"""Sends messages to an SQS queue."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from openmeter_collector.api import (
    Batch,
    BatchFailed,
    BatchPolicy,
    CollectorError,
    Duration,
    Env,
    Example,
    Interpolated,
    Output,
    ProcessingError,
    Rejected,
    Retryable,
    field,
    output,
    section,
)
from openmeter_collector.components.aws.sending import MetadataExclude
from openmeter_collector.components.aws.session import AwsFields, client_of, verdicts

_WHERE = "output.aws_sqs"
_MOST_ATTRIBUTES: Final = 10
_MOST_BYTES: Final = 256 << 10
_ATTRIBUTE: Final = re.compile(r"(?!aws\.|amazon\.|\.)(?!.*\.\.)[a-z0-9_.-]+(?<!\.)", re.IGNORECASE)

EVENTS = Example(
    "Events, in the order of their customers",
    """
    output:
      aws_sqs:
        url: https://sqs.us-east-1.amazonaws.com/123456789012/usage.fifo
        region: us-east-1
        message_group_id: ${! this.subject }
        message_deduplication_id: ${! this.id }
    """,
)


@section
class BackOffFields:
    """Accepted for compatibility: repeating is what the collector does for every output."""

    initial_interval: Duration = field(default=Duration("1s"), doc="Accepted.")
    max_interval: Duration = field(default=Duration("5s"), doc="Accepted.")
    max_elapsed_time: Duration = field(default=Duration("30s"), doc="Accepted.")


@output("aws_sqs", categories=("Services", "AWS"), examples=[EVENTS])
class AwsSqsOutput(AwsFields):
    """Sends each message to an SQS queue.

    Metadata goes along as attributes, the first ten keys in the order of the alphabet that the service
    allows. What the queue refuses of a batch is told apart: only that is repeated, or becomes a dead
    letter.
    """

    url: Interpolated = field(doc="The queue.")
    message_group_id: Interpolated | None = field(default=None, doc="Group of a FIFO queue.")
    message_deduplication_id: Interpolated | None = field(
        default=None, doc="What a FIFO queue knows the same message by."
    )
    delay_seconds: Interpolated | None = field(
        default=None, doc="Seconds until it can be received, 0 to 900."
    )
    max_in_flight: int = field(default=64, doc="Batches under way at the same time.")
    metadata: MetadataExclude = field(
        default_factory=MetadataExclude, doc="Metadata that goes along; all unless excluded."
    )
    batching: BatchPolicy = field(
        default_factory=BatchPolicy, doc="How messages are put together; see the guide."
    )
    max_records_per_request: int = field(
        default=10, minimum=1, maximum=10, advanced=True, doc="Messages in a request at most."
    )
    max_retries: int = field(
        default=0, advanced=True, doc="Accepted; what may pass is repeated for ever."
    )
    backoff: BackOffFields = field(
        default_factory=BackOffFields, advanced=True, doc="Accepted for compatibility."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Opens a client; the first write says whether all is well."""
        del env
        async with client_of(
            "sqs", self, _WHERE, extra="sqs", connections=self.max_in_flight
        ) as client:
            yield _Sender(self, client)


class _Sender:
    def __init__(self, config: AwsSqsOutput, client: Any) -> None:
        self._config = config
        self._client = client

    async def write(self, batch: Batch) -> None:
        failed: dict[int, Exception] = {}
        by_queue: dict[str, list[dict[str, Any]]] = {}
        for index in range(len(batch)):
            try:
                url, entry = self._entry(batch, index)
            except (ProcessingError, ValueError) as error:
                failed[index] = Rejected(f"{_WHERE}: {error}")
                continue
            by_queue.setdefault(url, []).append(entry)
        for url, entries in by_queue.items():
            for some in _requests(entries, self._config.max_records_per_request):
                failed |= await self._send(url, some)
        if failed:
            raise BatchFailed(failed)

    async def _send(self, url: str, entries: list[dict[str, Any]]) -> dict[int, Exception]:
        """Send one request; what became of those that failed, by their place in the batch."""
        try:
            with verdicts(f"{_WHERE}: {url}"):
                answer = await self._client.send_message_batch(QueueUrl=url, Entries=entries)
        except CollectorError as error:
            return {int(entry["Id"]): error for entry in entries}
        failed: dict[int, Exception] = {}
        for one in answer.get("Failed", ()):
            text = f"{_WHERE}: {url}: {one.get('Code')}: {one.get('Message', '')}"
            kind = Rejected if one.get("SenderFault") else Retryable
            failed[int(one["Id"])] = kind(text)
        return failed

    def _entry(self, batch: Batch, index: int) -> tuple[str, dict[str, Any]]:
        config, message = self._config, batch[index]
        if len(message.content) > _MOST_BYTES:
            raise ValueError(f"{len(message.content)} bytes; a message may have {_MOST_BYTES}")
        entry: dict[str, Any] = {"Id": str(index), "MessageBody": message.content.decode()}
        keys = sorted(key for key in config.metadata.select(message) if _ATTRIBUTE.fullmatch(key))
        values = config.metadata.select(message)
        attributes = {
            key: {"DataType": "String", "StringValue": values[key]}
            for key in keys[:_MOST_ATTRIBUTES]
            if values[key]
        }
        if attributes:
            entry["MessageAttributes"] = attributes
        if config.message_group_id is not None:
            entry["MessageGroupId"] = config.message_group_id.resolve(batch, index)
        if config.message_deduplication_id is not None:
            entry["MessageDeduplicationId"] = config.message_deduplication_id.resolve(batch, index)
        if config.delay_seconds is not None:
            delay = int(config.delay_seconds.resolve(batch, index))
            if not 0 <= delay <= 900:
                raise ValueError(f"delay_seconds is {delay}; it may be 0 to 900")
            entry["DelaySeconds"] = delay
        return config.url.resolve(batch, index), entry


def _requests(entries: list[dict[str, Any]], most: int) -> list[list[dict[str, Any]]]:
    """Entries in groups that one request may hold, by number and by bytes."""
    made: list[list[dict[str, Any]]] = []
    size = 0
    for entry in entries:
        bytes_ = len(entry["MessageBody"].encode())
        if not made or len(made[-1]) >= most or size + bytes_ > _MOST_BYTES:
            made.append([])
            size = 0
        made[-1].append(entry)
        size += bytes_
    return made

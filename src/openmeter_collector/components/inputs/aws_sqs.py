"""Takes messages from an SQS queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from openmeter_collector.api import (
    Delivery,
    Duration,
    Env,
    Example,
    Input,
    Intake,
    Message,
    by_index,
    field,
    input,  # noqa: A004
)
from openmeter_collector.components.aws.queue import Held, HeldMessage, receive
from openmeter_collector.components.aws.session import AwsFields, client_of

_WHERE = "input.aws_sqs"
_IDLE = 0.5

EVENTS = Example(
    "Usage events from a queue",
    """
    input:
      aws_sqs:
        url: https://sqs.us-east-1.amazonaws.com/123456789012/usage
        region: us-east-1
        wait_time_seconds: 20
    """,
)


@input("aws_sqs", categories=("Services", "AWS"), examples=[EVENTS])
class AwsSqs(AwsFields):
    """Takes messages from an SQS queue.

    A message is kept from others for as long as it is on its way, and deleted when it is safe. One that
    was not delivered is given back at once (`reset_visibility`). One whose time ran out all the same is
    known again by its id while it is worked on and after it was deleted, and not passed on a second
    time; after a crash, and from another replica, it may come twice, with the same `sqs_message_id`.

    Metadata: `sqs_message_id` (the same however often a message is received: use it as the id of
    events), `sqs_receipt_handle`, `sqs_approximate_receive_count`, and the message's own attributes.
    """

    url: str = field(doc="The queue.")
    delete_message: bool = field(default=True, advanced=True, doc="Delete messages that are safe.")
    reset_visibility: bool = field(
        default=True,
        advanced=True,
        doc="Give a message back at once when it was not delivered; else when its time has run out.",
    )
    max_number_of_messages: int = field(
        default=10, minimum=1, maximum=10, advanced=True, doc="Messages asked for at a time."
    )
    max_outstanding_messages: int = field(
        default=1000, minimum=1, doc="Messages that are on their way at the same time."
    )
    wait_time_seconds: int = field(
        default=0, minimum=0, maximum=20, advanced=True, doc="Let the queue wait for messages."
    )
    message_timeout: Duration = field(
        default=Duration("30s"),
        advanced=True,
        doc="How long a message is kept from others each time; it is said again after half of it.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        """Opens a client; the first answer says whether all is well."""
        async with client_of("sqs", self, _WHERE, extra="sqs") as client:
            yield _Receiver(self, env, client)


class _Receiver:
    def __init__(self, config: AwsSqs, env: Env, client: Any) -> None:
        self._config = config
        self._env = env
        self._client = client

    async def run(self, intake: Intake) -> None:
        config = self._config
        held = Held(self._env, self._client, config.url, float(config.message_timeout))
        async with held.kept():
            while True:
                held.check()
                await held.fewer_than(config.max_outstanding_messages)
                messages = await receive(
                    self._client,
                    config.url,
                    MaxNumberOfMessages=config.max_number_of_messages,
                    WaitTimeSeconds=config.wait_time_seconds,
                    VisibilityTimeout=max(1, int(config.message_timeout)),
                    MessageSystemAttributeNames=["All"],
                    MessageAttributeNames=["All"],
                )
                taken = [(held.take(message), message) for message in messages]
                new = [(one, message) for one, message in taken if one is not None]
                if new:
                    await intake.put(self._delivery(new, held))
                if not messages:
                    await self._env.sleep(_IDLE)

    def _delivery(self, taken: list[tuple[HeldMessage, dict[str, Any]]], held: Held) -> Delivery:
        def settle(failure: Exception | None) -> None:
            failed = by_index(failure, len(taken))
            for index, (one, _) in enumerate(taken):
                if index not in failed:
                    held.done(one, delete=self._config.delete_message)
                elif self._config.reset_visibility:
                    held.give_back(one, 0)
                else:
                    held.leave(one)

        return Delivery([_message(message) for _, message in taken], settle)


def _message(given: Mapping[str, Any]) -> Message:
    metadata = {
        "sqs_message_id": given["MessageId"],
        "sqs_receipt_handle": given["ReceiptHandle"],
    }
    count = given.get("Attributes", {}).get("ApproximateReceiveCount")
    if count is not None:
        metadata["sqs_approximate_receive_count"] = count
    for name, value in given.get("MessageAttributes", {}).items():
        if "StringValue" in value:
            metadata[name] = value["StringValue"]
    return Message(given.get("Body", "").encode("utf-8", "surrogatepass"), metadata)

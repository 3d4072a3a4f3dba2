"""Messages of an SQS queue: deleted when they are safe, and come again when they are not."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from kit.pipes import REGISTRY, surroundings
from kit.waiting import eventually
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.errors import BatchFailed, Retryable


class Intake:
    def __init__(self, verdict=None):
        self.verdict = verdict
        self.deliveries = []
        self.messages = []

    async def put(self, delivery):
        self.deliveries.append(delivery)
        self.messages += delivery.batch
        if self.verdict != "silent":
            delivery.settle(self.verdict)


@asynccontextmanager
async def receiving(aws, queue, intake, **fields):
    text = f"input:\n  aws_sqs:\n{aws.fields(url=queue, **fields)}\n"
    config = load(text, REGISTRY, env={})
    env = ComponentEnv(surroundings(), Resources(), config.input)
    async with config.input.config.open(env) as opened:
        run = asyncio.ensure_future(opened.run(intake))
        try:
            yield
        finally:
            run.cancel()
            await asyncio.wait({run})


async def sent(aws, *bodies, **queue):
    made = await aws.queue(**queue)
    for body in bodies:
        await aws.sqs.send_message(
            QueueUrl=made,
            MessageBody=body,
            MessageAttributes={"customer": {"DataType": "String", "StringValue": "c"}},
        )
    return made


async def test_messages_are_deleted_when_they_are_safe_and_not_before(aws):
    queue = await sent(aws, "a", "b")
    intake = Intake("silent")
    async with receiving(aws, queue, intake):
        await eventually(lambda: len(intake.messages) == 2)
        assert await aws.waiting(queue) == (0, 2)
        for delivery in intake.deliveries:
            delivery.settle(None)

        async def gone():
            return await aws.waiting(queue) == (0, 0)

        await eventually(gone)
    assert {message.content for message in intake.messages} == {b"a", b"b"}
    meta = intake.messages[0].metadata
    assert meta["customer"] == "c"
    assert meta["sqs_approximate_receive_count"] == "1"
    assert meta["sqs_message_id"]
    assert meta["sqs_receipt_handle"]


async def test_only_what_was_not_delivered_comes_again_with_the_same_id(aws):
    queue = await sent(aws, "a", "b")
    intake = Intake("silent")
    async with receiving(aws, queue, intake):
        await eventually(lambda: len(intake.messages) == 2)
        (first, *rest) = intake.deliveries
        first.settle(BatchFailed({0: Retryable("later")}))
        for delivery in rest:
            delivery.settle(None)
        await eventually(lambda: len(intake.messages) == 3)
    assert intake.messages[2].content == intake.messages[0].content
    ids = [message.metadata["sqs_message_id"] for message in intake.messages]
    assert ids[2] == ids[0]
    assert intake.messages[2].metadata["sqs_approximate_receive_count"] == "2"


async def test_a_message_that_is_on_its_way_for_long_is_kept_from_others(aws):
    queue = await sent(aws, "a")
    intake = Intake("silent")
    async with receiving(aws, queue, intake, message_timeout="2s"):
        await eventually(lambda: intake.messages)
        await asyncio.sleep(3.5)
        assert await aws.waiting(queue) == (0, 1)
    assert len(intake.messages) == 1


async def test_no_more_than_allowed_are_on_their_way(aws):
    queue = await sent(aws, "a", "b", "c")
    intake = Intake("silent")
    more = {"max_outstanding_messages": 1, "max_number_of_messages": 1}
    async with receiving(aws, queue, intake, **more):
        await eventually(lambda: intake.messages)
        await asyncio.sleep(0.3)
        assert len(intake.messages) == 1
        intake.deliveries[0].settle(None)
        await eventually(lambda: len(intake.messages) == 2)


async def test_messages_stay_when_they_are_not_to_be_deleted(aws):
    queue = await sent(aws, "a")
    intake = Intake()
    async with receiving(aws, queue, intake, delete_message="false"):
        await eventually(lambda: intake.messages)
    assert await aws.waiting(queue) == (0, 1)


async def test_a_queue_that_goes_away_is_retryable(aws):
    queue = await aws.queue()
    config = load(f"input:\n  aws_sqs:\n{aws.fields(url=queue)}\n", REGISTRY, env={})
    env = ComponentEnv(surroundings(), Resources(), config.input)
    async with config.input.config.open(env) as opened:
        run = asyncio.ensure_future(opened.run(Intake()))
        await asyncio.sleep(0.2)
        await aws.sqs.delete_queue(QueueUrl=queue)
        with pytest.raises(Retryable, match="NonExistentQueue"):
            await asyncio.wait_for(run, 20)

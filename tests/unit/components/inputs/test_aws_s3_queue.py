"""Objects that an SQS queue tells of: its messages are deleted when all is safe, and not before."""

import asyncio
import gzip
import json
import time
from contextlib import asynccontextmanager

import pytest

from kit.otlp import Intake as Offered
from kit.pipes import REGISTRY, surroundings
from kit.waiting import eventually
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.errors import Retryable
from openmeter_collector.message import Delivery


class Intake(Offered):
    """Takes deliveries; `verdict` as there, and "silent" leaves them open."""

    async def put(self, delivery):
        self.deliveries.append(delivery)
        self.messages += delivery.batch
        if self.verdict != "silent":
            delivery.settle(self.verdict)

    @property
    def bodies(self):
        return [message.content.decode() for message in self.messages]


@asynccontextmanager
async def listening(aws, queue, intake, scanner="lines: {}", around=None, lines=None, **fields):
    sqs = {"url": queue} | fields.pop("sqs", {})
    more = {"sqs": json.dumps(sqs), "force_path_style_urls": "true"} | fields
    text = f"input:\n  aws_s3:\n{aws.fields(**more)}\n    scanner: {{{scanner}}}\n"
    config = load(text, REGISTRY, env={})
    around = around or surroundings(lines)
    env = ComponentEnv(around, Resources(), config.input)
    async with config.input.config.open(env) as opened:
        run = asyncio.ensure_future(opened.run(intake))
        try:
            yield around
        finally:
            run.cancel()
            await asyncio.wait({run})
            if not run.cancelled():
                run.result()


def notice(bucket, *keys):
    records = [{"s3": {"bucket": {"name": bucket}, "object": {"key": key}}} for key in keys]
    return json.dumps({"Records": records})


async def told(aws, bucket, *keys, **queue):
    """A queue with one message that tells of these objects."""
    made = await aws.queue(**queue)
    await aws.sqs.send_message(QueueUrl=made, MessageBody=notice(bucket, *keys))
    return made


async def test_a_message_is_deleted_when_all_its_objects_are_safe_and_not_before(aws):
    bucket = await aws.bucket({"a b": "1\n2\n", "c": "3\n"})
    queue = await told(aws, bucket, "a+b", "c")
    intake = Intake("silent")
    async with listening(aws, queue, intake):
        await eventually(lambda: sorted(intake.bodies) == ["1", "2", "3"])
        assert await aws.waiting(queue) == (0, 1)
        intake.deliveries[0].settle(None)
        await asyncio.sleep(0.2)
        assert await aws.waiting(queue) == (0, 1)
        intake.deliveries[1].settle(None)
        await eventually(lambda: gone(aws, queue))
    keys = {message.content: message.metadata["s3_key"] for message in intake.messages}
    assert keys == {b"1": "a b", b"2": "a b", b"3": "c"}
    assert {message.metadata["s3_bucket"] for message in intake.messages} == {bucket}


async def gone(aws, queue):
    return await aws.waiting(queue) == (0, 0)


async def test_what_was_not_delivered_comes_again_with_the_same_ids(aws):
    bucket = await aws.bucket({"a": "1\n"})
    queue = await told(aws, bucket, "a")
    intake = Intake(Retryable("later"))
    async with listening(aws, queue, intake):
        await eventually(lambda: len(intake.messages) > 1)
        intake.verdict = None
        await eventually(lambda: gone(aws, queue))
    assert len({message.metadata["s3_id"] for message in intake.messages}) == 1


async def test_a_message_that_is_worked_on_for_long_is_kept_from_others(aws):
    bucket = await aws.bucket({"a": "1\n"})
    queue = await told(aws, bucket, "a", visibility=2)
    intake = Intake("silent")
    async with listening(aws, queue, intake):
        await eventually(lambda: intake.messages)
        # Longer than the queue's timeout: without an extension it would be there for others now.
        await asyncio.sleep(3.5)
        assert await aws.waiting(queue) == (0, 1)
        intake.deliveries[0].settle(None)
        await eventually(lambda: gone(aws, queue))
    assert len(intake.messages) == 1


@pytest.mark.parametrize(
    "body", ["no json", "{}", '{"Records": [{"s3": {"object": {"key": "a"}}}]}']
)
async def test_a_message_that_tells_of_nothing_is_left_for_the_redrive_policy(aws, body):
    grave = await aws.queue()
    arn = (await aws.sqs.get_queue_attributes(QueueUrl=grave, AttributeNames=["QueueArn"]))[
        "Attributes"
    ]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    queue = await aws.queue(visibility=1, RedrivePolicy=policy)
    await aws.sqs.send_message(QueueUrl=queue, MessageBody=body)
    lines = []
    async with listening(aws, queue, Intake(), lines=lines) as around:
        await eventually(lambda: around.metrics.total("s3_notices_without_target"))

        async def put_aside():
            return (await aws.waiting(grave))[0]

        await eventually(put_aside)
        assert around.metrics.total("s3_notices_without_target") == 1
    assert any("tells of no object" in line for line in lines)


async def test_the_test_event_is_deleted(aws):
    queue = await aws.queue()
    await aws.sqs.send_message(
        QueueUrl=queue, MessageBody='{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}'
    )
    async with listening(aws, queue, Intake()):
        await eventually(lambda: gone(aws, queue))


async def test_a_missing_object_is_said_and_its_message_deleted(aws):
    bucket = await aws.bucket({"there": "1\n"})
    queue = await told(aws, bucket, "not-there", "there")
    intake, lines = Intake(), []
    async with listening(aws, queue, intake, lines=lines):
        await eventually(lambda: gone(aws, queue))
    assert intake.bodies == ["1"]
    assert any("deleted before it was read" in line for line in lines)


async def test_a_damaged_object_leaves_its_message_in_the_queue(aws):
    bucket = await aws.bucket({"bad": b"no gzip", "good": gzip.compress(b"1\n")})
    queue = await told(aws, bucket, "bad", "good")
    intake = Intake()
    scanner = "decompress: {algorithm: gzip, into: {lines: {}}}"
    async with listening(aws, queue, intake, scanner) as around:
        await eventually(lambda: intake.bodies == ["1"])
        await eventually(lambda: around.metrics.total("input_source_unreadable") == 1)
    assert await aws.waiting(queue) == (0, 1)


async def test_a_message_in_an_envelope_of_sns_is_opened(aws):
    bucket = await aws.bucket({"a": "1\n"})
    queue = await aws.queue()
    await aws.sqs.send_message(
        QueueUrl=queue, MessageBody=json.dumps({"Message": notice(bucket, "a")})
    )
    intake = Intake()
    async with listening(aws, queue, intake, sqs={"envelope_path": "Message"}):
        await eventually(lambda: gone(aws, queue))
    assert intake.bodies == ["1"]


async def test_the_bucket_may_be_configured_and_paths_may_be_other_ones(aws):
    bucket = await aws.bucket({"a": "1\n"})
    queue = await aws.queue()
    await aws.sqs.send_message(QueueUrl=queue, MessageBody='{"files": [{"name": "a"}]}')
    intake = Intake()
    paths = {"key_path": "files.0.name", "bucket_path": ""}
    async with listening(aws, queue, intake, sqs=paths, bucket=bucket):
        await eventually(lambda: gone(aws, queue))
    assert intake.bodies == ["1"]


async def test_objects_are_deleted_before_their_message(aws):
    bucket = await aws.bucket({"a": "1\n"})
    queue = await told(aws, bucket, "a")
    async with listening(aws, queue, Intake(), delete_objects="true"):
        await eventually(lambda: gone(aws, queue))
        assert await aws.keys(bucket) == []


async def test_an_object_is_not_fetched_before_its_delay_is_over(aws):
    bucket = await aws.bucket({"a": "1\n"})
    queue = await told(aws, bucket, "a")
    intake = Intake()
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        await asyncio.sleep(0)

    around = surroundings(now=time.time, sleep=sleep)
    async with listening(aws, queue, intake, sqs={"delay_period": "1h"}, around=around):
        await eventually(lambda: intake.messages)
    assert any(3_500 < seconds <= 3_600 for seconds in slept)


NO_QUEUE = pytest.RaisesGroup(
    pytest.RaisesExc(Retryable, match="NonExistentQueue"),
    flatten_subgroups=True,
    allow_unwrapped=True,
)


async def test_a_queue_that_is_not_there_is_retryable(aws):
    with NO_QUEUE:
        async with listening(aws, f"{aws.url}/123456789012/none", Intake()):
            await asyncio.sleep(5)


async def test_a_queue_that_goes_away_is_retryable(aws):
    queue = await aws.queue()

    async def lose_it():
        async with listening(aws, queue, Intake()):
            await aws.sqs.delete_queue(QueueUrl=queue)
            await asyncio.sleep(3)

    with NO_QUEUE:
        await lose_it()


class Gated(Intake):
    """Takes what comes of each object only after `open` was called for its key."""

    def __init__(self):
        super().__init__()
        self.gates = {}
        self.asked = []

    def open(self, *keys):
        for key in keys:
            self.gates.setdefault(key, asyncio.Event()).set()

    async def put(self, delivery):
        key = delivery.batch[0].metadata["s3_key"]
        self.asked.append(key)
        await self.gates.setdefault(key, asyncio.Event()).wait()
        await super().put(delivery)


async def several(aws, count, lines=1, **attributes):
    """A bucket with objects of their keys as lines, and a queue with a message for each, in order."""
    keys = [f"k{number}" for number in range(count)]
    bucket = await aws.bucket({key: f"{key}\n" * lines for key in keys})
    fifo = bool(attributes)
    name = f"queue-{bucket}" + (".fifo" if fifo else "")
    queue = (await aws.sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
    for key in keys:
        more = {"MessageGroupId": "g", "MessageDeduplicationId": key} if fifo else {}
        await aws.sqs.send_message(QueueUrl=queue, MessageBody=notice(bucket, key), **more)
    return queue, keys


async def test_several_objects_are_read_at_the_same_time_and_no_more_than_allowed(aws):
    queue, keys = await several(aws, 5)
    intake = Gated()
    async with listening(aws, queue, intake, sqs={"max_in_flight": 3}) as around:
        await eventually(lambda: len(intake.asked) == 3)
        # One that is done makes room for one; the others are not waited for.
        intake.open("k1")
        await eventually(lambda: len(intake.asked) == 4)
        assert intake.bodies == ["k1"]
        await eventually(lambda: around.metrics.total("s3_objects_read") == 1)
        intake.open(*keys)
        await eventually(lambda: gone(aws, queue))
    assert sorted(intake.bodies) == keys
    assert sorted(intake.asked[:3]) == ["k0", "k1", "k2"]


async def test_objects_of_a_fifo_queue_are_read_one_after_the_other(aws):
    queue, keys = await several(aws, 4, lines=5_000, FifoQueue="true")

    class LettingOthers(Intake):
        async def put(self, delivery):
            await super().put(delivery)
            await aws.waiting(queue)

    intake = LettingOthers()
    async with listening(aws, queue, intake, sqs={"max_in_flight": 4}):
        await eventually(lambda: gone(aws, queue))
    assert intake.bodies == [key for key in keys for _ in range(5_000)]


async def test_a_batch_that_waits_for_more_than_is_read_ahead_gets_it(aws):
    bucket = await aws.bucket({"a": "1\n" * 20_000})
    queue = await told(aws, bucket, "a")
    intake = Intake("silent")
    async with listening(aws, queue, intake):
        await eventually(lambda: len(intake.messages) == 20_000)
        for delivery in intake.deliveries:
            delivery.settle(None)
        await eventually(lambda: gone(aws, queue))


async def test_a_message_goes_only_when_all_of_its_objects_are_safe_in_whichever_order(aws):
    bucket = await aws.bucket({"k0": "1\n", "k1": "2\n"})
    queue = await told(aws, bucket, "k0", "k1")
    intake = Gated()
    async with listening(aws, queue, intake) as around:
        await eventually(lambda: len(intake.asked) == 2)
        intake.open("k1")
        await eventually(lambda: around.metrics.total("s3_objects_read") == 1)
        assert await aws.waiting(queue) == (0, 1)
        intake.open("k0")
        await eventually(lambda: gone(aws, queue))


class Kept(Intake):
    """Takes deliveries as a pipeline does, one after the other: positions become true when they are
    settled. The last one is not, and none is before the first, whichever object is opened sooner: of
    what comes after all others, no position could speak.
    """

    def __init__(self, state):
        super().__init__("silent")
        self.state = state
        self.begun = asyncio.Event()

    async def put(self, delivery):
        first = delivery.batch[0].content == b"first"
        if not first:
            await self.begun.wait()
        await super().put(delivery)
        if delivery.batch[-1].content != b"last":
            safe = asyncio.Event()
            kept = Delivery(delivery.batch, lambda _: safe.set(), delivery.checkpoints)
            self.state.attach(kept).settle(None)
            await safe.wait()
            delivery.settle(None)
        if first:
            self.begun.set()


@pytest.mark.parametrize("max_in_flight", [1, 4])
async def test_a_message_that_comes_again_costs_nothing_twice_that_was_remembered(
    aws, max_in_flight
):
    lines = [f"{number}" for number in range(899)] + ["last"]
    bucket = await aws.bucket({"a": "first\n", "b": "\n".join(lines) + "\n"})
    queue = await told(aws, bucket, "a", "b", visibility=2)
    around = surroundings(monotonic=time.monotonic)
    sqs = {"max_in_flight": max_in_flight}
    first = Kept(around.state)
    async with listening(aws, queue, first, around=around, sqs=sqs):
        await eventually(lambda: "last" in first.bodies)
    # As after a kill: the message was neither deleted nor given back. What comes again is what no
    # position spoke of that was true.
    second = Intake()
    async with listening(aws, queue, second, around=around, sqs=sqs):
        await eventually(lambda: gone(aws, queue))
    assert "first" not in second.bodies
    assert 0 < len(second.bodies) < len(lines) - 256
    assert second.bodies == lines[-len(second.bodies) :]
    ids = {message.metadata["s3_id"]: message.content for message in first.messages}
    assert all(
        ids.get(message.metadata["s3_id"], message.content) == message.content
        for message in second.messages
    )


async def test_what_failed_is_read_again_from_there_and_its_rest_is_not_passed_on_before(aws):
    lines = [str(number) for number in range(20_000)]
    bucket = await aws.bucket({"a": "\n".join(lines) + "\n"})
    queue = await told(aws, bucket, "a")
    fail = True

    class Failing(Intake):
        async def put(self, delivery):
            nonlocal fail
            self.verdict = None
            if fail and delivery.batch[0].content == b"512":
                fail, self.verdict = False, Retryable("later")
            await super().put(delivery)

    intake = Failing()
    async with listening(aws, queue, intake):
        await eventually(lambda: gone(aws, queue))
    # Those of the delivery that failed come twice, and no others.
    assert intake.bodies == lines[:768] + lines[512:]

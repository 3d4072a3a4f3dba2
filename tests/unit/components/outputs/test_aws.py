"""Objects and queue messages that are written, and what is said of those that are refused."""

from contextlib import asynccontextmanager

import pytest

from kit.aws import Aws
from kit.pipes import REGISTRY, surroundings
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.errors import BatchFailed, Paused, Rejected, Retryable
from openmeter_collector.message import Message
from openmeter_collector.testing.running import free_port


@asynccontextmanager
async def opened(aws, name, extra="", **fields):
    text = f"output:\n  {name}:\n{aws.fields(**fields)}\n{extra}"
    config = load(text, REGISTRY, env={})
    env = ComponentEnv(surroundings(), Resources(), config.output)
    async with config.output.config.open(env) as output:
        yield output


S3 = {"force_path_style_urls": "true"}


async def test_each_message_is_an_object_with_its_metadata_and_headers(aws):
    bucket = await aws.bucket()
    extra = """
    path: ${! this.id }.json
    tags: {customer: "${! meta(\\"customer\\") }"}
    metadata: {exclude_prefixes: [secret]}
    content_type: application/json
    cache_control: no-store
"""
    messages = [
        Message(b'{"id":"1"}', {"customer": "c", "secret_key": "x", "n": 5}),
        Message(b'{"id":"2"}', {"customer": "d"}),
    ]
    async with opened(aws, "aws_s3", extra, bucket=bucket, **S3) as output:
        await output.write(messages)
    assert await aws.keys(bucket) == ["1.json", "2.json"]
    one = await aws.s3.get_object(Bucket=bucket, Key="1.json")
    assert await one["Body"].read() == b'{"id":"1"}'
    assert one["Metadata"] == {"customer": "c", "n": "5"}
    assert (one["ContentType"], one["CacheControl"]) == ("application/json", "no-store")
    tags = await aws.s3.get_object_tagging(Bucket=bucket, Key="1.json")
    assert tags["TagSet"] == [{"Key": "customer", "Value": "c"}]


async def test_a_bucket_that_is_not_there_pauses(aws):
    async with opened(aws, "aws_s3", bucket="no-such-bucket", **S3) as output:
        with pytest.raises(BatchFailed) as caught:
            await output.write([Message(b"x")])
    assert isinstance(caught.value.errors[0], Paused)


async def test_a_server_that_is_not_there_is_retryable():
    nowhere = Aws(f"http://127.0.0.1:{free_port()}", None, None)
    async with opened(nowhere, "aws_s3", bucket="b-b-b", **S3) as output:
        with pytest.raises(BatchFailed) as caught:
            await output.write([Message(b"x")])
    assert isinstance(caught.value.errors[0], Retryable)


async def received(aws, queue):
    answer = await aws.sqs.receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["All"],
    )
    return answer.get("Messages", [])


async def test_messages_arrive_in_a_queue_with_their_metadata(aws):
    queue = await aws.queue()
    metadata = {f"key{number:02}": str(number) for number in range(12)} | {"bad key": "x"}
    async with opened(aws, "aws_sqs", url=queue) as output:
        await output.write([Message(b"a", metadata), Message(b"b")])
    got = {message["Body"]: message for message in await received(aws, queue)}
    assert set(got) == {"a", "b"}
    attributes = got["a"]["MessageAttributes"]
    assert sorted(attributes) == [f"key{number:02}" for number in range(10)]
    assert attributes["key03"]["StringValue"] == "3"


async def test_more_messages_than_a_request_holds_are_several_requests(aws):
    queue = await aws.queue()
    async with opened(aws, "aws_sqs", url=queue) as output:
        await output.write([Message(str(number).encode()) for number in range(25)])
        await output.write([Message(b"x" * 200_000), Message(b"y" * 200_000)])
    assert await aws.waiting(queue) == (27, 0)


async def test_fields_of_fifo_queues_are_interpolated(aws):
    queue = (await aws.sqs.create_queue(QueueName="q.fifo", Attributes={"FifoQueue": "true"}))[
        "QueueUrl"
    ]
    extra = """
    message_group_id: ${! this.g }
    message_deduplication_id: ${! this.id }
"""
    async with opened(aws, "aws_sqs", extra, url=queue) as output:
        for _ in range(2):
            await output.write([Message(b'{"g":"1","id":"a"}')])
    (message,) = await received(aws, queue)
    assert message["Attributes"]["MessageGroupId"] == "1"
    await aws.sqs.delete_queue(QueueUrl=queue)


async def test_what_can_never_be_sent_is_refused_alone(aws):
    queue = await aws.queue()
    extra = "    delay_seconds: ${! this.delay }\n"
    async with opened(aws, "aws_sqs", extra, url=queue) as output:
        with pytest.raises(BatchFailed) as caught:
            await output.write(
                [
                    Message(b'{"delay":0}'),
                    Message(b'{"delay":901}'),
                    Message(b'{"delay":0,"pad":"' + b"x" * 300_000 + b'"}'),
                    Message(b"\xff"),
                ]
            )
    assert set(caught.value.errors) == {1, 2, 3}
    assert all(isinstance(error, Rejected) for error in caught.value.errors.values())
    assert len(await received(aws, queue)) == 1


async def test_a_queue_that_is_not_there_is_not_the_fault_of_the_message(aws):
    async with opened(aws, "aws_sqs", url=f"{aws.url}/123456789012/none") as output:
        with pytest.raises(BatchFailed) as caught:
            await output.write([Message(b"x")])
    assert isinstance(caught.value.errors[0], Paused)

"""Objects that are opened at a place that an earlier life had come to."""

import pytest

from kit.pipes import REGISTRY, surroundings
from openmeter_collector.components.aws.objects import Missing, open_object
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources


def env():
    node = load("input: {aws_s3: {bucket: b}}", REGISTRY, env={}).input
    return ComponentEnv(surroundings(), Resources(), node)


async def read(opened, start):
    return b"".join([chunk async for chunk in opened.chunks(start)])


async def test_behind_the_last_byte_of_the_same_content_there_is_nothing_left_to_read(aws):
    bucket = await aws.bucket({"a": "1\n2\n"})
    whole = await open_object(env(), aws.s3, bucket, "a")
    assert await read(whole, 0) == b"1\n2\n"
    rest = await open_object(env(), aws.s3, bucket, "a", start=4, etag=whole.place.etag)
    assert await read(rest, 4) == b""
    assert (rest.identity, rest.metadata) == (whole.identity, whole.metadata)


async def test_another_content_is_not_continued_though_it_is_shorter(aws):
    bucket = await aws.bucket({"a": "1\n2\n"})
    whole = await open_object(env(), aws.s3, bucket, "a")
    whole.close()
    await aws.put(bucket, "a", "3\n")
    with pytest.raises(Missing):
        await open_object(env(), aws.s3, bucket, "a", start=4, etag=whole.place.etag)

"""kill -9 while objects are read: every record arrives, with one id, and reading goes on where it was."""

import asyncio
import json
import time

import pytest
from lives import Lives

from kit.aws import Aws, moto

LINES = 60_000
SMALL = 60
MAPPING = """
pipeline:
  processors:
    - mapping: |
        root.id = meta("s3_id")
        root.line = content().string()
"""
ROUNDS = 5


def objects():
    big = "".join(f"big {number}\n" for number in range(LINES))
    made = {f"m/{number:03}": f"small {number}\n" for number in range(SMALL)}
    return made | {"a/big": big, "z/big": big.replace("big", "last")}


def truth(made):
    return sorted(line for body in made.values() for line in body.splitlines())


def delivered(lives):
    return sorted(json.loads(copies[0])["line"] for copies in list(lives.sink.got.values()))


def play(tmp_path, config, made, repeats):
    lives = Lives(tmp_path, config + MAPPING)
    wanted = truth(made)
    for _ in range(ROUNDS):
        before = len(lives.sink.got)
        lives.one(0.5, lambda before=before: len(lives.sink.got) > before)
    early = len(lives.sink.got)
    lives.last(lambda: len(lives.sink.got) >= len(wanted), 120)
    assert delivered(lives) == wanted
    assert all(len(set(copies)) == 1 for copies in lives.sink.got.values())
    assert lives.repeated() < repeats
    return lives, early


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_bucket_is_read_to_its_end_however_often_the_collector_is_killed(tmp_path, capsys):
    made = objects()
    with moto() as url:

        async def prepare():
            async with Aws.at(url) as aws:
                return await aws.bucket(made), aws.fields(
                    bucket="{bucket}", force_path_style_urls="true", interval="1s"
                )

        bucket, fields = asyncio.run(prepare())
        config = f"input:\n  aws_s3:\n{fields.replace('{bucket}', bucket)}\n    scanner: {{lines: {{}}}}\n"
        # From the first byte in every life, it would be more than all lines of the first object.
        lives, early = play(tmp_path, config, made, LINES * 2)
    with capsys.disabled():
        print(
            f"\n  S3, {lives.killed} kills: {early} records delivered before the last life, "
            f"{len(lives.sink.got)} in all, {lives.repeated()} repeated",
            end="",
        )


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_what_a_queue_tells_of_is_read_however_often_the_collector_is_killed(tmp_path, capsys):
    made = objects()
    with moto() as url:

        async def prepare():
            async with Aws.at(url) as aws:
                bucket = await aws.bucket(made)
                queue = await aws.queue(visibility=2)
                for key in made:
                    record = {"s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
                    await aws.sqs.send_message(
                        QueueUrl=queue, MessageBody=json.dumps({"Records": [record]})
                    )
                return queue, aws.fields(sqs="{queue}", force_path_style_urls="true")

        queue, fields = asyncio.run(prepare())
        about = json.dumps({"url": queue})
        config = (
            f"input:\n  aws_s3:\n{fields.replace('{queue}', about)}\n    scanner: {{lines: {{}}}}\n"
        )
        lives, early = play(tmp_path, config, made, LINES * ROUNDS)

        async def left():
            async with Aws.at(url) as aws:
                return await aws.waiting(queue)

        end = time.monotonic() + 20
        while asyncio.run(left()) != (0, 0):
            assert time.monotonic() < end, "messages are left although all is delivered"
            time.sleep(0.2)
    with capsys.disabled():
        print(
            f"\n  S3 by SQS, {lives.killed} kills: {early} records delivered before the last life, "
            f"{len(lives.sink.got)} in all, {lives.repeated()} repeated",
            end="",
        )
